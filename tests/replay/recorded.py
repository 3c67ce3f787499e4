"""Recorded days read on their own: neither the gateway nor the lake has a part in it."""

from pathlib import Path

import duckdb


def recorded(file: Path) -> duckdb.DuckDBPyConnection:
    """A recorded day on its own, as the table ``q``: neither the gateway nor the lake has a part in it."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    connection.execute(f"create view q as from read_parquet('{file}')")
    return connection
