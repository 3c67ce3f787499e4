"""Capture of a slot: a paced sliding window of requests, and the rows that come of it.

Steps outside import the names below, `snapshot.capture_slot` and `snapshot.capture_slot_on` with their `fleet`, and the
pure `modes`, `rows` and `readiness`; the engine's parts (`requests`, `outage_log`, `outage_probe`) stay in this room.
"""

from ingest.broker.pacing import Pace
from ingest.capture.engine import CaptureEngine
from ingest.capture.outcomes import Failure, Outcome
from ingest.capture.requests import QuoteRequest
from ingest.capture.rules import CaptureRules

__all__ = ["CaptureEngine", "CaptureRules", "Failure", "Outcome", "Pace", "QuoteRequest"]
