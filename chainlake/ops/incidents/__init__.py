"""Incidents, and the alerts that go out for them: each breach is opened, alerted and closed once.

`causes` lists everything that can be wrong.
"""
