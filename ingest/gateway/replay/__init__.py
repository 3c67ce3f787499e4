"""Recorded days played back."""

from ingest.gateway.replay.world import ReplayWorld

__all__ = ["ReplayWorld"]
