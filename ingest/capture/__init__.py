"""Capture of a slot: a paced sliding window of requests, and the rows that come of it."""

from ingest.capture.asks import Ask, Failure, Outcome
from ingest.capture.engine import CaptureEngine
from ingest.capture.pacing import Pace

__all__ = ["Ask", "CaptureEngine", "Failure", "Outcome", "Pace"]
