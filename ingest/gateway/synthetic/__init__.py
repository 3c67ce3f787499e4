"""A made-up market that is the same every time it is asked."""

from ingest.gateway.synthetic.world import SyntheticWorld

__all__ = ["SyntheticWorld"]
