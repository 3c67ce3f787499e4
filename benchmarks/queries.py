"""What analysts wait for: ``python benchmarks/queries.py [--days 5] [--contracts 71500]``.

Generated days of a million intraday rows, built by dbt. In one run, the five commonest questions, each as
the macro of the catalog, on

- the lake, through the catalog's views over Delta;
- the same rows in the same order as tables of a DuckDB database file;
- the same rows as hive-partitioned Parquet, one folder a trade date;

and then the data files that each reads, out of those that the tables have. Latencies are the least of warm runs on one
open connection. The long target is ``--days 60``.
"""

import argparse
import tempfile
import time
from datetime import date
from pathlib import Path

import duckdb
import generated_lake
from rollup import build

from lake.catalog import files_read, open_catalog
from lake.duck import connect
from lake.macros import MACROS
from lake.store import Lake

FIRST = date(2026, 3, 2)
TABLES = ("raw/sessions", "clean/intraday", "clean/daily_clean", "clean/daily_adjusted")
REPEATS = 15
TICKER = "U042"


def questions(day: date, first: date) -> dict[str, str]:
    """The five commonest questions."""
    conid = 1000 + 42 * generated_lake.A_CHAIN + 150
    return {
        "chain at a slot": f"FROM chain(DATE '{day}', 5, '{TICKER}')",
        "smile at the close": f"FROM smile_close(DATE '{day}', '{TICKER}', DATE '{day}' + 60)",
        "term structure at a slot": f"FROM term_structure(DATE '{day}', 5, '{TICKER}')",
        "open interest by strike": f"FROM open_interest_by_strike(DATE '{day}', '{TICKER}')",
        "contract, slot by slot": f"FROM contract_slots('{TICKER}', {conid}, since := DATE '{first}')",
    }


def with_macros(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    for macro in MACROS:
        connection.execute(macro.statement)
    return connection


def native(lake: Lake, file: Path) -> duckdb.DuckDBPyConnection:
    """The tables inside a DuckDB database."""
    with connect(root=lake.root) as source:
        source.execute(f"ATTACH '{file}' AS native")
        for name in TABLES:
            schema, _, table = name.partition("/")
            source.execute(f"CREATE SCHEMA IF NOT EXISTS native.{schema}")
            source.execute(f"CREATE TABLE native.{schema}.{table} AS FROM delta_scan('{lake.uri(name)}')")
    connection = duckdb.connect(file)
    connection.execute("SET TimeZone = 'UTC'")
    return with_macros(connection)


def hive(lake: Lake, folder: Path) -> duckdb.DuckDBPyConnection:
    """The tables as folders of Parquet files."""
    connection = connect(root=lake.root)
    for name in TABLES:
        schema, _, table = name.partition("/")
        (folder / schema).mkdir(parents=True, exist_ok=True)
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        connection.execute(
            f"COPY (FROM delta_scan('{lake.uri(name)}')) TO '{folder / name}' "
            "(FORMAT parquet, PARTITION_BY (trade_date))"
        )
        files = f"read_parquet('{folder / name}/*/*.parquet', hive_partitioning = true)"
        connection.execute(f"CREATE VIEW {schema}.{table} AS FROM {files}")
    return with_macros(connection)


def latency(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[float, int]:
    """The least milliseconds of a query, and its rows."""
    took = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        rows = connection.execute(sql).to_arrow_table().num_rows
        took.append(1000 * (time.perf_counter() - started))
    return min(took), rows


def files_of(lake: Lake, name: str) -> int:
    table = lake.table(name)
    return len(table.file_uris()) if table else 0


def made(folder: Path, contracts: int, days: int) -> tuple[Lake, list[date]]:
    """A lake of recorded and built days."""
    lake = generated_lake.create(folder / "lake")
    sessions = list(generated_lake.sessions_from(FIRST, days))
    for session in sessions:
        generated_lake.record(lake, session, contracts)
    dates = [session.trade_date for session in sessions]
    result = build(lake, folder, contracts, dates)
    print(f"{days} days of {contracts * 14:,} intraday rows built; failed tests: {result['failures']}", flush=True)
    return lake, dates


def report(lake: Lake, dates: list[date], folder: Path) -> None:
    """Measure and print."""
    stores = {
        "delta": open_catalog(lake.root),
        "native": native(lake, folder / "native.duckdb"),
        "hive": hive(lake, folder / "hive"),
    }
    day, first = dates[len(dates) // 2], dates[0]
    for question, sql in questions(day, first).items():
        measured = {kind: latency(connection, sql) for kind, connection in stores.items()}
        (rows,) = {rows for _, rows in measured.values()}
        ms = {kind: took for kind, (took, _) in measured.items()}
        print(
            f"{question} ({rows} rows): lake {ms['delta']:.1f} ms, native {ms['native']:.1f} ms, "
            f"hive {ms['hive']:.1f} ms; lake = {ms['delta'] / ms['native']:.2f} x native, "
            f"{ms['delta'] / ms['hive']:.2f} x hive; {files_read(stores['delta'], sql)} files read",
            flush=True,
        )
    print(f"data files: { {name: files_of(lake, name) for name in TABLES} }")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--contracts", type=int, default=71_500, help="a multiple of 500, at least 21,500")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chainlake-queries-") as name:
        folder = Path(name)
        lake, dates = made(folder, arguments.contracts, arguments.days)
        report(lake, dates, folder)


if __name__ == "__main__":
    main()
