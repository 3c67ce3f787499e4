"""Killed with -9 at random instants: what was acknowledged is there once, every engine reads it, the next run goes on.

A writer appends, a maintainer compacts, and a rewriter replaces a date, all at once. VACUUM with no retention and the
clean-up of an aged log run, and are killed, alone, as they take what others still need. ``CHAINLAKE_KILLS`` and
``CHAINLAKE_DBT_KILLS`` say how often the long storms kill, ``CHAINLAKE_SEED`` repeats one.
"""

import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from lake.duck import connect
from lake.maintenance.compaction import candidates, compact
from lake.maintenance.lock import maintainer
from lake.maintenance.vacuum import tidy_log, vacuum
from lake.store import Lake
from tests.lake.maintained import HOT_FROM, NOW, OLD, RECENT, TABLE, TODAY, append, bare_lake, counts, keys, new_lake

SEED = int(os.environ.get("CHAINLAKE_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
LONG, DBT = int(os.environ.get("CHAINLAKE_KILLS", "2000")), int(os.environ.get("CHAINLAKE_DBT_KILLS", "20"))
DAILY, A_BATCH, A_DAY = "clean/daily_clean", 5, 50
READY_S, LOG_DAYS = 300, 61
# Seconds that a storm may take: many times what a kill takes on a quiet host.
PATIENCE_S, DBT_PATIENCE_S = 600 + 10 * LONG, 600 + 100 * DBT

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["lake.maintenance.compaction", "lake.maintenance.lock", "lake.maintenance.vacuum", "tests.lake.maintained"]
)


# -- who is killed -----------------------------------------------------------------------------------------------------


def write(lake: Lake, first: int, told: Connection) -> None:
    """Append batch after batch from `first`, and acknowledge each."""
    told.send("ready")
    for batch in range(first, 1 << 30):
        conids = range(batch * A_BATCH, (batch + 1) * A_BATCH)
        app_id = f"storm/{batch}"
        if lake.last_attempt(TABLE, app_id) == 0:
            append(lake, RECENT if batch % 2 else OLD, conids, app_id)
        told.send(batch)


def rewrite(lake: Lake, first: int, told: Connection) -> None:
    """Replace a date by generation after generation from `first`, and acknowledge each."""
    told.send("ready")
    for generation in range(first, 1 << 30):
        lake.replace_dates(DAILY, generation_rows(generation).to_reader, [RECENT])
        told.send(generation)


def generation_rows(generation: int) -> pa.Table:
    return pa.table(
        {
            "trade_date": pa.array([RECENT] * A_DAY, pa.date32()),
            "underlying": ["AAPL"] * A_DAY,
            "conid": pa.array(range(A_DAY), pa.int64()),
            "generation": pa.array([generation] * A_DAY, pa.int64()),
        }
    )


def maintain(lake: Lake, _: int, told: Connection) -> None:
    """Compact whatever is due, and write checkpoints."""
    told.send("ready")
    while True:
        with maintainer(lake, "compact") as hold:
            for done in compact(lake, candidates(lake, TODAY, HOT_FROM), hold):
                tidy_log(lake, done.candidates.table, LOG_DAYS, checkpoint=True)
                told.send(done.version)


def sweep(lake: Lake, _: int, told: Connection) -> None:
    """Clean up the log, and vacuum without any retention."""
    told.send("ready")
    while True:
        with maintainer(lake, "vacuum") as hold:
            tidy_log(lake, TABLE, LOG_DAYS, checkpoint=True)
            list(vacuum(lake, NOW, hold, 0, enforced=False))
        told.send(0)


class Victim:
    """A process that says what it has finished, until it is killed."""

    def __init__(self, work: Callable[[Lake, int, Connection], None], lake: Lake, first: int) -> None:
        self._heard, told = processes.Pipe(duplex=False)
        self._process = processes.Process(target=work, args=(lake, first, told), daemon=True)
        self._process.start()
        told.close()
        assert self._heard.poll(READY_S)
        assert self._heard.recv() == "ready"

    def kill(self) -> list[int]:
        """Kill it, and return what it had acknowledged. One that ended by itself has failed."""
        ended = self._process.exitcode
        self._process.kill()
        self._process.join()
        assert ended is None, f"it ended by itself, with {ended}"
        said = []
        # A message that was cut off by the kill was never said.
        try:
            while self._heard.poll():
                said.append(self._heard.recv())
        except (EOFError, OSError):
            pass
        self._heard.close()
        return said


# -- the storm ---------------------------------------------------------------------------------------------------------


class Storm:
    """A lake, and what has been acknowledged to whoever writes to it."""

    def __init__(self, folder: Path, connection: duckdb.DuckDBPyConnection, chance: random.Random) -> None:
        self.lake, self._connection, self._chance = bare_lake(folder / "lake"), connection, chance
        self.batch, self.generation, self.compactions, self.sweeps = -1, -1, 0, 0

    def all_at_once(self) -> int:
        """Kill a writer, a rewriter and a maintainer that work at once; the number of kills."""
        victims = [
            Victim(write, self.lake, self.batch + 1),
            Victim(rewrite, self.lake, self.generation + 1),
            Victim(maintain, self.lake, 0),
        ]
        said: dict[int, list[int]] = {}
        for number in self._chance.sample(range(3), 3):
            time.sleep(self._chance.uniform(0, 0.6))
            said[number] = victims[number].kill()
        self.batch = max([self.batch, *said[0]])
        self.generation = max([self.generation, *said[1]])
        self.compactions += len(said[2])
        return 3

    def vacuum_alone(self) -> int:
        self._log_is_from(time.time() - (LOG_DAYS + 1) * 86400)
        victim = Victim(sweep, self.lake, 0)
        time.sleep(self._chance.uniform(0, 1.5))
        self.sweeps += len(victim.kill())
        self._log_is_from(time.time())
        return 1

    def _log_is_from(self, instant: float) -> None:
        for path in Path(self.lake.uri(TABLE), "_delta_log").iterdir():
            os.utime(path, (instant, instant))

    def check(self) -> None:
        """Every acknowledged row once; of the batch that was cut off all or nothing; the same for every engine."""
        found = Counter(keys(self.lake, self._connection))
        known = {(f"storm/{b}", c) for b in range(self.batch + 1) for c in range(b * A_BATCH, (b + 1) * A_BATCH)}
        cut_off = self.batch + 1
        last = {(f"storm/{cut_off}", conid) for conid in range(cut_off * A_BATCH, (cut_off + 1) * A_BATCH)}
        assert max(found.values(), default=1) == 1, "rows are doubled"
        assert known <= set(found), "acknowledged rows are lost"
        assert set(found) - known in (set(), last)
        assert counts(self.lake, self._connection) == {len(found)}
        if self.lake.version(DAILY) is not None:
            query = f"select generation, count(*) from delta_scan('{self.lake.uri(DAILY)}') group by 1"
            generations = self._connection.execute(query).fetchall()
            if self.generation >= 0 or generations:
                ((generation, rows),) = generations
                assert rows == A_DAY
                assert generation in (self.generation, self.generation + 1)
            assert counts(self.lake, self._connection, DAILY) == {A_DAY if generations else 0}

    def finish(self) -> None:
        """The next runs, not killed: they go on where the last ones ended, and leave nothing to do."""
        cut_off = self.batch + 1
        if self.lake.last_attempt(TABLE, f"storm/{cut_off}") == 0:
            conids = range(cut_off * A_BATCH, (cut_off + 1) * A_BATCH)
            append(self.lake, RECENT if cut_off % 2 else OLD, conids, f"storm/{cut_off}")
        self.batch = cut_off
        with maintainer(self.lake, "compact") as hold:
            list(compact(self.lake, candidates(self.lake, TODAY, HOT_FROM), hold))
        with maintainer(self.lake, "vacuum") as hold:
            list(vacuum(self.lake, NOW, hold, 0, enforced=False))
        assert candidates(self.lake, TODAY, HOT_FROM) == []
        table = self.lake.table(TABLE)
        assert table is not None
        assert {
            str(path) for path in Path(self.lake.uri(TABLE)).rglob("*.parquet") if "_delta_log" not in str(path)
        } == {uri.removeprefix("file://") for uri in table.file_uris()}
        self.check()


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = connect(threads=1)
    yield connection
    connection.close()


def storm(folder: Path, duck: duckdb.DuckDBPyConnection, kills: int) -> Storm:
    raging, done = Storm(folder, duck, random.Random(SEED)), 0
    while done < kills:
        done += raging.all_at_once()
        raging.check()
        done += raging.vacuum_alone()
        raging.check()
    raging.finish()
    print(f"seed {SEED}: {done} kills, {raging.batch} batches, {raging.generation} generations, "
          f"{raging.compactions} compactions, {raging.sweeps} vacuums")  # fmt: skip
    return raging


@pytest.mark.long
def test_ten_kills_lose_nothing_and_double_nothing(tmp_path: Path, duck: duckdb.DuckDBPyConnection) -> None:
    raged = storm(tmp_path, duck, 10)
    assert raged.batch > 0


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_S)
def test_a_long_storm_loses_nothing_and_doubles_nothing(tmp_path: Path, duck: duckdb.DuckDBPyConnection) -> None:
    raged = storm(tmp_path, duck, LONG)
    assert min(raged.batch, raged.generation, raged.compactions, raged.sweeps) > LONG // 100


