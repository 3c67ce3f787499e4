"""DuckDB connections that can read Delta tables, on a local disk and in an object store."""

import os
import platform
from importlib.util import find_spec
from pathlib import Path

import duckdb

from lake import storage
from lake.errors import ExtensionMissing


def extension(name: str) -> Path | None:
    """Path of the extension binary that the wheel ships, or None on a platform without such a wheel."""
    spec = find_spec(f"duckdb_extension_{name}")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob(f"extensions/v{duckdb.__version__}/{name}.duckdb_extension"), None)


def load_delta(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``delta_scan`` available on `connection`: from the wheel, else by ``INSTALL delta``.

    Raises ExtensionMissing when there is no wheel for this platform and the extension cannot be downloaded either.
    """
    _load(connection, "delta")


def open_root(connection: duckdb.DuckDBPyConnection, root: str) -> None:
    """Let `connection` read the lake at `root`: with the credentials of the environment when it is in an object store.

    Raises ExtensionMissing, or ObjectStoreError when there are no credentials.
    """
    if not storage.is_object_store(root):
        return
    options = storage.duckdb_secret(root)
    _load(connection, "httpfs")
    # httpfs copies the environment into settings, which any query can read; a secret is shown to none.
    for setting in ("s3_access_key_id", "s3_secret_access_key", "s3_session_token"):
        connection.execute(f"SET GLOBAL {setting} = ''")
    listed = ", ".join(f"{name} ${name}" for name in options)
    connection.execute(f"CREATE OR REPLACE SECRET lake (TYPE s3, PROVIDER config, {listed})", options)


def literal(value: object) -> str:
    """`value` as a string of SQL."""
    return "'" + str(value).replace("'", "''") + "'"


def delta_scan(uri: str, version: int | None = None) -> str:
    """The Delta table at `uri` as a relation of SQL: its latest version, or `version`."""
    return f"delta_scan({literal(uri)})" if version is None else f"delta_scan({literal(uri)}, version = {version})"


def _load(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    connection.execute("SET autoinstall_known_extensions = false")
    if path := extension(name):
        connection.load_extension(str(path))
        return
    try:
        connection.execute(f"LOAD {name}")
    except duckdb.Error:
        try:
            connection.execute(f"INSTALL {name}")
            connection.execute(f"LOAD {name}")
        except duckdb.Error as error:
            raise ExtensionMissing(
                f"DuckDB {duckdb.__version__} has no {name} extension for {platform.system()} {platform.machine()} in "
                f"a wheel, and downloading it failed; run `INSTALL {name}` once in DuckDB on a host with network "
                f"access ({str(error).splitlines()[0]})"
            ) from error


def connect(
    memory_limit: str | None = None, threads: int | None = None, root: str | None = None
) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB connection in UTC with ``delta_scan`` loaded, for the lake at `root` (None: local files)."""
    connection = duckdb.connect(":memory:")
    load_delta(connection)
    if root:
        open_root(connection, root)
    # GLOBAL: a plain SET does not reach the cursors of the connection.
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    if memory_limit:
        connection.execute("SET memory_limit = ?", [memory_limit])
    connection.execute("SET threads = ?", [threads or os.cpu_count() or 1])
    return connection
