"""Open interest of a session, observed on the mornings after it.

`enrichment` is the step; `freshness` decides by evidence which session a value describes.
"""