# -- dbt ---------------------------------------------------------------------------------------------------------------

DAY = date(2014, 6, 6)
BUILT = ("clean/intraday", "clean/daily_clean", "clean/daily_adjusted", "quality/slot_coverage")


def build_day(lake: Lake, folder: Path, told: Connection) -> None:
    from flows.models import BuildPaths, DbtProject
    from tests.models.rows import LATER

    told.send("ready")
    DbtProject().build(BuildPaths(lake.root, folder / "config", folder / "state"), [DAY], as_of=LATER)
    told.send("built")
    time.sleep(600)


def recorded_day(folder: Path) -> Lake:
    from tests.models.rows import Day, contract, write_seeds

    lake = new_lake(folder)
    write_seeds(folder / "config")
    day = Day(lake, DAY)
    contracts = [contract(conid, strike=600.0 + conid) for conid in range(1, 4)]
    day.open(*contracts)
    day.write("raw/option_quotes", [day.quote(each, slot) for each in contracts for slot in range(14)])
    day.write("raw/underlying_quotes", [day.underlying("AAPL", 13)])
    return lake


def rows_of(lake: Lake, connection: duckdb.DuckDBPyConnection, name: str) -> Counter[str]:
    if lake.version(name) is None:
        return Counter()
    return Counter(map(repr, connection.execute(f"select * from delta_scan('{lake.uri(name)}')").fetchall()))


