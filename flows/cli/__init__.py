"""The command line, `chainlake`. It needs no Prefect server."""

from flows.cli.app import main

__all__ = ["main"]
