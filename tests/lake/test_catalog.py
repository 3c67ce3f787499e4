"""The analysts' catalog: what it shows of a lake, and what a user's SQL cannot do through it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from lake.catalog.connection import Limits, open_catalog, query, read
from lake.errors import LakeError, LakeMissing, QueryRefused
from lake.store import Lake
from lake.tables import OPTION_QUOTES, TABLES
from tests.small_lake import CONTRACTS_A_DAY, DAYS, FAILED, PASSED, UNRESOLVED_CONID, slots_of, small_lake

SMALL = Limits(memory="500MB", threads=1, seconds=60)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return small_lake(tmp_path_factory.mktemp("lake with a space and 'quote'"))


@pytest.fixture(scope="module")
def catalog(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_catalog(lake.root, SMALL) as connection:
        yield connection


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return small_lake(tmp_path_factory.mktemp("other"))


def rows(catalog: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[object, ...]]:
    table = read(catalog, sql)
    return list(zip(*(table.column(k).to_pylist() for k in range(table.num_columns)), strict=True))


# -- what it shows -----------------------------------------------------------------------------------------------------


def test_every_table_of_the_lake_has_a_view(lake: Lake, catalog: duckdb.DuckDBPyConnection) -> None:
    views = {
        f"{schema}/{name}" for _, schema, name, *_ in catalog.execute("SHOW ALL TABLES").fetchall() if schema != "main"
    }
    published = {name for name in lake.table_names() if name.startswith(("clean/", "quality/"))}
    assert views == {*lake.table_names(), "ops/latest_published", *(f"{name}_passed" for name in published)}
    assert len(published) == 5


def test_a_view_holds_the_rows_that_were_written(catalog: duckdb.DuckDBPyConnection) -> None:
    slots = sum(len(slots_of(day)) for day in DAYS)
    assert rows(catalog, "SELECT count(*), count(DISTINCT conid) FROM raw.option_quotes") == [
        (slots * CONTRACTS_A_DAY, CONTRACTS_A_DAY)
    ]


def test_a_view_has_the_columns_of_its_table_in_order(catalog: duckdb.DuckDBPyConnection) -> None:
    described = [name for name, *_ in rows(catalog, "DESCRIBE raw.option_quotes")]
    assert described == OPTION_QUOTES.schema.names


def test_instants_are_utc_in_cursors_too(catalog: duckdb.DuckDBPyConnection) -> None:
    first = f"SELECT min(sample_time)::varchar FROM raw.sessions WHERE trade_date = '{PASSED}'"
    assert rows(catalog, first) == [("2026-11-19 14:30:00+00",)]
    # The setting belongs to a session: set for one only, a cursor would have the host's zone.
    assert catalog.cursor().execute("SELECT current_setting('TimeZone')").fetchone() == ("UTC",)


def test_passed_views_leave_out_a_date_whose_latest_publication_failed(catalog: duckdb.DuckDBPyConnection) -> None:
    both = "SELECT DISTINCT trade_date FROM clean.daily_clean ORDER BY ALL"
    assert rows(catalog, both) == [(PASSED,), (FAILED,)]
    for name in ("clean.daily_clean", "clean.intraday", "quality.daily_metrics"):
        assert rows(catalog, f"SELECT DISTINCT trade_date FROM {name}_passed") == [(PASSED,)]


def test_the_latest_publication_of_a_date_stands(catalog: duckdb.DuckDBPyConnection) -> None:
    assert rows(catalog, "SELECT trade_date, status FROM ops.latest_published ORDER BY trade_date") == [
        (PASSED, "passed"),
        (FAILED, "failed"),
    ]
    assert rows(catalog, "SELECT count(*) FROM ops.published") == [(3,)]


def test_a_reserved_column_can_be_read_when_quoted(catalog: duckdb.DuckDBPyConnection) -> None:
    per_right = f"SELECT \"right\", count(*) FROM clean.daily_clean WHERE trade_date = '{FAILED}' GROUP BY 1 ORDER BY 1"
    assert rows(catalog, per_right) == [("C", CONTRACTS_A_DAY // 2), ("P", CONTRACTS_A_DAY // 2 - 1)]
    assert rows(catalog, "SELECT conid, reason FROM clean.daily_unresolved") == [(UNRESOLVED_CONID, "only_errors")]


def test_a_view_sees_what_is_committed_after_it_was_opened(tmp_path: Path) -> None:
    lake = small_lake(tmp_path / "lake")
    with open_catalog(lake.root, SMALL) as connection:
        before = connection.execute("SELECT count(*) FROM raw.open_interest").fetchone()
        lake.append(
            "raw/open_interest",
            [
                {
                    "trade_date": PASSED,
                    "oi_asof_date": PASSED,
                    "conid": 1000,
                    "underlying": "AAPL",
                    "open_interest": 0,
                    "observed_at": slots_of(FAILED)[0].sample_time,
                    "ingest_id": "019a",
                    "method": "enrichment",
                    "snapshot_error": False,
                    "source": "simulated",
                }
            ],
            "enrichment",
            1,
        )
        after = connection.execute("SELECT count(*), max(open_interest) FROM raw.open_interest").fetchone()
    assert (before, after) == ((0,), (1, 0))


def test_a_table_that_is_not_there_yet_reads_as_empty_with_its_types(
    tmp_path: Path, catalog: duckdb.DuckDBPyConnection
) -> None:
    lake = small_lake(tmp_path / "lake")
    for table in TABLES:
        shutil.rmtree(lake.uri(table.name))
    with open_catalog(lake.root, SMALL) as bare:
        for table in TABLES:
            view = table.name.replace("/", ".")
            assert rows(bare, f"SELECT count(*) FROM {view}") == [(0,)]
            assert rows(bare, f"DESCRIBE {view}") == rows(catalog, f"DESCRIBE {view}")
        assert rows(bare, "SELECT count(*) FROM clean.daily_clean_passed") == [(0,)]


def test_no_lake_is_told_apart_from_an_unreadable_one(tmp_path: Path) -> None:
    with pytest.raises(LakeMissing, match="chainlake demo"):
        open_catalog(tmp_path / "nowhere")
    lake = small_lake(tmp_path / "lake")
    for entry in (Path(lake.uri("ops/runs")) / "_delta_log").iterdir():
        entry.write_text("not json")
    with pytest.raises(LakeError, match="ops/runs is not a readable Delta table"):
        open_catalog(lake.root)


# -- what it refuses ---------------------------------------------------------------------------------------------------

READS = [
    "SELECT 1",
    "  -- a comment\n SELECT count(*) FROM raw.sessions;",
    "FROM raw.sessions LIMIT 1",
    "TABLE raw.sessions",
    "VALUES (1), (2)",
    "WITH s AS (FROM raw.sessions) SELECT max(slot_30m) FROM s",
    "DESCRIBE clean.daily_clean",
    "SHOW ALL TABLES",
    "SUMMARIZE raw.sessions",
    "EXPLAIN SELECT * FROM raw.sessions",
    "EXPLAIN ANALYZE SELECT * FROM raw.sessions",
    "EXPLAIN (FORMAT json) SELECT * FROM raw.sessions",
    "PIVOT raw.sessions ON is_close IN (true, false) USING count(*)",
    "SELECT unnest(data_quality_flag) FROM clean.intraday",
    "FROM range(3)",
    "FROM duckdb_columns() WHERE schema_name = 'raw'",
    "SELECT sample_time AT TIME ZONE 'America/New_York' FROM raw.sessions",
]


@pytest.mark.parametrize("sql", READS)
def test_a_read_runs(catalog: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert read(catalog, sql).num_columns > 0


# {other} is another lake, {secret} a file outside this one, {inside} a path in it.
REFUSED = [
    ("INSERT INTO raw.sessions SELECT * FROM raw.sessions", "not a read"),
    ("CREATE TABLE t AS SELECT 1", "not a read"),
    ("DROP VIEW raw.sessions", "not a read"),
    ("CREATE OR REPLACE VIEW raw.sessions AS SELECT 1", "not a read"),
    ("COPY (SELECT 1) TO '{inside}'", "not a read"),
    ("EXPORT DATABASE '{inside}'", "not a read"),
    ("EXPLAIN ANALYZE COPY (SELECT 1) TO '{inside}'", "not a read"),
    ("explain (analyze) COPY (SELECT 1) TO '{inside}'", "not a read|syntax error"),
    ("/* x */ EXPLAIN ANALYZE COPY (SELECT 1) TO '{inside}'", "not a read"),
    ("PREPARE p AS COPY (SELECT 1) TO '{inside}'", "not a read|syntax error"),
    ("ATTACH '{inside}' AS other", "not a read"),
    ("INSTALL httpfs", "not a read"),
    ("LOAD httpfs", "not a read"),
    ("SET enable_external_access = true", "not a read"),
    ("PRAGMA enable_profiling", "not a read"),
    ("CALL pragma_version()", "not a read"),
    ("SELECT 1; DROP VIEW raw.sessions", "one statement at a time"),
    ("", "one statement at a time, not 0"),
    ("SELECT * FROM read_csv('{secret}')", r"read_csv\(\) is not allowed"),
    ("SELECT * FROM raw.sessions WHERE slot_30m IN (SELECT 1 FROM read_text('{secret}'))", r"read_text\(\)"),
    ("WITH s AS (FROM read_blob('{secret}')) FROM s", r"read_blob\(\)"),
    ("EXPLAIN SELECT * FROM read_csv('{secret}')", r"read_csv\(\)"),
    ("FROM glob('{other}/*')", r"glob\(\)"),
    ("FROM \"delta_scan\"('{other}/raw/sessions')", r"delta_scan\(\)"),
    ("FROM delta_scan('http://127.0.0.1:1/raw/sessions')", r"delta_scan\(\)"),
    ("FROM query('FROM read_text(''{secret}'')')", r"query\(\)"),
    ("DESCRIBE FROM read_csv('{secret}')", r"read_csv\(\)"),
    ("FROM '{secret}'", "reading .* is not allowed"),
    ("SELECT nothing FROM raw.sessions", "nothing"),
    ("SELECT * FROM clean.daily", "SHOW ALL TABLES"),
    ("SELEC 1", "syntax error"),
]


@pytest.mark.parametrize(("sql", "message"), REFUSED, ids=[sql for sql, _ in REFUSED])
def test_anything_else_is_refused_in_one_line_and_changes_nothing(
    catalog: duckdb.DuckDBPyConnection, lake: Lake, other: Lake, tmp_path: Path, sql: str, message: str
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    inside = Path(lake.root) / "written"
    before = sorted(Path(lake.root).rglob("*"))
    places = {"secret": secret, "other": other.root, "inside": inside}
    text = sql.format(**{name: str(place).replace("'", "''") for name, place in places.items()})
    with pytest.raises(QueryRefused, match=message) as refusal:
        read(catalog, text)
    assert "\n" not in str(refusal.value)
    assert sorted(Path(lake.root).rglob("*")) == before


def test_the_connection_itself_reads_no_file_outside_the_lake(
    catalog: duckdb.DuckDBPyConnection, other: Lake, tmp_path: Path
) -> None:
    """The statement check is one fence; DuckDB's own is the other."""
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    for sql in (
        f"FROM read_csv('{secret}')",
        f"FROM delta_scan('{other.root}/raw/sessions')",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"ATTACH '{tmp_path}/out.db' AS other",
    ):
        with pytest.raises(duckdb.PermissionException):
            catalog.execute(sql).fetchall()
    for sql in ("SET enable_external_access = true", "RESET lock_configuration", "SET memory_limit = '64GB'"):
        with pytest.raises(duckdb.InvalidInputException):
            catalog.execute(sql)
    with pytest.raises(duckdb.Error):
        catalog.execute("INSTALL httpfs")
    assert {path.name for path in tmp_path.iterdir()} == {"secret.csv"}


def test_variables_of_the_calling_program_are_out_of_reach(catalog: duckdb.DuckDBPyConnection) -> None:
    secret_frame = catalog.execute("SELECT 42 AS answer").to_arrow_table()
    assert secret_frame.num_rows == 1
    with pytest.raises(duckdb.CatalogException, match="secret_frame"):
        catalog.cursor().execute("FROM secret_frame")


def test_a_query_that_takes_too_long_is_stopped(lake: Lake) -> None:
    endless = "SELECT count(*) FROM range(10000000000) a, range(1000) b"
    with pytest.raises(QueryRefused, match=r"stopped after 0\.2 s"):
        query(lake.root, endless, limits=Limits(memory="500MB", threads=1, seconds=0.2))


def test_a_query_that_needs_too_much_memory_is_stopped(lake: Lake) -> None:
    greedy = "SELECT list(i) FROM range(100000000) t(i)"
    with pytest.raises(QueryRefused, match="needs too much memory"):
        query(lake.root, greedy, limits=Limits(memory="100MB", threads=1, seconds=60))
