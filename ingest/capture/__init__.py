"""Capture of a slot: a paced sliding window of subscriptions, and the rows that come of it."""

from ingest.capture.engine import Ask, CaptureEngine, Failure, Outcome
from ingest.capture.pacing import Pace

__all__ = ["Ask", "CaptureEngine", "Failure", "Outcome", "Pace"]
