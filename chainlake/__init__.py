"""Chainlake in Python: `open` a lake and ask it in SQL, `scan` a table, or ask what was known `at` an instant.

>>> import chainlake
>>> chainlake.open("data/demo").sql("select count(*) from clean.daily_clean")  # doctest: +SKIP

These names are what an analyst imports. `chainlake.cli` is the command line, `chainlake.ops` watches and installs,
`chainlake.dashboard` shows one lake; they are programs, and only their commands are an interface.
"""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
    import polars as pl

__all__ = ["__version__", "at", "open", "scan"]

# The command line imports this package too and must not wait for DuckDB and polars: each function imports its own.


def open(lake: str | Path | None = None) -> "duckdb.DuckDBPyConnection":  # noqa: A001 - as in `chainlake.open`
    """A DuckDB connection over a lake: a view for every table, macros for common questions, in UTC, read-only.

    `lake` is a folder or an ``s3://`` root; by default CHAINLAKE_LAKE__ROOT, else ``lake.root`` of
    ``config/chainlake.toml``, else ``data/lake``. Every query sees the latest commit. Raises lake.errors.LakeMissing
    where there is no lake, LakeError where a table of it cannot be read.
    """
    from lake.catalog.connection import open_catalog
    from lake.location import lake_root

    return open_catalog(lake_root(lake))


def scan(table: str, lake: str | Path | None = None) -> "pl.LazyFrame":
    """The rows of a table, such as ``clean/daily_clean``, as a lazy polars frame at its latest commit.

    What is filtered by trade_date and underlying before ``.collect()`` is not read. `lake` as for `open`. Raises
    lake.errors.LakeMissing, or LakeError, which lists the tables there are.
    """
    from lake.catalog.frames import scan as scan_table

    return scan_table(table, lake)


def at(instant: str | datetime, lake: str | Path | None = None) -> "duckdb.DuckDBPyConnection":
    """The connection of `open` with its tables as they were known at `instant` (New York time unless it has an offset).

    Raises lake.errors.QueryRefused for an instant in the future or before the as-of horizon of 60 days.
    """
    from lake.catalog.as_of import as_of
    from lake.location import lake_root

    return as_of(lake_root(lake), instant)


def __getattr__(name: str) -> str:
    if name == "__version__":
        # Of a checkout, with its commit: git is asked when somebody wants to know, not at each import.
        from lake.code_version import code_version

        return code_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
