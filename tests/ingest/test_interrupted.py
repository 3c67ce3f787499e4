"""A capture that is killed or cancelled loses nothing that it had an answer of: the next run commits it, once."""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.broker import BrokerSession
from ingest.calendar.clock import HostClock
from ingest.calendar.sessions import next_session
from ingest.capture import Outcome
from ingest.capture.fleet import NullObserver
from ingest.capture.snapshot import capture_slot
from ingest.context import StepContext
from ingest.contracts import Underlying
from ingest.discovery.discover import discover
from ingest.journal import read
from ingest.recovery import left_behind, recover
from ingest.runs import Run
from ingest.settings import Settings, load
from lake.errors import LakeError
from lake.reads import reader
from lake.store import Lake
from tws_simulator import GatewayOptions, SimulatedGateway

DAY = next_session(date(2026, 11, 19))
BELL = DAY.slots[0].sample_time + timedelta(minutes=1)
AAPL = Underlying("AAPL")
OPTIONS = "raw/option_quotes"
processes = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a capture works: a lake, a gateway, a state folder."""

    root: str
    port: int
    state: Path

    @property
    def settings(self) -> Settings:
        return load(
            ib={"port": self.port, "lines": 20, "messages_per_second": 120.0, "client_id_pool": 8, "reconnect_s": 0.5},
            lake={"root": self.root},
            state={"dir": self.state},
            acquisition={"greeks_patience_s": 1.5, "contract_timeout_s": 4.0},
            filters={"moneyness_pct": 0.25, "expiry_months_ahead": 3},
        )

    def step(self, lake: Lake) -> StepContext:
        return StepContext(lake, DAY, [AAPL], self.settings, "manual")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A lake with a frozen set at the first slot."""
    options = GatewayOptions(
        port=0,
        control_port=0,
        symbols=("AAPL",),
        at=DAY.at(time(9, 25)),
        speed=0,
        lines=400,
        messages_per_second=4000,
        latency_ms=(2, 10),
    )
    async with SimulatedGateway(options) as gateway:
        place = Place(str(tmp_path / "lake"), gateway.port, tmp_path / "state")
        async with BrokerSession.connect(place.settings.ib) as session:
            lake = Lake.create(place.root, session.origin, session.clock.now())
            await discover(place.step(lake), session)
            await session.step_clock(BELL)
        yield place


def capture(place: Place) -> None:
    """One capture of the first slot, in a process of its own."""

    async def main() -> list[Run]:
        lake = Lake.open(place.root)
        async with BrokerSession.connect(place.settings.ib) as session:
            return await capture_slot(place.step(lake), session, DAY.slots[0], "intraday")

    asyncio.run(main())


def rows(lake: Lake, table: str, where: str = "true") -> list[dict[str, Any]]:
    with reader(lake) as reads:
        return reads.rows(table, where)


async def killed_in_the_middle(place: Place) -> Path:
    """The journal of a capture that was killed once it had answers on the disk."""
    process = processes.Process(target=capture, args=(place,))
    process.start()
    while not (found := list((place.state / "journal").glob("*.journal"))) or found[0].stat().st_size < 20_000:
        assert process.is_alive()
        await asyncio.sleep(0.01)
    assert process.pid is not None
    assert left_behind(place.state) == []
    os.kill(process.pid, signal.SIGKILL)
    await asyncio.to_thread(process.join)
    return found[0]


@pytest.mark.timeout(120)
async def test_a_killed_capture_is_committed_once_by_the_next_and_only_the_rest_is_asked(place: Place) -> None:
    journal = await killed_in_the_middle(place)
    lake = Lake.open(place.root)
    assert rows(lake, OPTIONS) == []
    assert left_behind(place.state) == [journal]
    with journal.open("rb") as file:
        held = read(file)
    answered = [row["conid"] for row in held.rows[OPTIONS]]
    assert len(answered) > 10

    (found,) = await asyncio.to_thread(recover, lake, place.state, HostClock())
    assert (found.answers, found.committed, found.slot_30m) == (held.count, held.count, 0)
    assert recover(lake, place.state, HostClock()) == []
    assert not journal.exists()
    assert [row["conid"] for row in rows(lake, OPTIONS)] == answered
    assert {row["ingest_id"] for row in rows(lake, OPTIONS)} == {journal.stem}
    (run,) = rows(lake, "ops/runs", "step = 'snapshot'")
    assert (run["ingest_id"], run["status"], run["attempt"]) == (journal.stem, "partial", 1)
    assert (run["asked"], run["captured"]) == (held.count, held.count - run["failed"])
    assert "interrupted" in run["message"]
    assert [error["error_type"] for error in rows(lake, "ops/errors", "step = 'snapshot'")] == ["interrupted"]

    await asyncio.to_thread(capture, place)
    everything = Counter(row["conid"] for row in rows(lake, OPTIONS))
    assert set(everything) == {row["conid"] for row in rows(lake, "raw/contracts")}
    assert set(everything.values()) == {1}
    assert left_behind(place.state) == []


