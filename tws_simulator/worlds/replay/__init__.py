"""Recorded days played back.

Outside this room only `ReplayWorld` is imported.
"""

from tws_simulator.worlds.replay.world import ReplayWorld

__all__ = ["ReplayWorld"]
