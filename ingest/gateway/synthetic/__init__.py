"""A made-up market that is the same every time it is asked."""

from ingest.gateway.synthetic.events import read_corporate_actions
from ingest.gateway.synthetic.world import SyntheticWorld

__all__ = ["SyntheticWorld", "read_corporate_actions"]
