"""Six writers, two maintainers, a rewriter as dbt is one, and four readers at once: no row is lost or doubled."""

import multiprocessing
from collections import Counter
from multiprocessing.synchronize import Event
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from lake import storage
from lake.compaction import compact, due
from lake.duck import connect
from lake.lock import MaintainerBusy, maintainer
from lake.store import Lake
from lake.vacuum import tidy_log
from tests.lake.conftest import ObjectStore
from tests.lake.maintained import HOT_FROM, OLD, RECENT, TABLE, TODAY, append, bare_lake

pytestmark = pytest.mark.long

WRITERS, BATCHES, A_BATCH = 6, 12, 5
DAILY, GENERATIONS, A_DAY = "clean/daily_clean", 10, 50
processes = multiprocessing.get_context("spawn")


def write(root: str, number: int) -> None:
    lake = Lake(root, "simulated")
    for batch in range(BATCHES):
        first = (number * BATCHES + batch) * A_BATCH
        append(lake, RECENT if batch % 2 else OLD, range(first, first + A_BATCH), f"writer-{number}/{batch}")


def rewrite(root: str) -> None:
    """What dbt's materialization does: replace a date, by the same rows of a new generation."""
    lake = Lake(root, "simulated")
    for generation in range(GENERATIONS):
        lake.replace_dates(DAILY, day_of(generation).to_reader, [RECENT])


def day_of(generation: int) -> pa.Table:
    return pa.table(
        {
            "trade_date": pa.array([RECENT] * A_DAY, pa.date32()),
            "underlying": ["AAPL"] * A_DAY,
            "conid": pa.array(range(A_DAY), pa.int64()),
            "generation": pa.array([generation] * A_DAY, pa.int64()),
        }
    )


def maintain(root: str, enough: Event) -> None:
    """Compact what is due whenever nobody else does."""
    lake = Lake(root, "simulated")
    while not enough.wait(0.02):
        try:
            with maintainer(lake, "compact") as hold:
                for done in compact(lake, due(lake, TODAY, HOT_FROM), hold):
                    tidy_log(lake, done.due.table, 61, checkpoint=True)
        except MaintainerBusy:
            continue


def read(root: str, enough: Event) -> None:
    """Look by one engine and the other: rows only become more, and come by whole batches and whole days."""
    lake, seen, last = Lake(root, "simulated"), 0, -1
    with connect(threads=1, root=root) as connection:
        while not enough.is_set():
            found = connection.execute(f"select ingest_id from delta_scan('{lake.uri(TABLE)}')").fetchall()
            scanned = pl.scan_delta(lake.uri(TABLE), storage_options=options(root)).select("ingest_id").collect()
            for rows in ([app_id for (app_id,) in found], scanned["ingest_id"].to_list()):
                assert set(Counter(rows).values()) <= {A_BATCH}
                assert len(rows) >= seen
                seen = len(rows)
            daily = f"select generation, count(*) from delta_scan('{lake.uri(DAILY)}') group by 1"
            ((generation, count),) = connection.execute(daily).fetchall()
            assert count == A_DAY
            assert generation >= last
            last = generation


def options(root: str) -> dict[str, str] | None:
    found = storage.delta_options(root)
    # polars takes a number where deltalake takes a text.
    return None if found is None else {key: value for key, value in found.items() if "retries" not in key}


@pytest.mark.parametrize("place", ["disk", "store"])
def test_all_at_once_lose_nothing_double_nothing_and_disturb_no_reader(
    tmp_path: Path, in_store: ObjectStore, place: str
) -> None:
    root = str(tmp_path / "lake") if place == "disk" else in_store.new_root()
    lake = bare_lake(root)
    append(lake, OLD, range(-A_BATCH, 0), "first")
    lake.replace_dates(DAILY, day_of(-1).to_reader, [RECENT])
    enough = processes.Event()
    busy = [processes.Process(target=write, args=(root, number)) for number in range(WRITERS)]
    busy.append(processes.Process(target=rewrite, args=(root,)))
    others = [processes.Process(target=maintain, args=(root, enough)) for _ in range(2)]
    others += [processes.Process(target=read, args=(root, enough)) for _ in range(4)]
    for process in (*others, *busy):
        process.start()
    for process in busy:
        process.join(240)
    enough.set()
    for process in others:
        process.join(60)
    assert [process.exitcode for process in (*busy, *others)] == [0] * (len(busy) + len(others))
    with connect(root=root) as connection:
        conids = connection.execute(f"select conid from delta_scan('{lake.uri(TABLE)}') order by conid").fetchall()
        assert [conid for (conid,) in conids] == list(range(-A_BATCH, WRITERS * BATCHES * A_BATCH))
        last = connection.execute(f"select distinct generation from delta_scan('{lake.uri(DAILY)}')").fetchall()
        assert last == [(GENERATIONS - 1,)]
    table = lake.table(TABLE)
    assert table is not None
    assert any(commit["operation"] == "OPTIMIZE" for commit in table.history())
