"""The catalog's macros and its file: which data files they read, and that readers never notice a new one."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
import yaml
from deltalake import write_deltalake

from ingest.calendar.sessions import session_on
from ingest.discovery.discover import store_session
from lake.catalog.connection import CATALOG_FILE, Limits, files_read, open_catalog, read, write_catalog
from lake.catalog.macros import MACROS, TABLE_MACROS
from lake.duck import load_delta
from lake.errors import QueryRefused
from lake.store import Lake
from tests.commands import run_chainlake
from tests.small_lake import FAILED, PASSED, small_lake

PROJECT = Path(__file__).resolve().parents[2]
SMALL = Limits(memory="500MB", threads=1, seconds=60)
DAYS = (date(2026, 11, 17), date(2026, 11, 18), date(2026, 11, 19), date(2026, 11, 20))
UNDERLYINGS = ("AAPL", "MSFT", "NVDA")
SLOTS = (0, 1, 2)
KEY = "MSFT|MSFT|100|2026-12-18|C|100.00"

# What the rows of the tables are, where it matters; all else is null. {day}, {underlying} and {slot} are the file's.
VALUES = {
    "trade_date": "date '{day}'",
    "sample_time": "timestamptz '{day} 14:30:00+00' + interval ({slot} * 30) minutes",
    "slot_30m": "{slot}",
    "underlying": "'{underlying}'",
    "conid": "(if('{underlying}' = 'MSFT', 1000, 2000) + n)",
    "trading_class": "'{underlying}'",
    "expiry": "date '2026-12-18' + (n // 4 * 28)::int",
    '"right"': "if(n % 2 = 0, 'C', 'P')",
    "strike": "100.0 + n // 2 % 2 * 10",
    "multiplier": "100",
    "mid": "5 + n",
    "iv": "0.25 + n / 100",
    "underlying_price": "103",
    "underlying_close": "103",
    "open_interest": "10 * (n + 1)",
    "volume": "n",
    "adjusted_contract_key": """'{underlying}|{underlying}|100|' || (date '2026-12-18' + (n // 4 * 28)::int) || '|'
        || if(n % 2 = 0, 'C', 'P') || '|' || (100 + n // 2 % 2 * 10) || '.00'""",
}


def write_mart(lake: Lake, model: str, slots: tuple[int, ...]) -> None:
    """A table with the columns of the model's contract, and a data file for each day, underlying and slot."""
    (contract,) = yaml.safe_load((PROJECT / f"dbt_project/models/marts/{model}.yml").read_text())["models"]
    for day in DAYS:
        for underlying in UNDERLYINGS:
            for slot in slots:
                place = {"day": day, "underlying": underlying, "slot": slot}
                columns = [
                    f"({VALUES.get(name, 'null').format(**place)})::{column['data_type']} as {name}"
                    for column in contract["columns"]
                    for name in ['"right"' if column["name"] == "right" else column["name"]]
                ]
                rows = duckdb.sql(f"select {', '.join(columns)} from range(8) t(n)").to_arrow_table()
                write_deltalake(lake.uri(f"clean/{model}"), rows, mode="append", partition_by=["trade_date"])


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = Lake.create(tmp_path_factory.mktemp("many files") / "lake", "simulated", datetime(2026, 11, 1, tzinfo=UTC))
    for day in DAYS:
        session = session_on(day)
        assert session is not None
        store_session(made, session)
    write_mart(made, "intraday", SLOTS)
    write_mart(made, "daily_clean", (2,))
    write_mart(made, "daily_adjusted", (2,))
    return made


@pytest.fixture(scope="module")
def catalog(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_catalog(lake.root, SMALL) as connection:
        yield connection


# Of 36 files of clean/intraday (4 days, 3 underlyings, 3 slots), 12 of daily_clean and 12 of daily_adjusted.
FILES = [
    ("chain(date '2026-11-18', 1, 'MSFT')", 1, 8),
    ("strikes(date '2026-11-18', 1, 'MSFT')", 1, 4),
    ("smile(date '2026-11-18', 1, 'MSFT', date '2026-12-18')", 1, 2),
    ("term_structure(date '2026-11-18', 1, 'MSFT')", 1, 2),
    ("chain_close(date '2026-11-18', 'MSFT')", 1, 8),
    ("strikes_close(date '2026-11-18', 'MSFT')", 1, 4),
    ("smile_close(date '2026-11-18', 'MSFT', date '2026-12-18')", 1, 2),
    ("term_structure_close(date '2026-11-18', 'MSFT')", 1, 2),
    ("open_interest_by_strike(date '2026-11-18', 'MSFT')", 1, 4),
    ("contract_history('MSFT', 1003)", 4, 4),
    ("contract_history('MSFT', 1003, since := date '2026-11-19')", 2, 2),
    ("contract_slots('MSFT', 1003)", 12, 12),
    ("contract_slots('MSFT', 1003, since := date '2026-11-18', until := date '2026-11-19')", 6, 6),
    # The key of a contract does not say under which symbols it was known: only dates prune.
    (f"adjusted_history('{KEY}')", 12, 4),
    (f"adjusted_history('{KEY}', since := date '2026-11-19')", 6, 2),
]


@pytest.mark.parametrize(("call", "files", "rows"), FILES, ids=[call for call, *_ in FILES])
def test_a_macro_reads_no_file_that_it_could_skip(
    catalog: duckdb.DuckDBPyConnection, call: str, files: int, rows: int
) -> None:
    assert files_read(catalog, f"FROM {call}") == files
    assert read(catalog, f"FROM {call}").num_rows == rows


def test_every_table_macro_is_held_to_the_files_it_reads() -> None:
    assert {call.partition("(")[0] for call, *_ in FILES} == TABLE_MACROS


def test_what_does_not_prune_shows_in_the_files_read(catalog: duckdb.DuckDBPyConnection) -> None:
    every = len(DAYS) * len(UNDERLYINGS) * len(SLOTS)
    assert files_read(catalog, "FROM clean.intraday WHERE underlying IN ('AAPL', 'MSFT')") == every
    assert files_read(catalog, "FROM clean.intraday WHERE underlying = 'AAPL'") == every / len(UNDERLYINGS)


def test_a_whole_lake_has_every_macro_and_the_page_explains_each(catalog: duckdb.DuckDBPyConnection) -> None:
    found = read(catalog, "SELECT DISTINCT function_name FROM duckdb_functions() WHERE NOT internal")
    page = (PROJECT / "docs/reference/catalog.md").read_text()
    assert set(found.column(0).to_pylist()) == {macro.name for macro in MACROS}
    assert [macro.name for macro in MACROS if f"`{macro.name}(" not in page] == []


def test_the_strike_nearest_the_money_gives_volatility_and_straddle(catalog: duckdb.DuckDBPyConnection) -> None:
    """Spot 103: of the strikes 100 and 110 the first, whose call and put are n = 0 and 1 (4 and 5 a month later)."""
    found = read(catalog, "FROM term_structure(date '2026-11-18', 1, 'MSFT')").to_pylist()
    assert [(row["strike"], row["days"], row["straddle"]) for row in found] == [(100, 30, 11), (100, 58, 19)]
    assert [row["atm_iv"] for row in found] == pytest.approx([0.255, 0.295])


def test_a_slot_is_named_by_its_new_york_time(catalog: duckdb.DuckDBPyConnection) -> None:
    names = {clock: f"slot_at(date '2026-11-20', '{clock}') AS \"{clock}\"" for clock in ("10:30", "16:00", "10:31")}
    (row,) = read(catalog, f"SELECT {', '.join(names.values())}").to_pylist()
    assert row == {"10:30": 2, "16:00": 13, "10:31": None}


def test_a_macro_is_no_way_around_the_fence(catalog: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(QueryRefused, match=r"read_text\(\) is not allowed"):
        read(catalog, "FROM chain(date '2026-11-18', 1, (SELECT content FROM read_text('x')))")


# -- the file ----------------------------------------------------------------------------------------------------------


def opened(path: str) -> duckdb.DuckDBPyConnection:
    """As an analyst opens it."""
    connection = duckdb.connect(path, read_only=True)
    load_delta(connection)
    return connection


def views(connection: duckdb.DuckDBPyConnection) -> list[Any]:
    listed = "SELECT schema_name, view_name, column_count FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
    return connection.execute(listed).fetchall()


def test_the_file_has_the_views_and_macros_of_the_catalog_and_no_rows(
    lake: Lake, catalog: duckdb.DuckDBPyConnection
) -> None:
    path = write_catalog(lake.root)
    assert path == str(Path(lake.root) / CATALOG_FILE)
    with opened(path) as connection:
        assert views(connection) == views(catalog)
        assert connection.execute("SELECT count(*) FROM duckdb_tables()").fetchone() == (0,)
        call = f"FROM adjusted_history('{KEY}')"
        assert connection.execute(call).fetchall() == catalog.execute(call).fetchall() != []


def test_another_database_can_attach_the_file(lake: Lake, tmp_path: Path) -> None:
    path = write_catalog(lake.root, tmp_path / "mine.duckdb")
    with duckdb.connect() as connection:
        load_delta(connection)
        connection.execute(f"ATTACH '{path}' AS lake (READ_ONLY)")
        assert connection.execute("SELECT count(*) FROM lake.clean.daily_clean").fetchone() == (96,)
        connection.execute("USE lake")
        assert len(connection.execute("FROM chain(date '2026-11-18', 1, 'MSFT')").fetchall()) == 8


READER = """
import sys, duckdb
from lake.duck import load_delta
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    load_delta(connection)
    print("open", flush=True)
    for line in sys.stdin:
        print(connection.execute(f"select count(*) from {line.strip()}").fetchone()[0], flush=True)
"""


def test_who_has_the_file_open_keeps_it_when_it_is_written_anew(tmp_path: Path) -> None:
    """The reader is another process; rows, a column and a table come meanwhile. A second reader sees the table too."""
    lake = small_lake(tmp_path / "lake")
    path = write_catalog(lake.root)
    with subprocess.Popen(
        [sys.executable, "-c", READER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None

        def ask(table: str) -> int:
            assert reader.stdin is not None
            assert reader.stdout is not None
            reader.stdin.write(f"{table}\n")
            reader.stdin.flush()
            return int(reader.stdout.readline())

        assert reader.stdout.readline() == "open\n"
        before = ask("clean.daily_clean")
        lake.replace_dates("clean/daily_adjusted", daily_rows(lake).to_reader, [PASSED])
        lake.replace_dates("clean/daily_clean", daily_rows(lake, "*, 1 AS added").to_reader, [FAILED, PASSED])
        write_catalog(lake.root)
        assert (before, ask("clean.daily_clean"), ask("clean.daily_clean WHERE added = 1")) == (47, 24, 24)
        reader.stdin.close()
    assert reader.returncode == 0
    with opened(path) as connection:
        assert connection.execute("SELECT count(*) FROM clean.daily_adjusted").fetchone() == (24,)
    assert [entry.name for entry in Path(lake.root).glob(f"{CATALOG_FILE}*")] == [CATALOG_FILE]


def daily_rows(lake: Lake, columns: str = "*") -> Any:
    with open_catalog(lake.root, SMALL) as catalog:
        return read(catalog, f"SELECT {columns} FROM clean.daily_clean WHERE trade_date = date '{PASSED}'")


def test_whoever_opens_it_while_it_is_written_gets_a_whole_one(lake: Lake) -> None:
    path = write_catalog(lake.root)
    done = threading.Event()

    def write() -> None:
        try:
            for _ in range(2):
                write_catalog(lake.root)
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    opens = 0
    while not done.is_set():
        with duckdb.connect(path, read_only=True) as connection:
            assert connection.execute("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchone() == (17,)
        opens += 1
    writer.join()
    assert opens > 1


# -- the commands ------------------------------------------------------------------------------------------------------

CHAIN = "from chain(date '2026-11-18', 1, 'MSFT')"


@pytest.fixture
def chainlake(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Runs a command on the lake in an empty folder; gives its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        done = run_chainlake(*arguments, "--lake", lake.root)
        return done.returncode, done.stderr or done.stdout

    return call


def test_a_command_writes_the_file_and_says_how_to_open_it(chainlake: Callable[..., tuple[int, str]]) -> None:
    assert chainlake("catalog", "--output", "mine.duckdb", "--dry-run")[0] == 0
    assert not Path("mine.duckdb").exists()
    code, printed = chainlake("catalog", "--output", "mine.duckdb")
    (load,) = [line for line in printed.splitlines() if "LOAD" in line]
    with duckdb.connect("mine.duckdb", read_only=True) as connection:
        connection.execute(load)
        assert (code, len(connection.execute(CHAIN).fetchall())) == (0, 8)


@pytest.mark.parametrize("name", ["chain.parquet", "chain.csv", "chain.json", "chain.txt"])
def test_an_answer_is_written_as_the_name_of_its_file_says(
    chainlake: Callable[..., tuple[int, str]], name: str
) -> None:
    assert chainlake("sql", f"select conid, mid {CHAIN}", "--output", name)[0] == 0
    reader = {".parquet": pl.read_parquet, ".json": pl.read_json}.get(Path(name).suffix, pl.read_csv)
    assert sorted(reader(name).rows()) == [(1000 + n, 5 + n) for n in range(8)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "parquet"), "--output FILE"),
        (("--format", "excel"), "table, csv, json, parquet"),
        (("--format", "table", "--output", "a.csv"), "for the terminal"),
        (("--timeout", "0.05"), "stopped after 0.05 s"),
        (("--memory", "much"), "not an amount of memory"),
    ],
)
def test_options_that_cannot_be_are_one_line(
    chainlake: Callable[..., tuple[int, str]], options: tuple[str, ...], said: str
) -> None:
    code, printed = chainlake("sql", "select count(*) from range(10000000000) a, range(1000) b", *options)
    assert (code, printed.count("\n")) == (2, 1)
    assert said in printed
