"""Chainlake, as an analyst and an operator meet it.

`chainlake.cli` is the command line, `chainlake.ops` watches and installs, `chainlake.dashboard` shows one lake.
"""
