"""Faults by scenario file: errors, outages, odd ticks. Deterministic by seed."""

from tws_simulator.faults.engine import Faults, Refusal
from tws_simulator.faults.scenario import Scenario, load_scenario, parse_fault

__all__ = ["Faults", "Refusal", "Scenario", "load_scenario", "parse_fault"]
