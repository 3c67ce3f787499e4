"""Several processes take one day of one lake at the same time: nothing is lost, nothing doubled, and the runs are true.

Their symbols overlap, as when a step is run by hand beside the schedule, or by the schedulers of two hosts.
"""

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from flows.models import BuildPaths, DbtProject
from ingest.broker import BrokerSession
from ingest.calendar.sessions import Session, next_session, session_on
from ingest.capture.fleet import NullObserver
from ingest.capture.snapshot import capture_slot
from ingest.context import StepContext
from ingest.contracts import Underlying
from ingest.discovery.discover import discover
from ingest.open_interest.enrichment import enrich
from ingest.runs import Run
from ingest.settings import Settings, load
from lake.reads import reader
from lake.store import Lake
from tests.lake.conftest import ObjectStore
from tests.models.rows import CREATED, LATER, write_seeds
from tws_simulator import GatewayOptions, SimulatedGateway

_DAY = session_on(date(2026, 11, 19))
assert _DAY is not None
DAY: Session = _DAY
MORNING = next_session(DAY.trade_date)
# When discovery, the first slot, the close view and the open interest are taken.
INSTANTS = (
    DAY.at(time(9, 25)),
    DAY.slots[0].sample_time + timedelta(minutes=1),
    DAY.close + timedelta(minutes=20),
    MORNING.at(time(8, 0)),
)
SYMBOLS = (("AAPL",), ("MSFT",), ("AAPL", "MSFT"))
PATIENCE_S = 240
processes = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Desk:
    """One process's lake, gateway and symbols."""

    root: str
    port: int
    symbols: tuple[str, ...]
    state: Path

    @property
    def settings(self) -> Settings:
        return load(
            ib={"port": self.port, "lines": 60, "messages_per_second": 200.0, "client_id_pool": 8},
            lake={"root": self.root},
            state={"dir": self.state},
            acquisition={"greeks_patience_s": 1.5, "contract_timeout_s": 8.0},
            filters={"moneyness_pct": 0.03, "expiry_months_ahead": 1},
        )


class AllAtOnce(NullObserver):
    """Lets a batch ask only when those of all processes have seen that nothing is captured yet."""

    def __init__(self, beginning: Barrier) -> None:
        self._beginning = beginning

    def batch_began(self, batch: str, gateway: str, contracts: int) -> None:
        self._beginning.wait(PATIENCE_S)


def take_day(desk: Desk, together: Barrier, beginning: Barrier) -> None:
    try:
        asyncio.run(_take_day(desk, together, AllAtOnce(beginning)))
    except BaseException:
        together.abort()
        beginning.abort()
        raise


async def _take_day(desk: Desk, together: Barrier, observer: AllAtOnce) -> None:
    settings, universe = desk.settings, [Underlying(symbol) for symbol in desk.symbols]
    lake = Lake.open(desk.root)
    async with BrokerSession.connect(settings.ib) as session:

        async def slot(number: int, view: Any) -> None:
            await capture_slot(
                StepContext(lake, DAY, universe, settings, "manual"), session, DAY.slots[number], view, observer
            )

        steps = (
            lambda: discover(StepContext(lake, DAY, universe, settings, "manual", ",".join(desk.symbols)), session),
            lambda: slot(0, "intraday"),
            lambda: slot(-1, "close"),
            lambda: enrich(StepContext(lake, DAY, universe, settings, "manual"), session),
        )
        for step in steps:
            # Once when all are done with the last step, and once when the clock was set.
            await asyncio.to_thread(together.wait, PATIENCE_S)
            await asyncio.to_thread(together.wait, PATIENCE_S)
            assert session.control is not None
            session.clock = await session.control.read_clock()
            await step()


async def captured_at_once(root: str, folder: Path, symbols: Sequence[tuple[str, ...]]) -> Lake:
    """The lake of a day that as many processes have taken at the same time as there are `symbols`."""
    lake = Lake.create(root, "simulated", CREATED)
    market: dict[str, Any] = {"symbols": ("AAPL", "MSFT"), "at": INSTANTS[0], "speed": 0, "latency_ms": (5, 40)}
    options = GatewayOptions(port=0, control_port=0, lines=60, messages_per_second=400, **market)
    async with SimulatedGateway(options) as gateway:
        together, beginning = processes.Barrier(len(symbols) + 1), processes.Barrier(len(symbols))
        desks = [Desk(root, gateway.port, each, folder / "state") for each in symbols]
        working = [processes.Process(target=take_day, args=(desk, together, beginning)) for desk in desks]
        for process in working:
            process.start()
        for instant in INSTANTS:
            await asyncio.to_thread(together.wait, PATIENCE_S)
            gateway.clock.set(instant)
            await asyncio.to_thread(together.wait, PATIENCE_S)
        for process in working:
            await asyncio.to_thread(process.join, PATIENCE_S)
    assert [process.exitcode for process in working] == [0] * len(working)
    return lake


def rows(lake: Lake, table: str, where: str = "true") -> list[dict[str, Any]]:
    with reader(lake) as reads:
        return reads.rows(table, where)


