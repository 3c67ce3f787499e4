"""Views over lists of files show what ``delta_scan`` shows, at once, whatever happens to the table meanwhile."""

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lake.catalog.connection import Limits, files_read, open_catalog, read
from lake.duck import connect
from lake.errors import QueryRefused
from lake.maintenance.compaction import candidates, compact
from lake.maintenance.lock import maintainer
from lake.store import Lake
from tests.lake.maintained import new_lake

TABLE = "clean/daily_clean"
DAYS = [date(2026, 11, 18), date(2026, 11, 19), date(2026, 11, 20)]
LATER = date(2026, 12, 31)
SMALL = Limits(memory="300MB", threads=1)


def a_day(day: date, price: float = 1.0, **more: pa.Array) -> pa.Table:
    """Four contracts of a date, in columns of every kind that a table of models has."""
    return pa.table(
        {
            "trade_date": pa.array([day] * 4, pa.date32()),
            "underlying": ["AAPL", "AAPL", "MSFT", "MSFT"],
            "conid": pa.array([1, 2, 3, 4], pa.int64()),
            "right": ["C", "P", "C", "P"],
            "strike": pa.array([price, 2.0, 3.0, None], pa.float64()),
            "iv": pa.array([0.25, None, 0.5, 0.75], pa.float32()),
            "asof_ts": pa.array([1_800_000_000_000_000] * 4, pa.timestamp("us", tz="UTC")),
            "data_quality_flag": pa.array(
                [[], ["no_bid"], None, ["a", "b"]], pa.list_(pa.field("element", pa.string()))
            ),
            **more,
        }
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = new_lake(tmp_path)
    for day in DAYS:
        made.replace_dates(TABLE, a_day(day).to_reader, [day])
    return made


@pytest.fixture
def catalog(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_catalog(lake.root, SMALL) as connection:
        assert is_listed(connection)
        yield connection


def is_listed(connection: duckdb.DuckDBPyConnection, view: str = "daily_clean") -> bool:
    ((sql,),) = connection.execute("SELECT sql FROM duckdb_views() WHERE view_name = $1", [view]).fetchall()
    return "read_parquet" in sql


def content(connection: duckdb.DuckDBPyConnection, source: str = "clean.daily_clean") -> list[Any]:
    return connection.execute(f"FROM {source} ORDER BY trade_date, conid").fetchall()


def by_delta(lake: Lake) -> list[Any]:
    with connect() as connection:
        return content(connection, f"delta_scan('{lake.uri(TABLE)}')")


def test_columns_types_and_rows_are_those_of_delta_scan(lake: Lake, catalog: duckdb.DuckDBPyConnection) -> None:
    with connect() as connection:
        expected = connection.execute(f"DESCRIBE FROM delta_scan('{lake.uri(TABLE)}')").fetchall()
    described = catalog.execute("DESCRIBE FROM clean.daily_clean").fetchall()
    assert [row[:2] for row in described] == [row[:2] for row in expected]
    assert content(catalog) == by_delta(lake)


def test_every_query_sees_the_commits_before_it_also_in_a_cursor(
    lake: Lake, catalog: duckdb.DuckDBPyConnection
) -> None:
    cursor, query = catalog.cursor(), "SELECT max(strike), count(*) FROM clean.daily_clean"
    for price in range(10, 30):
        lake.replace_dates(TABLE, a_day(DAYS[1], float(price)).to_reader, [DAYS[1]])
        for connection in (catalog, cursor):
            assert connection.execute(query).fetchone() == (float(price), 12)
    lake.replace_dates(TABLE, a_day(LATER).to_reader, [LATER])
    assert catalog.execute(query).fetchone() == (29.0, 16)
    lake.replace_dates(TABLE, a_day(LATER).slice(0, 0).to_reader, [LATER])
    assert catalog.execute(query).fetchone() == (29.0, 12)


def test_a_column_that_is_added_is_there_at_once_and_null_in_older_files(
    lake: Lake, catalog: duckdb.DuckDBPyConnection
) -> None:
    content_before = content(catalog)
    lake.replace_dates(TABLE, a_day(DAYS[0], added=pa.array([7] * 4, pa.int64())).to_reader, [DAYS[0]])
    query = "SELECT trade_date, sum(added) FROM clean.daily_clean GROUP BY 1 ORDER BY 1"
    expected = [(DAYS[0], 28), (DAYS[1], None), (DAYS[2], None)]
    assert catalog.execute(query).fetchall() == expected
    with open_catalog(lake.root, SMALL) as anew:
        assert is_listed(anew)
        assert anew.execute(query).fetchall() == expected
        assert [row[:-1] for row in content(anew)] == content_before


@pytest.mark.parametrize("until", [DAYS[0], LATER], ids=["one file is left", "all files are"])
def test_the_least_and_the_greatest_date_are_told(lake: Lake, catalog: duckdb.DuckDBPyConnection, until: date) -> None:
    query = f"SELECT min(trade_date), max(trade_date), count(*) FROM clean.daily_clean WHERE trade_date <= '{until}'"
    last = min(until, DAYS[-1])
    assert catalog.execute(query).fetchone() == (DAYS[0], last, 4 * (DAYS.index(last) + 1))
    lake.replace_dates(TABLE, a_day(DAYS[1]).slice(0, 0).to_reader, DAYS[1:])
    assert catalog.cursor().execute("SELECT max(trade_date) FROM clean.daily_clean").fetchone() == (DAYS[0],)


def test_the_greatest_value_of_a_column_that_the_file_does_not_hold_is_null(
    lake: Lake, catalog: duckdb.DuckDBPyConnection
) -> None:
    lake.replace_dates(TABLE, a_day(DAYS[2], added=pa.array([7] * 4, pa.int64())).to_reader, [DAYS[2]])
    query = f"SELECT max(added) FROM clean.daily_clean WHERE trade_date < '{DAYS[1]}'"
    assert catalog.execute(query).fetchone() == (None,)


def test_a_fault_of_duckdb_itself_is_one_line(lake: Lake) -> None:
    """When a newer DuckDB answers this, `lake.catalog.live` need not switch its optimizer off."""
    with duckdb.connect() as connection:
        (file, *_) = (Path(lake.uri(TABLE)) / f"trade_date={DAYS[0]}").iterdir()
        connection.execute(f"CREATE VIEW days AS FROM read_parquet(['{file}'], hive_partitioning = true)")
        with pytest.raises(QueryRefused, match=r"^INTERNAL Error: Attempted to access .* \(a fault of DuckDB .*\)$"):
            read(connection, "SELECT max(trade_date) FROM days")


def test_only_the_files_of_the_dates_that_are_asked_for_are_opened(catalog: duckdb.DuckDBPyConnection) -> None:
    assert files_read(catalog, f"FROM clean.daily_clean WHERE trade_date = date '{DAYS[1]}'") == 1
    assert files_read(catalog, f"FROM clean.daily_clean WHERE trade_date >= date '{DAYS[1]}'") == 2
    assert files_read(catalog, "FROM clean.daily_clean") == 3


def test_a_table_that_was_restored_from_a_backup_is_read_as_it_is(
    lake: Lake, catalog: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    shutil.copytree(lake.uri(TABLE), tmp_path / "backup")
    lake.replace_dates(TABLE, a_day(DAYS[1], 50.0).to_reader, [DAYS[1]])
    assert catalog.execute("SELECT max(strike) FROM clean.daily_clean").fetchone() == (50.0,)
    shutil.rmtree(lake.uri(TABLE))
    shutil.copytree(tmp_path / "backup", lake.uri(TABLE))
    assert catalog.execute("SELECT max(strike) FROM clean.daily_clean").fetchone() == (3.0,)
    # And the same number of commits again, of other content.
    lake.replace_dates(TABLE, a_day(DAYS[1], 60.0).to_reader, [DAYS[1]])
    assert catalog.execute("SELECT max(strike) FROM clean.daily_clean").fetchone() == (60.0,)


def test_a_table_that_lost_all_of_its_rows_says_so_in_one_line(lake: Lake, catalog: duckdb.DuckDBPyConnection) -> None:
    lake.replace_dates(TABLE, a_day(DAYS[0]).slice(0, 0).to_reader, DAYS)
    with pytest.raises(QueryRefused, match=r"^clean/daily_clean has lost all of its rows .* open it again$"):
        read(catalog, "FROM clean.daily_clean")
    with open_catalog(lake.root, SMALL) as anew:
        assert content(anew) == []


def test_a_table_of_many_small_files_is_left_to_delta_scan(lake: Lake) -> None:
    for _ in range(4):
        write_deltalake(lake.uri(TABLE), a_day(DAYS[0]), mode="append")
    with open_catalog(lake.root, SMALL) as catalog:
        assert not is_listed(catalog)
        assert len(content(catalog)) == 12 + 16


def test_days_of_models_are_left_as_they_were_written(lake: Lake, catalog: duckdb.DuckDBPyConnection) -> None:
    assert [each.table for each in candidates(lake, LATER, LATER) if each.table == TABLE] == []
    with maintainer(lake, "compact") as hold:
        list(compact(lake, candidates(lake, LATER, LATER), hold))
    assert content(catalog) == by_delta(lake)


def test_other_files_cannot_be_asked_for(catalog: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.Error, match="raw/contracts is none of the tables that are read by their files"):
        catalog.execute("SELECT live_files('raw/contracts')")
    with pytest.raises(QueryRefused, match=r"live_files\(\) is not allowed here"):
        read(catalog, "SELECT live_files('clean/daily_clean')")
    with pytest.raises(QueryRefused, match=r"read_parquet\(\) is not allowed here"):
        read(catalog, "FROM read_parquet(live_files('clean/daily_clean'))")
