"""The state of a lake and its day for Prometheus: read by SQL and the Delta log at each collection.

`families` names every metric once, with unit and labels; `capture`, `publications`, `storage` and `upkeep` read their
values; `exposition` writes them as text, into a file or over loopback HTTP.
"""
