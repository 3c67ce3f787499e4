"""A day over several connections to one gateway, as the lake tells of it: frozen set, slot, open interest, runs."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, time
from pathlib import Path
from typing import Any

import pytest

from flows.steps import BrokerContext, PipelineContext, connect_broker
from ingest.broker import BrokerPool
from ingest.calendar.sessions import next_session
from ingest.capacity.probe_result import ProbeResult, store
from ingest.capture.snapshot import with_conids
from ingest.contracts import Underlying
from ingest.settings import Settings, load
from lake.reads import reader
from lake.tables import BY_NAME
from tests.ingest import storm
from tests.ingest.test_recovery_slot import desk_of
from tws_simulator import SimulatedGateway

UNIVERSE = (Underlying("AAPL"), Underlying("MSFT"))
RATE = 150.0


@asynccontextmanager
async def market(at: datetime, **changes: Any) -> AsyncIterator[SimulatedGateway]:
    async with storm.gateway(symbols=("AAPL", "MSFT"), at=at, messages_per_second=RATE, **changes) as gateway:
        yield gateway


def settings_for(gateway: SimulatedGateway, folder: Path, **ib: Any) -> Settings:
    of = storm.settings_for(gateway, ib)
    return of.model_copy(
        update={
            "lake": load(lake={"root": str(folder / "lake")}).lake,
            "state": load(state={"dir": folder / "state"}).state,
            "filters": load(filters={"moneyness_pct": 0.04, "expiry_months_ahead": 2}).filters,
            "enrichment": load(enrichment={"patience_s": 1.0}).enrichment,
        }
    )


def rows(broker: BrokerContext, table: str, where: str = "true") -> list[dict[str, Any]]:
    with reader(broker.lake) as reads:
        return reads.rows(table, where)


def spread(broker: BrokerContext) -> list[int]:
    """Messages of each connection, and none anew afterwards."""
    sent = [session.messages for session in broker.pools[0].sessions]
    for session in broker.pools[0].sessions:
        session.messages = 0
    return sent


async def test_every_step_of_a_day_is_spread_over_the_connections(tmp_path: Path) -> None:
    async with market(storm.DAY.at(time(9, 25))) as gateway:
        alone = PipelineContext(settings_for(gateway, tmp_path / "alone", connections=1), UNIVERSE, "manual")
        async with connect_broker(alone) as broker:
            await broker.discover(storm.DAY)
            frozen = {row["conid"] for row in rows(broker, "raw/contracts")}
        context = PipelineContext(settings_for(gateway, tmp_path / "pool", connections=4), UNIVERSE, "manual")
        async with connect_broker(context) as broker:
            spread(broker)
            await broker.discover(storm.DAY)
            assert {row["conid"] for row in rows(broker, "raw/contracts")} == frozen
            asked = spread(broker)
            assert min(asked) > sum(asked) / 4 / 2
            await broker.session.step_clock(storm.BELL)
            await broker.snapshot(storm.DAY, storm.DAY.slots[0])
            stored = rows(broker, "raw/option_quotes")
            assert Counter(row["conid"] for row in stored) == Counter(frozen)
            assert not any(row["snapshot_error"] for row in stored)
            assert {row["requested_at"] for row in stored} == {storm.BELL}
            assert min(spread(broker)) > 5
            await broker.session.step_clock(next_session(storm.DAY.trade_date).at(time(7, 30)))
            await broker.enrich(storm.DAY)
            observed = rows(broker, "raw/open_interest")
            assert Counter(row["conid"] for row in observed) == Counter(
                row["conid"] for row in stored if row["last_trade_date"] > storm.DAY.trade_date
            )
            assert not any(row["snapshot_error"] for row in observed)
            assert min(spread(broker)) > 5
            (record,) = rows(broker, "ops/runs", "step = 'snapshot'")
            assert (record["connections"], record["pacing_errors"]) == (4, 0)
            assert record["message_rates"] == [pytest.approx(RATE * 0.98)] * 4
            assert record["message_rate"] == pytest.approx(RATE * 0.98 * 4)
            assert set(record) == {column.name for column in BY_NAME["ops/runs"].columns}
            assert [row["connections"] for row in rows(broker, "ops/runs", "step in ('discover', 'enrichment')")] == [
                4,
                4,
            ]
        assert gateway.stats.violations == 0
        assert gateway.lines.most_in_use <= 58


async def test_discovery_goes_on_over_the_other_connections_and_finds_all(tmp_path: Path) -> None:
    async with market(storm.DAY.at(time(9, 25))) as gateway:
        alone = PipelineContext(settings_for(gateway, tmp_path / "alone", connections=1), UNIVERSE, "manual")
        async with connect_broker(alone) as broker:
            await broker.discover(storm.DAY)
            frozen = {row["conid"] for row in rows(broker, "raw/contracts")}
        context = PipelineContext(settings_for(gateway, tmp_path / "pool", connections=3), UNIVERSE, "manual")
        async with connect_broker(context) as broker:
            task = asyncio.create_task(broker.discover(storm.DAY))
            await storm.sent(broker.session, 40)
            for number in (17, 23):
                client = gateway._state.clients[number]
                client.drop(reset=False)  # type: ignore[attr-defined]
            run = await task
            assert run.status == "ok"
            assert {row["conid"] for row in rows(broker, "raw/contracts")} == frozen


FAULTS: list[dict[str, Any]] = [
    {"fault": "socket_drop", "for": 0.4},
    {"fault": "connection_lost", "data": "lost", "for": 0.4},
    {"fault": "nightly_reset", "from": "09:00", "until": "16:00", "for": 0.4},
    {"fault": "competing_session", "for": 0.4},
    {"fault": "half_open", "for": 1.0},
    {"fault": "delayed_only"},
    {"fault": "silent", "instruments": ["option"], "share": 0.1},
    {"fault": "error", "code": 200, "share": 0.1},
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault["fault"])
async def test_each_contract_of_a_batch_has_one_row(fault: dict[str, Any], tmp_path: Path) -> None:
    async with (
        storm.gateway(messages_per_second=RATE) as gateway,
        desk_of(gateway, tmp_path, connections=4) as desk,
    ):
        desk.freeze(storm.contracts(gateway, 120))
        task = asyncio.create_task(desk.slot(contract_timeout_s=1.5))
        await storm.sent(desk.session, 20)
        await desk.fault(**fault)
        await task
        stored = desk.rows("raw/option_quotes")
        assert Counter(row["conid"] for row in stored) == Counter(contract.conid for contract in desk.frozen)
        for row in stored:
            if not row["snapshot_error"]:
                market = storm.standing(gateway, row["conid"], storm.BELL)[:4]
                assert (row["bid"], row["ask"], row["last"], row["volume"]) == market
        (record,) = desk.rows("ops/runs")
        assert (record["asked"], record["failed"]) == (121, sum(row["snapshot_error"] for row in stored))
        assert record["connections"] == 4
        if fault["fault"] not in {"silent", "error"}:
            assert record["status"] == "ok"


async def test_auto_opens_what_the_probe_of_this_very_account_has_shown(tmp_path: Path) -> None:
    async with market(storm.BELL) as gateway:
        settings = settings_for(gateway, tmp_path, connections="auto")
        context = PipelineContext(settings, UNIVERSE, "manual")
        async with connect_broker(context) as broker:
            assert len(broker.pools[0].sessions) == 1
        probed = ProbeResult(
            chainlake="test",
            probed_at=storm.BELL,
            gateway=f"127.0.0.1:{gateway.port}",
            origin="ibkr-paper",
            lines=60,
            messages_per_second=RATE,
            rate_per="connection",
            streaming_hold_ms=200.0,
            cancels_count=False,
        )
        store(probed, tmp_path / "state")
        async with connect_broker(context) as broker:
            assert len(broker.pools[0].sessions) == 1
        # 60 lines held for 0.2 s are 300 contracts a second, of one message each
        store(probed.model_copy(update={"origin": "simulated"}), tmp_path / "state")
        async with connect_broker(context) as broker:
            assert len(broker.pools[0].sessions) == 2
            assert broker.pools[0].pace(settings.acquisition).cancels_free
        store(probed.model_copy(update={"origin": "simulated", "cancels_count": True}), tmp_path / "state")
        async with connect_broker(context) as broker:
            assert len(broker.pools[0].sessions) == 4
            assert not broker.pools[0].pace(settings.acquisition).cancels_free
        store(probed.model_copy(update={"origin": "simulated", "rate_per": "session"}), tmp_path / "state")
        async with connect_broker(context) as broker:
            assert len(broker.pools[0].sessions) == 1


@pytest.mark.parametrize("connections", [1, 3])
async def test_underlyings_without_a_conid_are_asked_for_within_the_budget(connections: int, tmp_path: Path) -> None:
    """As of a universe file that names none: the first messages of a batch, when that before has used up the second."""
    symbols = (
        "AAPL",
        "MSFT",
        "NVDA",
        "AMZN",
        "META",
        "TSLA",
        "JPM",
        "V",
        "XOM",
        "WMT",
        "UNH",
        "MA",
        "HD",
        "PG",
        "COST",
    )
    async with storm.gateway(symbols=symbols, messages_per_second=6.0) as gateway:
        settings = settings_for(gateway, tmp_path, messages_per_second=6.0)
        async with BrokerPool.connect(settings.ib, connections) as pool:
            wanted = [Underlying(symbol) for symbol in symbols]
            known = await with_conids(pool, wanted, {"AAPL": 7}, settings.acquisition)
            assert [one.symbol for one in known] == list(symbols)
            assert known[0].conid == 7
            assert all(one.conid for one in known)
            assert len({one.conid for one in known}) == len(symbols)
        assert gateway.stats.violations == 0