@pytest.mark.slow
@pytest.mark.timeout(DBT_PATIENCE_S)
def test_a_killed_dbt_build_leaves_whole_days_and_the_next_one_finishes(
    tmp_path: Path, duck: duckdb.DuckDBPyConnection
) -> None:
    chance = random.Random(SEED)
    untouched, lake = recorded_day(tmp_path / "untouched"), recorded_day(tmp_path / "killed")

    def run(of: Lake, folder: Path, seconds: float | None) -> str:
        heard, told = processes.Pipe(duplex=False)
        process = processes.Process(target=build_day, args=(of, folder, told), daemon=True)
        process.start()
        assert heard.recv() == "ready"
        built = heard.poll(seconds)
        process.kill()
        process.join()
        return heard.recv() if built else "killed"

    started = time.monotonic()
    assert run(untouched, tmp_path / "untouched", None) == "built"
    whole = time.monotonic() - started
    expected = {name: rows_of(untouched, duck, name) for name in BUILT}
    assert all(expected.values())
    for _ in range(DBT):
        run(lake, tmp_path / "killed", chance.uniform(0, whole))
        for name in BUILT:
            found = rows_of(lake, duck, name)
            assert found in (Counter(), expected[name])
            if lake.version(name) is not None:
                assert counts(lake, duck, name, "trade_date") == {sum(found.values())}
    assert run(lake, tmp_path / "killed", None) == "built"
    for name in BUILT:
        assert rows_of(lake, duck, name) == expected[name]
