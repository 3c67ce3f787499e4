"""DuckDB connections that can read Delta tables."""

import os
import platform
from importlib.util import find_spec
from pathlib import Path

import duckdb

from lake.errors import ExtensionMissing


def delta_extension() -> Path | None:
    """Path of the ``delta`` extension binary that the wheel ships, or None on a platform without such a wheel."""
    spec = find_spec("duckdb_extension_delta")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob(f"extensions/v{duckdb.__version__}/delta.duckdb_extension"), None)


def load_delta(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``delta_scan`` available on `connection`: from the wheel, else by ``INSTALL delta``.

    Raises ExtensionMissing when there is no wheel for this platform and the extension cannot be downloaded either.
    """
    connection.execute("SET autoinstall_known_extensions = false")
    if path := delta_extension():
        connection.load_extension(str(path))
        return
    try:
        connection.execute("LOAD delta")
    except duckdb.Error:
        try:
            connection.execute("INSTALL delta")
            connection.execute("LOAD delta")
        except duckdb.Error as error:
            raise ExtensionMissing(
                f"DuckDB {duckdb.__version__} has no delta extension for {platform.system()} {platform.machine()} in a "
                "wheel, and downloading it failed; run `INSTALL delta` once in DuckDB on a host with network access "
                f"({str(error).splitlines()[0]})"
            ) from error


def connect(memory_limit: str | None = None, threads: int | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB connection in UTC with ``delta_scan`` loaded."""
    connection = duckdb.connect(":memory:")
    load_delta(connection)
    # GLOBAL: a plain SET does not reach the cursors of the connection.
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    if memory_limit:
        connection.execute("SET memory_limit = ?", [memory_limit])
    connection.execute("SET threads = ?", [threads or os.cpu_count() or 1])
    return connection
