"""Open interest of a session, observed on the mornings after it.

`enrichment` is the step, with the instants of its attempts, and may be imported; `freshness` decides by evidence which
session a value describes, and stays in this room.
"""
