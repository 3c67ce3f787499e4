"""Lakes to be maintained: days of open interest, small in rows and rich in files."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from lake.duck import connect
from lake.store import Lake
from lake.tables import OPEN_INTEREST

TABLE = OPEN_INTEREST.name
CREATED = datetime(2026, 1, 2, tzinfo=UTC)
OLD, RECENT, TODAY = date(2026, 10, 1), date(2026, 11, 19), date(2026, 11, 20)
HOT_FROM = date(2026, 11, 6)
NOW = datetime(2026, 11, 20, 22, 30, tzinfo=UTC)

Row = dict[str, Any]


def row(day: date, conid: int, ingest_id: str = "0190") -> Row:
    return {
        "trade_date": day,
        "oi_asof_date": day,
        "conid": conid,
        "underlying": f"U{conid % 7}",
        "open_interest": conid * 10,
        "observed_at": datetime(day.year, day.month, day.day, 12, tzinfo=UTC) + timedelta(microseconds=conid),
        "ingest_id": ingest_id,
        "method": "enrichment",
        "snapshot_error": False,
        "source": "simulated",
    }


def new_lake(folder: Path) -> Lake:
    return Lake.create(folder / "lake", "simulated", CREATED)


def bare_lake(root: Path | str) -> Lake:
    """A lake of one table, where steps over all tables would take the time of a test."""
    lake = Lake(str(root), "simulated")
    lake._ensure(OPEN_INTEREST)
    return lake


def append(lake: Lake, day: date, conids: range, app: str | None = None) -> None:
    app_id = app or f"test/{day}/{conids.start}"
    assert lake.append(TABLE, [row(day, conid, app_id) for conid in conids], app_id, 1)


def with_days(folder: Path, *days: date, files: int = 3, rows: int = 20) -> Lake:
    """A lake whose `days` have `files` commits of `rows` rows each."""
    lake = new_lake(folder)
    for day in days:
        for number in range(files):
            append(lake, day, range(number * rows, (number + 1) * rows))
    return lake


def publish(lake: Lake, day: date, versions: dict[str, int], at: datetime = NOW) -> None:
    published = {
        "trade_date": day,
        "published_at": at,
        "status": "passed",
        "versions": list(versions.items()),
        "code_version": "0",
        "actions_hash": "0",
        "run_id": f"{day}",
    }
    assert lake.append("ops/published", [published], f"publish/{day}/{at}", 1)


def content(lake: Lake, name: str = TABLE, version: int | None = None) -> Counter[str]:
    """Every row of a table, as DuckDB reads it, with how often it is there."""
    connection = connect(threads=1, root=lake.root)
    try:
        pinned = "" if version is None else f", version = {version}"
        rows = connection.execute(f"select * from delta_scan('{lake.uri(name)}'{pinned})").fetchall()
    finally:
        connection.close()
    return Counter(map(repr, rows))


def keys(lake: Lake, connection: duckdb.DuckDBPyConnection, name: str = TABLE) -> list[tuple[str, int]]:
    """Ingest id and conid of every row, as DuckDB reads them."""
    return connection.execute(f"select ingest_id, conid from delta_scan('{lake.uri(name)}')").fetchall()


def counts(lake: Lake, connection: duckdb.DuckDBPyConnection, name: str = TABLE, column: str = "conid") -> set[int]:
    """How many rows DuckDB, polars and delta-rs find in a table."""
    table = lake.table(name)
    assert table is not None
    ((by_duckdb,),) = connection.execute(f"select count({column}) from delta_scan('{lake.uri(name)}')").fetchall()
    by_polars = pl.scan_delta(lake.uri(name)).select(pl.len()).collect().item()
    return {int(by_duckdb), int(by_polars), table.count()}


def codecs(lake: Lake, name: str, day: date) -> set[str]:
    """Compression of the live files of a date, from their footers."""
    table = lake.table(name)
    assert table is not None
    files = [uri for uri in table.file_uris() if f"trade_date={day}" in uri]
    return {found for (found,) in duckdb.sql(f"select distinct compression from parquet_metadata({files})").fetchall()}
