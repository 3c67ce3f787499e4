"""Captures over several connections, killed with -9 at random instants: no answer is lost, and none is there twice.

What the gateway's delivery log says was delivered more than a second before a kill is in the lake after the next run.
The next run goes on until it is killed too; a slot that is whole makes room for the next. ``CHAINLAKE_CAPTURE_KILLS``
says how often it is killed, ``CHAINLAKE_SEED`` repeats one.
"""

import asyncio
import json
import multiprocessing
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest

from ingest.broker import BrokerPool
from ingest.calendar.clock import HostClock
from ingest.calendar.sessions import next_session
from ingest.capture.snapshot import capture_slot
from ingest.context import StepContext
from ingest.contracts import Underlying
from ingest.discovery.discover import discover
from ingest.recovery import left_behind, recover
from ingest.settings import Settings, load
from lake.reads import reader
from lake.store import Lake
from tws_simulator import GatewayOptions, SimulatedGateway

KILLS = int(os.environ.get("CHAINLAKE_CAPTURE_KILLS", "20"))
SEED = int(os.environ.get("CHAINLAKE_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
DAY = next_session(date(2026, 11, 19))
CONNECTIONS = 4
# Seconds: what was delivered before is on the disk, and how long a capture lives at most once it asks.
ON_DISK_S, LIVES_S = 1.0, 3.0

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["ingest.capture.snapshot", "ingest.discovery.discover", "ingest.settings"])


@dataclass(frozen=True, slots=True)
class Place:
    """Where captures work."""

    root: str
    port: int
    state: Path

    @property
    def settings(self) -> Settings:
        return load(
            ib={"port": self.port, "lines": 40, "messages_per_second": 20.0, "client_id_pool": 20, "reconnect_s": 0.5},
            lake={"root": self.root},
            state={"dir": self.state},
            acquisition={"greeks_patience_s": 1.5, "contract_timeout_s": 4.0},
            filters={"moneyness_pct": 0.6, "expiry_months_ahead": 9},
        )

    def step(self, lake: Lake) -> StepContext:
        return StepContext(lake, DAY, [Underlying("AAPL"), Underlying("MSFT")], self.settings, "manual")


def capture(place: Place, slot: int) -> None:
    """A capture of a slot over several connections, as the next run of a step makes it."""

    async def main() -> None:
        lake = Lake.open(place.root)
        recover(lake, place.state, HostClock())
        async with BrokerPool.connect(place.settings.ib) as pool:
            await pool.grow(CONNECTIONS)
            await capture_slot(place.step(lake), pool, DAY.slots[slot], "intraday")

    asyncio.run(main())


def captured(lake: Lake, slot: int) -> Counter[int]:
    """How many error-free rows each contract has."""
    where = f"slot_30m = {slot} and not snapshot_error"
    with reader(lake) as reads:
        rows = [row for table in ("raw/option_quotes", "raw/underlying_quotes") for row in reads.rows(table, where)]
    return Counter(row["conid"] for row in rows)


def delivered(log: Path, since: datetime, until: datetime) -> set[int]:
    """Contracts whose complete answer has left the gateway between two instants of the host's clock."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return {line["conid"] for line in lines if since <= datetime.fromisoformat(line["at"]) <= until}


@pytest.mark.slow
@pytest.mark.timeout(120 + 30 * KILLS)
async def test_no_answer_is_lost_by_a_kill_and_none_is_there_twice(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    log = tmp_path / "deliveries.jsonl"
    options = GatewayOptions(
        port=0,
        control_port=0,
        symbols=("AAPL", "MSFT"),
        at=DAY.at(time(9, 25)),
        speed=0,
        lines=100,
        messages_per_second=50,
        latency_ms=(50, 300),
        delivery_log=log,
    )
    async with SimulatedGateway(options) as gateway:
        place, lake = await begun(gateway, tmp_path / "0")
        slot, in_the_middle = 0, 0
        for kill in range(KILLS):
            await clock_at(place, slot)
            since = datetime.now(UTC)
            process = processes.Process(target=capture, args=(place, slot))
            process.start()
            while process.is_alive() and not list((place.state / "journal").glob("*.journal")):
                await asyncio.sleep(0.01)
            await asyncio.to_thread(process.join, chance.uniform(0.0, LIVES_S))
            was_alive = process.is_alive()
            assert process.pid is not None
            if was_alive:
                os.kill(process.pid, signal.SIGKILL)
            killed_at = datetime.now(UTC)
            await asyncio.to_thread(process.join)
            in_the_middle += bool(was_alive and left_behind(place.state))
            recover(lake, place.state, HostClock())
            found = captured(lake, slot)
            told = delivered(log, since, killed_at - timedelta(seconds=ON_DISK_S))
            assert told <= set(found), f"lost by kill {kill} of seed {SEED}: {sorted(told - set(found))[:5]}"
            assert set(found.values()) <= {1}, f"doubled by kill {kill} of seed {SEED}"
            if not was_alive:
                assert process.exitcode == 0
                slot += 1
                if slot == len(DAY.slots):
                    # The day is whole: it begins anew in another lake.
                    (place, lake), slot = await begun(gateway, tmp_path / str(kill + 1)), 0
        assert in_the_middle > KILLS / 2, "few captures were killed in the middle"
        await clock_at(place, slot)
        await asyncio.to_thread(capture, place, slot)
        everything = captured(lake, slot)
        with reader(lake) as reads:
            assert {row["conid"] for row in reads.contracts(DAY.trade_date)} <= set(everything)
        assert set(everything.values()) == {1}
        assert left_behind(place.state) == []


async def begun(gateway: SimulatedGateway, folder: Path) -> tuple[Place, Lake]:
    """A lake of its own in which the day's set is frozen."""
    place = Place(str(folder / "lake"), gateway.port, folder / "state")
    async with BrokerPool.connect(place.settings.ib) as pool:
        await pool.first.step_clock(DAY.at(time(9, 25)))
        await pool.grow(CONNECTIONS)
        lake = Lake.create(place.root, pool.origin, pool.clock.now())
        await discover(place.step(lake), pool)
    return place, lake


async def clock_at(place: Place, slot: int) -> None:
    """Step the market to a slot."""
    async with BrokerPool.connect(place.settings.ib) as pool:
        await pool.first.step_clock(DAY.slots[slot].sample_time + timedelta(minutes=1))
