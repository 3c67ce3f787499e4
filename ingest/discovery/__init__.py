"""Discovery: which contracts a session records, qualified before the open and frozen.

`discover` is the step; the others select, qualify and remember.
"""
