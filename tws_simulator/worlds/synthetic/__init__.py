"""A made-up market that is the same every time it is asked.

Outside this room only the two names below are imported.
"""

from tws_simulator.worlds.synthetic.events import read_corporate_actions
from tws_simulator.worlds.synthetic.world import SyntheticWorld

__all__ = ["SyntheticWorld", "read_corporate_actions"]
