"""What analysts wait for: ``python benchmarks/queries.py [--days 5] [--contracts 71500]``.

Generated days of a million intraday rows. The first five are recorded and built by dbt; those beyond are these again,
at other dates, written as dbt writes. In one run, the five commonest questions, each as the macro of the catalog, on

- the lake, through the catalog's views over Delta;
- the same rows in the same order as tables of a DuckDB database file;
- the same rows as hive-partitioned Parquet, one folder a trade date;

and the data files of the lake that each macro opens, out of those that its table has. Latencies are the least of warm
runs on open connections, the mean of five underlyings, in turns, so that other work on the host meets all three; CPU is
told beside them. The long target is ``--days 60``: 60 million intraday rows and some 15 GB of disk.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import duckdb
import generated_lake
import pyarrow as pa
from rollup import build

from ingest.discovery.discover import store_session
from lake.catalog.connection import files_read, open_catalog
from lake.catalog.macros import MACROS
from lake.dbt.delta_plugin import BATCH_ROWS, delta_schema
from lake.duck import connect
from lake.store import Lake

FIRST = date(2026, 3, 2)
TABLES = ("raw/sessions", "clean/intraday", "clean/daily_clean", "clean/daily_adjusted")
REPEATS = 15
# Days that dbt builds; it takes longer over one than a copy does.
BUILT = 5
CAST = {"date": "DATE", "timestamp": "TIMESTAMPTZ"}
# Underlyings by their place in the order of the rows: where one stands in its row group decides what it costs.
PLACES = (0.05, 0.29, 0.5, 0.72, 0.95)


def asked(number: int) -> tuple[str, int]:
    """An underlying by its number, and one of its contracts."""
    return f"U{number:03d}", 1000 + number * generated_lake.A_CHAIN + 150


def questions(day: date, first: date, number: int) -> dict[str, str]:
    """The five commonest questions, of one underlying."""
    ticker, conid = asked(number)
    return {
        "chain at a slot": f"FROM chain(DATE '{day}', 5, '{ticker}')",
        "smile at the close": f"FROM smile_close(DATE '{day}', '{ticker}', DATE '{day}' + 60)",
        "term structure at a slot": f"FROM term_structure(DATE '{day}', 5, '{ticker}')",
        "open interest by strike": f"FROM open_interest_by_strike(DATE '{day}', '{ticker}')",
        "contract, slot by slot": f"FROM contract_slots('{ticker}', {conid}, since := DATE '{first}')",
    }


def every_macro(catalog: duckdb.DuckDBPyConnection, day: date, first: date) -> dict[str, str]:
    """A call of each macro that reads a chain, for one day or, where it spans days, for all."""
    ticker, conid = asked(1)
    query = (
        f"SELECT adjusted_contract_key FROM clean.daily_adjusted WHERE trade_date = DATE '{day}' AND conid = {conid}"
    )
    ((key,),) = catalog.execute(query).fetchall()
    at_slot, at_close = f"DATE '{day}', 5, '{ticker}'", f"DATE '{day}', '{ticker}'"
    arguments = {
        "smile": f"{at_slot}, DATE '{day}' + 60",
        "smile_close": f"{at_close}, DATE '{day}' + 60",
        "contract_history": f"'{ticker}', {conid}, since := DATE '{first}'",
        "contract_slots": f"'{ticker}', {conid}, since := DATE '{first}'",
        "adjusted_history": f"'{key}', since := DATE '{first}'",
    }
    others = {macro.name: at_slot if "slot" in macro.parameters else at_close for macro in MACROS if macro.is_table}
    return {name: f"FROM {name}({given})" for name, given in (others | arguments).items()}


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


class Cost(NamedTuple):
    """The least that a query took, in milliseconds: by the clock and of CPU, and its rows."""

    wall: float
    cpu: float
    rows: float


def costs(stores: dict[str, duckdb.DuckDBPyConnection], queries: Sequence[str]) -> dict[str, Cost]:
    """What queries cost on each of `stores` on average."""
    each = [cost_of(stores, sql) for sql in queries]
    return {
        store: Cost(*(statistics.mean(values) for values in zip(*(cost[store] for cost in each), strict=True)))
        for store in stores
    }


def cost_of(stores: dict[str, duckdb.DuckDBPyConnection], sql: str) -> dict[str, Cost]:
    """What a query costs on each of `stores`, asked in turns."""
    found: dict[str, list[Cost]] = {store: [] for store in stores}
    for _ in range(REPEATS):
        for store, connection in stores.items():
            started, busy = time.perf_counter(), time.process_time()
            rows = connection.execute(sql).to_arrow_table().num_rows
            wall, cpu = time.perf_counter() - started, time.process_time() - busy
            found[store].append(Cost(1000 * wall, 1000 * cpu, rows))
    return {
        store: Cost(min(each.wall for each in took), min(each.cpu for each in took), took[0].rows)
        for store, took in found.items()
    }


def files_of(lake: Lake, name: str) -> int:
    table = lake.table(name)
    return len(table.file_uris()) if table else 0


def made(folder: Path, contracts: int, days: int) -> tuple[Lake, list[date]]:
    """A lake of `days`: the first of them recorded and built, the others copied from these."""
    lake = generated_lake.create(folder / "lake")
    sessions = list(generated_lake.sessions_from(FIRST, days))
    for session in sessions[:BUILT]:
        generated_lake.record(lake, session, contracts)
    dates = [session.trade_date for session in sessions]
    result = build(lake, folder, contracts, dates[:BUILT])
    print(f"{len(dates[:BUILT])} days of {contracts * 14:,} intraday rows built; failed tests: {result['failures']}")
    with connect(root=lake.root) as connection:
        for number, session in enumerate(sessions[BUILT:]):
            store_session(lake, session)
            for table in TABLES[1:]:
                copy(lake, connection, table, dates[number % BUILT], session.trade_date)
    print(f"{days} days in all", flush=True)
    return lake, dates


def copy(lake: Lake, connection: duckdb.DuckDBPyConnection, name: str, day: date, to: date) -> None:
    """Write the rows of `day` in a table of models once more, as those of the date `to`, sorted as dbt sorts them."""
    table = lake.table(name)
    assert table is not None
    fields = table.schema().fields
    later = {"date": f"+ {(to - day).days}", "timestamp": f"+ INTERVAL {(to - day).days} DAY"}
    columns = ", ".join(
        f'CAST("{field.name}" {later[kind]} AS {CAST[kind]}) AS "{field.name}"'
        if (kind := getattr(field.type, "type", "")) in later
        else f'"{field.name}"'
        for field in fields
    )
    order = 'underlying, expiry, strike, "right", conid' + (", slot_30m" if name.endswith("intraday") else "")
    query = f"SELECT {columns} FROM delta_scan('{lake.uri(name)}') WHERE \"trade_date\" = DATE '{day}' ORDER BY {order}"

    def rows() -> pa.RecordBatchReader:
        found = connection.execute(query).to_arrow_reader(BATCH_ROWS)
        schema = delta_schema(found.schema, [field.name for field in fields if not field.nullable])
        return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in found))

    lake.replace_dates(name, rows, [to])


def report(lake: Lake, dates: list[date], folder: Path, contracts: int) -> None:
    """Measure and print."""
    stores = {
        "lake": open_catalog(lake.root),
        "native": native(lake, folder / "native.duckdb"),
        "hive": hive(lake, folder / "hive"),
    }
    day, first, underlyings = dates[len(dates) // 2], dates[0], contracts // generated_lake.A_CHAIN
    by_place = [questions(day, first, int(place * underlyings)) for place in PLACES]
    for question, sql in by_place[0].items():
        cost = costs(stores, [each[question] for each in by_place])
        (rows,) = {each.rows for each in cost.values()}
        told = ", ".join(f"{store} {each.wall:.1f} ms (CPU {each.cpu:.1f})" for store, each in cost.items())
        lake_, native_ = cost["lake"], cost["native"]
        print(
            f"{question} ({rows:.0f} rows): {told}; lake = {lake_.wall / native_.wall:.2f} x native "
            f"(CPU {lake_.cpu / native_.cpu:.2f} x); {files_read(stores['lake'], sql)} files read",
            flush=True,
        )
    print(f"data files: { {name: files_of(lake, name) for name in TABLES} }")
    opened = {name: files_read(stores["lake"], sql) for name, sql in every_macro(stores["lake"], day, first).items()}
    print(f"files opened by macro: {opened}")
    sizes = {name: size_of(lake.uri(name)) for name in TABLES[1:]}
    whole = (folder / "native.duckdb").stat().st_size
    print(f"MB: lake { {name: round(size / 1e6) for name, size in sizes.items()} }, "
          f"together {sum(sizes.values()) / 1e6:.0f}; native {whole / 1e6:.0f}; "
          f"hive {size_of(folder / 'hive') / 1e6:.0f}")  # fmt: skip


def size_of(folder: str | Path) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--contracts", type=int, default=71_500, help="a multiple of 500, at least 21,500")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chainlake-queries-") as name:
        folder = Path(name)
        lake, dates = made(folder, arguments.contracts, arguments.days)
        report(lake, dates, folder, arguments.contracts)


if __name__ == "__main__":
    main()