@pytest.mark.timeout(120)
async def test_a_journal_is_committed_after_a_later_attempt_and_after_its_own_commit_came_through(
    place: Place,
) -> None:
    journal = await killed_in_the_middle(place)
    content = journal.read_bytes()
    lake = Lake.open(place.root)
    await asyncio.to_thread(capture, place)
    later = len(rows(lake, OPTIONS))
    (found,) = recover(lake, place.state, HostClock())
    assert found.committed == found.answers > 0
    # Killed between its commit and the end of its journal.
    journal.write_bytes(content)
    (again,) = recover(lake, place.state, HostClock())
    assert (again.answers, again.committed) == (found.answers, 0)
    with_underlying = found.answers - len(rows(lake, "raw/underlying_quotes", f"ingest_id = '{journal.stem}'"))
    assert len(rows(lake, OPTIONS)) == later + with_underlying
    assert len(rows(lake, "ops/runs", "step = 'snapshot'")) == 2


@pytest.mark.timeout(120)
async def test_two_that_recover_at_once_commit_it_once(place: Place) -> None:
    await killed_in_the_middle(place)
    lake = Lake.open(place.root)
    both = await asyncio.gather(
        *(asyncio.to_thread(recover, Lake.open(place.root), place.state, HostClock()) for _ in range(2))
    )
    (found,) = [each for recovered in both for each in recovered]
    assert len(rows(lake, OPTIONS)) + len(rows(lake, "raw/underlying_quotes")) == found.answers == found.committed


async def test_a_cancelled_capture_commits_what_it_has_answers_of(place: Place) -> None:
    lake = Lake.open(place.root)
    told: list[int] = []
    enough = asyncio.Event()

    class Counting(NullObserver):
        def settled(self, batch: str, outcome: Outcome) -> None:
            told.append(outcome.request.conid)
            if len(told) == 30:
                enough.set()

    async with BrokerSession.connect(place.settings.ib) as session:
        task = asyncio.create_task(
            capture_slot(place.step(lake), session, DAY.slots[0], "intraday", observer=Counting())
        )
        await enough.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    stored = [row["conid"] for table in ("raw/underlying_quotes", OPTIONS) for row in rows(lake, table)]
    assert sorted(stored) == sorted(told)
    (run,) = rows(lake, "ops/runs", "step = 'snapshot'")
    assert (run["status"], run["message"]) == ("partial", "the run was cancelled")
    assert list((place.state / "journal").iterdir()) == []


async def test_a_lake_that_takes_nothing_leaves_the_answers_in_the_journal(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.open(place.root)
    whole = Lake.append

    def full(self: Lake, name: str, *rest: Any) -> bool:
        if name == OPTIONS:
            raise LakeError("the disk is full")
        return whole(self, name, *rest)

    monkeypatch.setattr(Lake, "append", full)
    async with BrokerSession.connect(place.settings.ib) as session:
        with pytest.raises(LakeError, match="the disk is full"):
            await capture_slot(place.step(lake), session, DAY.slots[0], "intraday")
    with pytest.raises(LakeError, match="the disk is full"):
        recover(lake, place.state, HostClock())
    assert len(left_behind(place.state)) == 1
    monkeypatch.setattr(Lake, "append", whole)
    (found,) = recover(lake, place.state, HostClock())
    frozen = {row["conid"] for row in rows(lake, "raw/contracts")}
    assert {row["conid"] for row in rows(lake, OPTIONS)} == frozen
    assert found.committed == len(frozen)
    assert left_behind(place.state) == []


async def test_a_journal_of_another_lake_is_left_alone_and_a_damaged_one_set_aside(
    place: Place, tmp_path: Path
) -> None:
    await killed_in_the_middle(place)
    elsewhere = Lake.create(tmp_path / "other", "simulated", BELL)
    assert recover(elsewhere, place.state, HostClock()) == []
    assert len(left_behind(place.state)) == 1
    damaged = place.state / "journal" / "damaged.journal"
    damaged.write_bytes(b"CLJ1")
    lake = Lake.open(place.root)
    assert len(recover(lake, place.state, HostClock())) == 1
    assert (place.state / "journal" / "set_aside" / "damaged.journal").read_bytes() == b"CLJ1"
    # A new lake at the same place is another lake.
    assert replace(lake).created_at == lake.created_at != elsewhere.created_at


@pytest.mark.timeout(120)
async def test_sigterm_loses_nothing(place: Place, tmp_path: Path) -> None:
    """As a service manager ends a snapshot that was begun from the command line."""
    config = tmp_path / "chainlake.toml"
    config.write_text(
        f"[lake]\nroot = '{place.root}'\n[state]\ndir = '{place.state}'\n"
        f"[ib]\nport = {place.port}\nlines = 20\nmessages_per_second = 60.0\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chainlake.cli", "snapshot", "--slot", "0", "--date", str(DAY.trade_date)),
        *("--symbols", "AAPL", "--config", str(config)),
        stderr=asyncio.subprocess.PIPE,
    )
    while not (found := list((place.state / "journal").glob("*.journal"))) or found[0].stat().st_size < 20_000:
        assert process.returncode is None
        await asyncio.sleep(0.01)
    with found[0].open("rb") as file:
        held = {row["conid"] for row in read(file).rows[OPTIONS]}
    process.terminate()
    _, told = await process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, told.decode()
    assert "Traceback" not in told.decode()
    lake = Lake.open(place.root)
    stored = Counter(row["conid"] for row in rows(lake, OPTIONS))
    assert held <= set(stored)
    assert set(stored.values()) == {1}
    (run,) = rows(lake, "ops/runs", "step = 'snapshot'")
    assert run["message"] == "the run was cancelled"
    assert left_behind(place.state) == []
