"""Six writers, two maintainers, dbt and four readers at once: no row is lost or doubled, and no reader disturbed.

First with a rewriter in dbt's place, which replaces a date far oftener than dbt can; then with real builds.
"""

import multiprocessing
from collections import Counter
from collections.abc import Sequence
from datetime import date
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from flows.models import BuildPaths, DbtProject
from lake import storage
from lake.catalog.connection import open_catalog
from lake.duck import connect
from lake.maintenance.compaction import candidates, compact
from lake.maintenance.lock import MaintainerBusy, maintainer
from lake.maintenance.vacuum import tidy_log
from lake.store import Lake
from tests.lake.conftest import ObjectStore
from tests.lake.maintained import CREATED, HOT_FROM, OLD, RECENT, TABLE, TODAY, append, bare_lake
from tests.models.rows import LATER, Day, contract, write_seeds

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
                for done in compact(lake, candidates(lake, TODAY, HOT_FROM), hold):
                    tidy_log(lake, done.candidates.table, 61, checkpoint=True)
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


def all_at_once(busy: Sequence[BaseProcess], others: Sequence[BaseProcess], enough: Event) -> None:
    """Run all of them until the `busy` ones have ended; each has to end well."""
    for process in (*others, *busy):
        process.start()
    for process in busy:
        process.join(600)
    enough.set()
    for process in others:
        process.join(60)
    assert [process.exitcode for process in (*busy, *others)] == [0] * (len(busy) + len(others))


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
    all_at_once(busy, others, enough)
    with connect(root=root) as connection:
        conids = connection.execute(f"select conid from delta_scan('{lake.uri(TABLE)}') order by conid").fetchall()
        assert [conid for (conid,) in conids] == list(range(-A_BATCH, WRITERS * BATCHES * A_BATCH))
        last = connection.execute(f"select distinct generation from delta_scan('{lake.uri(DAILY)}')").fetchall()
        assert last == [(GENERATIONS - 1,)]
    table = lake.table(TABLE)
    assert table is not None
    assert any(commit["operation"] == "OPTIMIZE" for commit in table.history())


# -- with dbt itself ---------------------------------------------------------------------------------------------------

BUILT, CONTRACTS, BUILDS = date(2014, 6, 6), 4, 2


def record(root: str, folder: Path) -> Lake:
    """A lake with one day of raw rows, of which dbt makes `CONTRACTS` x 14 intraday rows and `CONTRACTS` daily ones."""
    lake = Lake.create(root, "simulated", CREATED)
    write_seeds(folder / "config")
    day, contracts = Day(lake, BUILT), [contract(conid, strike=600.0 + conid) for conid in range(1, CONTRACTS + 1)]
    day.open(*contracts)
    for slot in range(14):
        day.write("raw/option_quotes", [day.quote(each, slot) for each in contracts])
    day.write("raw/underlying_quotes", [day.underlying("AAPL", 13)])
    return lake


def build_with_dbt(root: str, folder: str, builds: int) -> None:
    project, paths = DbtProject(), BuildPaths(root, Path(folder) / "config", Path(folder) / "state")
    for _ in range(builds):
        project.build(paths, [BUILT], as_of=LATER)


def write_until(root: str, number: int, enough: Event) -> None:
    """Append batch after batch, to the table that dbt reads too."""
    lake, batch = Lake(root, "simulated"), 0
    while not enough.wait(0.02):
        first = (number * 100_000 + batch) * A_BATCH
        append(lake, RECENT if batch % 2 else OLD, range(first, first + A_BATCH), f"writer-{number}/{batch}")
        batch += 1


def read_models(root: str, enough: Event) -> None:
    """Look at what dbt made, by the catalog and by polars: it is there as a whole, and always the same."""
    scanned = pl.scan_delta(f"{root}/clean/daily_clean", storage_options=options(root))
    with open_catalog(root) as catalog:
        first = catalog.execute("FROM clean.daily_clean ORDER BY conid").fetchall()
        while not enough.is_set():
            assert catalog.execute("FROM clean.daily_clean ORDER BY conid").fetchall() == first
            assert catalog.execute("SELECT count(asof_ts) FROM clean.intraday").fetchone() == (CONTRACTS * 14,)
            assert scanned.select(pl.len()).collect().item() == CONTRACTS
            found = catalog.execute("SELECT ingest_id FROM raw.open_interest").fetchall()
            assert set(Counter(app_id for (app_id,) in found).values()) <= {A_BATCH}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("place", ["disk", "store"])
def test_builds_of_dbt_among_writers_maintainers_and_readers_make_the_same_rows(
    tmp_path: Path, in_store: ObjectStore, place: str
) -> None:
    root = str(tmp_path / "lake") if place == "disk" else in_store.new_root()
    lake = record(root, tmp_path)
    alone = processes.Process(target=build_with_dbt, args=(root, str(tmp_path), 1))
    alone.start()
    alone.join(600)
    assert alone.exitcode == 0
    before = {name: lake.version(name) for name in ("clean/daily_clean", "clean/intraday")}
    enough = processes.Event()
    dbt = processes.Process(target=build_with_dbt, args=(root, str(tmp_path), BUILDS))
    others = [processes.Process(target=write_until, args=(root, number, enough)) for number in range(WRITERS)]
    others += [processes.Process(target=maintain, args=(root, enough)) for _ in range(2)]
    others += [processes.Process(target=read_models, args=(root, enough)) for _ in range(4)]
    all_at_once([dbt], others, enough)
    for name, version in before.items():
        assert version is not None
        assert len(list(lake.commits_from(name, version + 1))) >= BUILDS
    with connect(root=root) as connection:
        found = connection.execute(f"select ingest_id from delta_scan('{lake.uri(TABLE)}')").fetchall()
        batches = Counter(app_id for (app_id,) in found)
        assert set(batches.values()) == {A_BATCH}
        assert {app_id.partition("/")[0] for app_id in batches} == {f"writer-{number}" for number in range(WRITERS)}
        written = [int(app_id.partition("/")[2]) for app_id in batches if app_id.startswith("writer-0/")]
        assert sorted(written) == list(range(len(written)))
    table = lake.table("raw/option_quotes")
    assert table is not None
    assert any(commit["operation"] == "OPTIMIZE" for commit in table.history())
