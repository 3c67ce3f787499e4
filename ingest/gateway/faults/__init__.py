"""Faults by scenario file: errors, outages, odd ticks. Deterministic by seed."""

from ingest.gateway.faults.engine import Faults, Refusal
from ingest.gateway.faults.scenario import Scenario, load_scenario, parse_fault

__all__ = ["Faults", "Refusal", "Scenario", "load_scenario", "parse_fault"]
