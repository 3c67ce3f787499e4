"""What the day's SQL costs: ``python benchmarks/rollup.py [--contracts 250000] [--days 60 --small 5000]``.

One generated day: 250,000 contracts in 14 slots and the close view, all columns. In one run:

- build: seconds and peak memory of the whole ``dbt build`` of the day, tests included, in a process of its own;
- rollup / scan: the queries that choose a row for each contract and write ``clean/daily_clean``, as dbt compiled them,
  against reading the same columns of ``clean/intraday`` once;
- loop / rollup: the same choice by a pandas loop over contracts, on a sample of them and scaled to all.

Then ``--days`` small days, each built as it ends: what a build costs as the lake grows.
"""

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import generated_lake
import pandas as pd

from lake.duck import load_delta
from lake.store import Lake

FIRST = date(2026, 3, 2)
SAMPLE = 2_000
REPEATS = 5
GIGABYTE = 1024 * 1024
BUILD = """
import json, resource, sys, time
from datetime import date
from pathlib import Path
from flows.models import BuildPaths, DbtProject
root, seeds, state, *days = sys.argv[1:]
took, project, paths = [], DbtProject(), BuildPaths(root, Path(seeds), Path(state))
for day in days:
    started = time.perf_counter()
    result = project.build(paths, [date.fromisoformat(day)])
    took.append(time.perf_counter() - started)
    nodes = {node.name: round(node.elapsed_s, 2) for node in result.nodes if node.resource_type == "model"}
print(json.dumps({"seconds": took, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1048576,
                  "failures": [failure.name for failure in result.failures], "models": nodes}))
"""


def build(lake: Lake, folder: Path, contracts: int, days: list[date]) -> dict[str, object]:
    """Build days one after the other in one process, as the pipeline does."""
    seeds = generated_lake.seeds(folder / "config", contracts)
    command = [sys.executable, "-c", BUILD, lake.root, str(seeds), str(folder / "state"), *map(str, days)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    result: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def best(query: Callable[[], object]) -> float:
    """The least seconds of a few runs."""
    took = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        query()
        took.append(time.perf_counter() - started)
    return min(took)


def compiled(state: Path, model: str) -> str:
    """The SQL of a model as dbt compiled it."""
    (path,) = (state / "dbt" / "target" / "compiled").rglob(f"{model}.sql")
    return path.read_text()


def rollup(connection: duckdb.DuckDBPyConnection, state: Path) -> None:
    """Choose a row for each contract, then take its columns."""
    connection.execute(f"create or replace temp table choices as {compiled(state, 'int_rollup_choices')}")
    daily = re.sub(
        r'"?chainlake"?\."?intermediate"?\."?int_rollup_choices"?', "choices", compiled(state, "daily_clean")
    )
    connection.execute(f"create or replace temp table daily as {daily}")


def scan(connection: duckdb.DuckDBPyConnection, intraday: str, columns: list[str]) -> None:
    """Read the same columns, and keep one value of each."""
    values = ", ".join(f'max("{column}")' for column in columns)
    connection.execute(f"select {values} from {intraday}").fetchall()


def loop(connection: duckdb.DuckDBPyConnection, intraday: str) -> float:
    """Seconds of a pandas loop over a sample of contracts: the latest good row of each."""
    rows = connection.execute(f"select * from {intraday} where conid < {1000 + SAMPLE}").to_arrow_table()
    frame = rows.to_pandas()
    started = time.perf_counter()
    chosen = []
    for _, rows in frame.groupby("conid"):
        good = rows[rows["is_good"]].sort_values("slot_30m")
        at_close = good[good["slot_30m"] == good["slot_30m"].max()]
        chosen.append(at_close.iloc[-1] if len(at_close) else rows.iloc[-1])
    pd.DataFrame(chosen)
    return time.perf_counter() - started


def one_day(folder: Path, contracts: int) -> None:
    lake = generated_lake.create(folder / "lake")
    (session,) = generated_lake.sessions_from(FIRST, 1)
    started = time.perf_counter()
    generated_lake.record(lake, session, contracts)
    print(f"{contracts * len(session.slots):,} intraday rows recorded in {time.perf_counter() - started:.0f} s")
    result = build(lake, folder, contracts, [session.trade_date])
    again = build(lake, folder, contracts, [session.trade_date, session.trade_date])
    first, peak = result["seconds"][0], max(result["peak_gb"], again["peak_gb"])  # type: ignore[index, call-overload]
    print(f"dbt build: {first:.0f} s, again {again['seconds'][1]:.0f} s; peak {peak:.1f} GB", flush=True)  # type: ignore[index]
    print(f"models: {result['models']}; failures: {result['failures']}")
    state = folder / "state"
    connection = duckdb.connect(str(state / "dbt" / "chainlake.duckdb"), read_only=True)
    load_delta(connection)
    connection.execute("set TimeZone = 'UTC'")
    intraday = f"delta_scan('{lake.uri('clean/intraday')}')"
    shared = connection.execute(f"describe select * from {intraday}").fetchall()
    daily = {row[0] for row in connection.execute(f"describe {compiled(state, 'daily_clean')}").fetchall()}
    columns = [row[0] for row in shared if row[0] in daily and not row[1].endswith("[]")]
    scanned = best(lambda: scan(connection, intraday, columns))
    rolled = best(lambda: rollup(connection, state))
    looped = loop(connection, intraday) * contracts / SAMPLE
    print(f"scan of {len(columns)} columns {scanned:.2f} s; rollup {rolled:.2f} s = {rolled / scanned:.2f} x the scan")
    print(f"pandas loop {looped:.0f} s (from {SAMPLE:,} contracts) = {looped / rolled:,.0f} x the rollup", flush=True)


def many_days(folder: Path, contracts: int, days: int) -> None:
    lake = generated_lake.create(folder / "lake")
    sessions = list(generated_lake.sessions_from(FIRST, days))
    for session in sessions:
        generated_lake.record(lake, session, contracts)
    result = build(lake, folder, contracts, [session.trade_date for session in sessions])
    seconds: list[float] = result["seconds"]  # type: ignore[assignment]
    # The first build of a process reads the project.
    early, late = statistics.median(seconds[1:6]), statistics.median(seconds[-5:])
    print(f"{days} days of {contracts * 14:,} rows: builds 2 to 6 {early:.1f} s, the last five {late:.1f} s = "
          f"{late / early:.2f} x; peak {result['peak_gb']:.1f} GB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contracts", type=int, default=250_000)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--small", type=int, default=5_000, help="contracts of each of these days")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chainlake-rollup-") as folder:
        one_day(Path(folder) / "one", arguments.contracts)
    if arguments.days:
        with tempfile.TemporaryDirectory(prefix="chainlake-rollup-") as folder:
            many_days(Path(folder) / "many", arguments.small, arguments.days)
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIGABYTE:.1f} GB at most")


if __name__ == "__main__":
    main()