def assert_nothing_is_lost_and_runs_are_true(lake: Lake, runs_of_a_step: int) -> None:
    frozen = Counter(row["conid"] for row in rows(lake, "raw/contracts"))
    assert len(frozen) >= 16
    assert set(frozen.values()) == {1}
    assert len(rows(lake, "raw/sessions")) == len(DAY.slots)
    options, underlyings = rows(lake, "raw/option_quotes"), rows(lake, "raw/underlying_quotes")
    interest = rows(lake, "raw/open_interest")
    for view in ("intraday", "close"):
        assert {row["conid"] for row in options if row["view"] == view} == frozen.keys()
    assert {row["conid"] for row in interest} == frozen.keys()
    runs = rows(lake, "ops/runs")
    assert Counter(run["step"] for run in runs) == dict.fromkeys(
        ("discover", "snapshot", "close-snapshot", "enrichment"), runs_of_a_step
    )
    assert set(Counter((run["step"], run["batch"], run["attempt"]) for run in runs).values()) == {1}
    assert sum(run["captured"] for run in runs if run["step"] == "discover") == len(frozen)
    stored = Counter(row["ingest_id"] for row in (*options, *underlyings, *interest))
    good = Counter(row["ingest_id"] for row in (*options, *underlyings, *interest) if not row["snapshot_error"])
    for run in runs:
        if run["step"] != "discover":
            assert (run["asked"], run["captured"]) == (stored[run["ingest_id"]], good[run["ingest_id"]])
    # One key for each outcome of a run, and the attempt that the run has claimed.
    attempts = {run["ingest_id"]: run["attempt"] for run in runs}
    outcomes = Counter((row["view"], row["conid"], row["ingest_id"]) for row in (*options, *underlyings))
    assert set(outcomes.values()) == {1}
    assert all(row["attempt"] == attempts[row["ingest_id"]] for row in options)


@pytest.mark.timeout(300)
async def test_three_captures_at_once_lose_nothing(tmp_path: Path) -> None:
    lake = await captured_at_once(str(tmp_path / "lake"), tmp_path, SYMBOLS)
    assert_nothing_is_lost_and_runs_are_true(lake, len(SYMBOLS))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", ["disk", "store"])
@pytest.mark.parametrize("count", [2, 6])
async def test_captures_at_once_leave_every_row_once_in_clean(
    tmp_path: Path, in_store: ObjectStore, place: str, count: int
) -> None:
    root = str(tmp_path / "lake") if place == "disk" else in_store.new_root()
    symbols = [SYMBOLS[number % 3] for number in range(count)]
    lake = await captured_at_once(root, tmp_path, symbols)
    assert_nothing_is_lost_and_runs_are_true(lake, count)
    seeds = write_seeds(tmp_path / "config", ("AAPL", "MSFT"))
    paths = BuildPaths(root, seeds, tmp_path / "state")
    await asyncio.to_thread(DbtProject().build, paths, [DAY.trade_date], as_of=LATER)
    frozen = {row["conid"] for row in rows(lake, "raw/contracts")}
    first = f"sample_time = timestamptz '{DAY.slots[0].sample_time}'"
    assert Counter(row["conid"] for row in rows(lake, "clean/intraday", first)) == dict.fromkeys(frozen, 1)
    daily = [row["conid"] for table in ("daily_clean", "daily_unresolved") for row in rows(lake, f"clean/{table}")]
    assert Counter(daily) == dict.fromkeys(frozen, 1)


# -- attempts ----------------------------------------------------------------------------------------------------------


def error_of(run: Run, number: int) -> dict[str, Any]:
    run.error("timeout", f"row {number}", CREATED)
    return run.errors.pop()


def run_of_slot() -> Run:
    return Run("snapshot", DAY.trade_date, "manual", CREATED, view="intraday", slot_30m=0, batch="all")


def messages(lake: Lake) -> list[str]:
    return sorted(row["message"] for row in rows(lake, "ops/errors"))


def test_an_attempt_is_for_one_run_and_a_later_one_that_commits_first_takes_nothing_from_it(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path, "simulated", CREATED)
    first, killed, third = run_of_slot(), run_of_slot(), run_of_slot()
    for run in (first, killed, third):
        run.claim(lake)
    assert [run.attempt for run in (first, killed, third)] == [1, 2, 3]
    third.append(lake, "ops/errors", [error_of(third, 3)])
    first.append(lake, "ops/errors", [error_of(first, 1)])
    assert messages(lake) == ["row 1", "row 3"]


def test_a_commit_that_is_repeated_is_there_once(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path, "simulated", CREATED)
    run = run_of_slot()
    run.claim(lake)
    found = [error_of(run, number) for number in (1, 2)]
    # The store has taken it, and the answer was lost on the way.
    lake.append("ops/errors", found, run.rows_id, run.attempt)
    run.append(lake, "ops/errors", found)
    assert messages(lake) == ["row 1", "row 2"]
    assert run.attempt == 1


def test_a_commit_that_is_skipped_although_its_rows_are_new_keeps_them_under_the_next_attempt(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path, "simulated", CREATED)
    run, other = run_of_slot(), run_of_slot()
    run.claim(lake)
    lake.append("ops/errors", [error_of(other, 1)], run.rows_id, run.attempt)
    run.append(lake, "ops/errors", [error_of(run, 2)])
    assert messages(lake) == ["row 1", "row 2"]
    assert run.attempt == 2


def test_what_a_run_adds_to_a_table_is_its_next_attempt(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path, "simulated", CREATED)
    run = run_of_slot()
    run.claim(lake)
    for number in (1, 2):
        run.append(lake, "ops/errors", [error_of(run, number)])
    assert messages(lake) == ["row 1", "row 2"]
    assert run.attempt == 2
