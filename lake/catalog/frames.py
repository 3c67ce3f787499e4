"""The lake's tables as polars frames, and from there as pandas ones.

>>> from lake.catalog.frames import scan
>>> scan("clean/daily_clean").filter(trade_date=day, underlying="AAPL").collect()
"""

from pathlib import Path

import polars as pl

from lake import storage
from lake.errors import LakeError
from lake.location import lake_root
from lake.store import Lake


def scan(name: str, root: str | Path | None = None) -> pl.LazyFrame:
    """The rows of the table `name` (``schema/table``) at its latest commit, lazily: ``.collect()`` reads them.

    What is filtered by trade_date and underlying before collecting is not read. `root` is the lake; by default
    `lake.location.lake_root` says where it is. Raises LakeMissing, or LakeError, which lists
    the tables there are, when `name` is not one of them.
    """
    lake = Lake.open(storage.absolute(lake_root(root)))
    table = lake.table(name)
    if table is None:
        there = ", ".join(lake.table_names())
        raise LakeError(f"no table {name!r} in the lake at {lake.root}: there are {there}")
    # polars wants a number for what deltalake wants as text.
    options = (
        {"max_retries": int(storage.DELTA_PATIENCE["max_retries"])} if storage.is_object_store(lake.root) else None
    )
    return pl.scan_delta(table, storage_options=options)
