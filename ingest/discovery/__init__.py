"""Discovery: which contracts a session records, qualified before the open and frozen.

`discover` is the step; the others select, qualify and remember. Outside, `discover` and the pure `selection` are
imported, and nothing else.
"""
