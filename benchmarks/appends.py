"""Whether appends stay as quick as the first: ``python benchmarks/appends.py [--commits 5000]``.

Batches of a few rows of ``raw/option_quotes`` through `Lake.append`, one commit each and exactly once, as a capture
writes them: 140 a trade date (14 slots of ten batches). Between the dates runs what the product runs: a compaction of
what is due, with its proof and a checkpoint, every fifth date. Nothing is old enough for the clean-up of the log, so in
the end it holds every commit, as at the end of seven weeks. What a checkpoint forgets after a week (removed files) and
after 30 days (ids of appends) it forgets here after as many dates: each lasts as long as the first one took.

Printed are, for every thousand commits,

- the median and 99th percentile of an append, and the CPU that one takes on average;
- opening the table, and ``count(*)`` by DuckDB, at the end of the thousand (before a compaction comes);

and the ratio of the last 500 appends to the first 500, and of the last whole week to the first, by their medians and by
their CPU, which other work on the host changes less. Within a week appends become slower, as the files of its batches
lie unmerged until the compaction.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import generated_lake

from ingest.calendar.sessions import Session
from lake.duck import connect
from lake.maintenance.compaction import candidates, compact
from lake.maintenance.lock import maintainer
from lake.maintenance.vacuum import tidy_log
from lake.store import Lake
from lake.tables import OPTION_QUOTES

FIRST = date(2026, 3, 2)
ROWS, BATCHES, HOT_DAYS, LOG_DAYS = 20, 10, 14, 68
# Dates between two compactions: a week.
WEEK = 5
THOUSAND, ENDS = 1000, 500
A_WEEK = WEEK * 14 * BATCHES


def batch(session: Session, slot: int, first: int) -> list[dict[str, Any]]:
    """`ROWS` quotes of a slot, of contracts from `first` on."""
    at = session.slots[slot].sample_time
    return [
        {
            "trade_date": session.trade_date,
            "view": "intraday",
            "slot_30m": slot,
            "sample_time": at,
            "underlying": f"U{conid % 7}",
            "conid": conid,
            "symbol": f"U{conid % 7}    261218C{conid:08d}",
            "trading_class": f"U{conid % 7}",
            "expiry": date(2026, 12, 18),
            "last_trade_date": date(2026, 12, 18),
            "right": "C",
            "strike": float(conid),
            "multiplier": 100.0,
            "exchange": "SMART",
            "bid": conid / 100,
            "ask": conid / 90,
            "bid_seen": True,
            "iv": 0.2,
            "delta": 0.5,
            "requested_at": at,
            "asof_ts": at + timedelta(microseconds=conid),
            "ingest_id": f"{at:%Y%m%d%H%M}-{first}",
            "ingest_run_type": "scheduled",
            "batch": str(first),
            "attempt": 1,
            "data_quality_flag": [],
            "snapshot_error": False,
            "source": "simulated",
        }
        for conid in range(first, first + ROWS)
    ]


def milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def age(lake: Lake, date_s: float) -> None:
    """Let checkpoints forget as they would if a trade date lasted `date_s` seconds."""
    table = lake.table(OPTION_QUOTES.name)
    assert table is not None
    for key, sessions in (("delta.deletedFileRetentionDuration", 5), ("delta.setTransactionRetentionDuration", 21)):
        table.alter.set_table_properties({key: f"interval {max(1, round(sessions * date_s))} seconds"})


def maintain(lake: Lake, today: date) -> int:
    """What `chainlake compact` does; the number of partitions that it worked on."""
    with maintainer(lake, "benchmark") as hold:
        done = list(compact(lake, candidates(lake, today, today - timedelta(days=HOT_DAYS)), hold))
        for name in {each.candidates.table for each in done}:
            tidy_log(lake, name, LOG_DAYS, checkpoint=True)
    return len(done)


def state(lake: Lake, table: str) -> str:
    """Milliseconds to open the table and to count its rows, the least of five; its data and log files."""
    opened = min(milliseconds(lambda: lake.table(table)) for _ in range(5))
    with connect(root=lake.root) as connection:
        query = f"select count(*) from delta_scan('{lake.uri(table)}')"
        counted = min(milliseconds(lambda: connection.execute(query).fetchall()) for _ in range(5))
    handle = lake.table(table)
    assert handle is not None
    log = [path.stat().st_size for path in (Path(lake.uri(table)) / "_delta_log").iterdir()]
    return (
        f"open {opened:.1f} ms, count(*) {counted:.1f} ms, {len(handle.file_uris())} data files, "
        f"log {len(log)} files of {sum(log) / 1e6:.0f} MB"
    )


def run(lake: Lake, commits: int) -> tuple[list[float], list[float]]:
    """Append `commits` batches, with maintenance in between, and print a line for every thousand.

    Returns the milliseconds of each append, by the clock and of CPU.
    """
    took: list[float] = []
    cpu: list[float] = []
    maintained, partitions, began_all = 0.0, 0, time.perf_counter()
    for number, session in enumerate(generated_lake.sessions_from(FIRST, commits), 1):
        for slot in range(len(session.slots)):
            for part in range(BATCHES):
                rows = batch(session, slot, part * ROWS)
                app_id = f"snapshot/{session.trade_date}/{slot}/{part}"
                began = time.process_time()
                took.append(milliseconds(lambda: lake.append(OPTION_QUOTES.name, rows, app_id, 1)))  # noqa: B023
                cpu.append(1000 * (time.process_time() - began))
                if len(took) % THOUSAND == 0 or len(took) == commits:
                    last = sorted(took[-THOUSAND:])
                    print(
                        f"{len(took):,} commits: append {statistics.median(last):.1f} ms, "
                        f"p99 {last[int(0.99 * len(last))]:.1f} ms, "
                        f"CPU {statistics.mean(cpu[-THOUSAND:]):.1f} ms; {state(lake, OPTION_QUOTES.name)}",
                        flush=True,
                    )
                if len(took) == commits:
                    print(f"compaction in between: {partitions} partitions in {maintained / 1000:.0f} s")
                    return took, cpu
        if number == 1:
            age(lake, time.perf_counter() - began_all)
        if number % WEEK == 0:
            started = time.perf_counter()
            partitions += maintain(lake, session.trade_date + timedelta(days=1))
            maintained += 1000 * (time.perf_counter() - started)
    return took, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--commits", type=int, default=5000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chainlake-appends-") as folder:
        lake = Lake.create(Path(folder) / "lake", "simulated", datetime(2026, 1, 1, tzinfo=UTC))
        took, cpu = run(lake, asked.commits)
    for what, each in (("by the clock", took), ("of CPU", cpu)):
        first, last = statistics.median(each[:ENDS]), statistics.median(each[-ENDS:])
        print(f"{what}: first {ENDS} appends {first:.1f} ms, last {ENDS} {last:.1f} ms: {last / first:.2f} x")
        weeks = [statistics.median(each[i : i + A_WEEK]) for i in range(0, len(each) - A_WEEK + 1, A_WEEK)]
        if len(weeks) > 1:
            listed = ", ".join(f"{week:.1f}" for week in weeks)
            print(f"{what}, by week: {listed} ms; the last is {weeks[-1] / weeks[0]:.2f} x the first")


if __name__ == "__main__":
    main()
