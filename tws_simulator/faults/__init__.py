"""Faults by scenario file: errors, outages, odd ticks. Deterministic by seed.

The names below are for the server and its connections; `scenario` has the model of the file for who writes one.
"""

from tws_simulator.faults.engine import Faults, Refusal
from tws_simulator.faults.scenario import Scenario, load_scenario, parse_fault

__all__ = ["Faults", "Refusal", "Scenario", "load_scenario", "parse_fault"]
