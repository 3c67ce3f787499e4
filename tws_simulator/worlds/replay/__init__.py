"""Recorded days played back."""

from tws_simulator.worlds.replay.world import ReplayWorld

__all__ = ["ReplayWorld"]
