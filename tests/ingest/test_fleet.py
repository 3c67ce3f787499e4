"""Batches shared by several real gateways: who captures what, and what becomes of a batch whose gateway is lost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from chainlake.cli.options import GivenForBroker
from flows.steps import BrokerContext, PipelineContext, connect_broker
from ingest.capacity.probe_result import ProbeResult, store
from ingest.capture.fleet import BatchConnection, plan_batches
from ingest.capture.modes import LineOccupancy
from ingest.contracts import Underlying
from ingest.errors import BrokerUnreachable, UsageError
from ingest.settings import Settings, load
from lake.reads import reader
from lake.store import Lake
from tests.ingest import storm
from tws_simulator import GatewayOptions, SimulatedGateway

SYMBOLS = ("AAPL", "MSFT", "NVDA", "AMZN")
UNIVERSE = tuple(Underlying(symbol) for symbol in SYMBOLS)
BATCHES = ["01-AAPL", "02-MSFT", "03-NVDA", "04-AMZN"]


# -- cutting -----------------------------------------------------------------------------------------------------------


def grouped(**groups: str) -> list[Underlying]:
    return [Underlying(symbol, group=group) for symbol, group in groups.items()]


@pytest.mark.parametrize(
    ("universe", "size", "batches"),
    [
        (grouped(A="x", B="x"), 0, {"x": "AB"}),
        (grouped(A="", B=""), 0, {"all": "AB"}),
        (grouped(A="", B=""), 2, {"all": "AB"}),
        # groups in the order of the file, not of the alphabet, and whole whatever the size
        (grouped(A="top", B="energy", C="top"), 1, {"01-top": "AC", "02-energy": "B"}),
        (grouped(A="", B="", C=""), 2, {"01-A": "AB", "02-C": "C"}),
        (grouped(A="x", B="", C=""), 0, {"01-x": "A", "02-other": "BC"}),
        (grouped(A="x", B="", C=""), 1, {"01-x": "A", "02-B": "B", "03-C": "C"}),
        ([], 0, {}),
    ],
)
def test_batches_are_the_groups_and_what_has_none_by_size(
    universe: list[Underlying], size: int, batches: dict[str, str]
) -> None:
    assert {
        planned.name: "".join(u.symbol for u in planned.underlyings) for planned in plan_batches(universe, size)
    } == batches


def test_names_of_many_batches_sort_in_order() -> None:
    names = [planned.name for planned in plan_batches([Underlying(f"S{number}") for number in range(120)], 1)]
    assert names == sorted(names)
    assert len(set(names)) == 120


# -- settings ----------------------------------------------------------------------------------------------------------


def test_each_gateway_has_the_limits_of_ib_or_its_own() -> None:
    ib = load(
        ib={
            "messages_per_second": 40,
            "gateways": [
                "first:4001",
                {"address": "second:4002", "lines": 300},
                {"address": "third:4003", "messages_per_second": 20},
            ],
        }
    ).ib
    assert (ib.host, ib.port) == ("first", 4001)
    assert [(one.host, one.port, one.lines, one.message_limit, one.reconnect_s) for one in ib.each_gateway] == [
        ("first", 4001, 100, 40, 60),
        ("second", 4002, 300, 150, 60),
        ("third", 4003, 100, 20, 60),
    ]
    alone = load(ib={"port": 7496, "reconnect_s": 30}).ib
    assert alone.each_gateway == [alone]
    assert [one.reconnect_s for one in load(ib={"gateways": ["only:4001"]}).ib.each_gateway] == [900]


@pytest.mark.parametrize(("given", "taken"), [(1, 1), ("7", 7), (32, 32), ("auto", "auto")])
def test_connections_are_a_number_or_auto_and_the_same_for_each_gateway(given: object, taken: object) -> None:
    ib = load(ib={"connections": given, "gateways": ["first:4001", "second:4002"]}).ib
    assert [ib.connections, *(one.connections for one in ib.each_gateway)] == [taken] * 3
    assert load().ib.connections == "auto"


@pytest.mark.parametrize("connections", [0, -1, 33, "many", "", 1.5, None])
def test_connections_that_ib_does_not_have_are_refused(connections: object) -> None:
    with pytest.raises(UsageError, match=r"^setting ib\.connections"):
        load(ib={"connections": connections})


@pytest.mark.parametrize("gateways", [["4001"], ["host:"], ["a:1", "a:1"], ["a:1", "b:70000"], [{"lines": 100}], [7]])
def test_gateways_that_are_none_are_refused(gateways: list[Any]) -> None:
    with pytest.raises(UsageError, match=r"^setting ib\."):
        load(ib={"gateways": gateways})


def test_a_gateway_named_on_the_command_line_is_the_only_one(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text('[ib]\ngateways = ["first:4001", "second:4002"]\n')
    assert len(load(file, **GivenForBroker()._flags()).ib.each_gateway) == 2
    (only,) = load(file, **GivenForBroker(port=4003)._flags()).ib.each_gateway
    assert (only.host, only.port) == ("127.0.0.1", 4003)


# -- two gateways ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def gateways() -> AsyncIterator[tuple[SimulatedGateway, SimulatedGateway]]:
    """Two gateways of one market, each with its own limits."""
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(storm.gateway(symbols=SYMBOLS)) for _ in range(2)]
        yield first, second


def settings_for(folder: Path, *gateways: SimulatedGateway, ports: tuple[int, ...] = (), **ib: Any) -> Settings:
    addresses = [f"127.0.0.1:{port}" for port in (*ports, *(gateway.port for gateway in gateways))]
    return storm.settings_for(gateways[0], {"gateways": addresses} | ib, batch_size=1).model_copy(
        update={
            "lake": load(lake={"root": str(folder / "lake")}).lake,
            "state": load(state={"dir": folder / "state"}).state,
        }
    )


def rows(lake: Lake, table: str) -> list[dict[str, Any]]:
    with reader(lake) as reads:
        return reads.rows(table)


def freeze(broker: BrokerContext, gateway: SimulatedGateway) -> set[int]:
    """Freeze 100 contracts of each underlying, and tell their conids."""
    frozen = [contract for u in broker.context.universe for contract in storm.contracts(gateway, 100, u.symbol)]
    columns = {
        "trade_date": storm.DAY.trade_date,
        "reference_price": 75.0,
        "frozen_at": storm.BELL,
        "first_seen_slot": 0,
        "ingest_id": "frozen",
        "source": "simulated",
    }
    broker.lake.append("raw/contracts", [asdict(contract) | columns for contract in frozen], "frozen", 1)
    return {contract.conid for contract in frozen}


class OnceCaptured:
    """Sets `reached` once a batch has so many outcomes."""

    def __init__(self, batch: str, outcomes: int) -> None:
        self.batch, self.outcomes, self.reached = batch, outcomes, asyncio.Event()
        self.began: list[tuple[str, str]] = []

    def slot_began(self, batches: dict[str, int], seconds_left: Any, bound: Any) -> None:
        self.batches, self.bound = batches, bound()

    def batch_began(self, batch: str, gateway: str, contracts: int) -> None:
        self.began.append((batch, gateway))

    def settled(self, batch: str, outcome: Any) -> None:
        self.outcomes -= batch == self.batch
        if self.outcomes <= 0:
            self.reached.set()

    def batch_ended(self, batch: str) -> None:
        pass


async def test_both_gateways_take_batches_in_order_within_their_own_limits(
    gateways: tuple[SimulatedGateway, SimulatedGateway], tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, *gateways)
    async with connect_broker(PipelineContext(settings, UNIVERSE, "manual")) as broker:
        frozen = freeze(broker, gateways[1])
        seen = OnceCaptured("", 1)
        runs = await broker.snapshot(storm.DAY, storm.DAY.slots[0], observer=seen)
        # a second run finds nothing left to do, on no gateway
        assert await broker.snapshot(storm.DAY, storm.DAY.slots[0]) == []
        stored = rows(broker.lake, "raw/option_quotes")
        recorded = [row for row in rows(broker.lake, "ops/runs") if row["step"] == "snapshot"]
    assert Counter(row["conid"] for row in stored) == Counter(frozen)
    assert not any(row["snapshot_error"] for row in stored)
    assert sorted(run.batch or "" for run in runs) == BATCHES
    assert [batch for batch, _ in seen.began] == BATCHES
    assert {row["gateway"] for row in recorded} == {f"127.0.0.1:{gateway.port}" for gateway in gateways}
    by_start = sorted(recorded, key=lambda row: row["ingest_id"])
    assert [row["batch"] for row in by_start] == BATCHES
    assert all(row["elapsed_s"] > 0 for row in recorded)
    assert sum(seen.batches.values()) == len(frozen) + len(SYMBOLS)
    # of 60 lines two are kept free, and until it is measured a contract is taken to hold one for a second
    assert seen.bound == pytest.approx(2 * 58)
    for gateway in gateways:
        assert gateway.stats.violations == 0
    assert sum(row["pacing_errors"] for row in recorded) == 0


@pytest.mark.parametrize(("down_s", "reconnect_s"), [(60.0, 0.6), (1.2, 20.0)], ids=["for good", "for a while"])
async def test_a_gateway_lost_in_the_middle_hands_its_batch_over_and_no_contract_is_double(
    gateways: tuple[SimulatedGateway, SimulatedGateway], tmp_path: Path, down_s: float, reconnect_s: float
) -> None:
    settings = settings_for(tmp_path, *gateways, reconnect_s=reconnect_s, handover_s=0.6)
    async with connect_broker(PipelineContext(settings, UNIVERSE, "manual")) as broker:
        frozen = freeze(broker, gateways[1])
        seen = OnceCaptured("01-AAPL", 25)
        task = asyncio.create_task(broker.snapshot(storm.DAY, storm.DAY.slots[0], observer=seen))
        await seen.reached.wait()
        assert broker.session.control is not None
        await broker.session.control.call({"op": "fault", "fault": {"fault": "socket_drop", "for": down_s}})
        async with asyncio.timeout(30):
            runs = await task
        assert broker.session.connected == (down_s < 10)
        stored = rows(broker.lake, "raw/option_quotes")
        recorded = [row for row in rows(broker.lake, "ops/runs") if row["step"] == "snapshot"]
    good = Counter(row["conid"] for row in stored if not row["snapshot_error"])
    assert good == Counter(frozen)
    lost = [row for row in stored if row["snapshot_error"]]
    assert {row["error_type"] for row in lost} == {"disconnected"}
    assert {(row["batch"], row["attempt"]) for row in lost} == {("01-AAPL", 1)}
    assert len(lost) <= gateways[0].options.lines
    # the lost attempt committed what it had, and the other one asked for the rest only
    first, again = sorted((row for row in recorded if row["batch"] == "01-AAPL"), key=lambda row: row["attempt"])
    aapl = [row for row in stored if row["underlying"] == "AAPL"]
    assert (first["status"], first["gateway"]) == ("partial", f"127.0.0.1:{gateways[0].port}")
    assert first["captured"] >= 25
    assert again["status"] == "ok"
    assert first["captured"] + again["captured"] == len({row["conid"] for row in aapl}) + 1
    assert sorted(run.batch or "" for run in runs) == BATCHES
    on_second = {row["batch"] for row in recorded if row["gateway"] == f"127.0.0.1:{gateways[1].port}"}
    assert on_second >= {"02-MSFT"} if down_s < 10 else on_second == set(BATCHES)
    for row in stored:
        if not row["snapshot_error"]:
            market = storm.standing(gateways[1], row["conid"], storm.BELL)[:4]
            assert (row["bid"], row["ask"], row["last"], row["volume"]) == market
    for gateway in gateways:
        assert gateway.stats.violations == 0
    assert sum(row["pacing_errors"] for row in recorded) == 0


async def test_with_every_gateway_lost_the_slot_keeps_what_it_has_and_says_so(
    gateways: tuple[SimulatedGateway, SimulatedGateway], tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, *gateways, reconnect_s=0.5)
    async with connect_broker(PipelineContext(settings, UNIVERSE, "manual")) as broker:
        frozen = freeze(broker, gateways[1])
        seen = OnceCaptured("02-MSFT", 10)
        task = asyncio.create_task(broker.snapshot(storm.DAY, storm.DAY.slots[0], observer=seen))
        await seen.reached.wait()
        for session in (broker.session, *broker.others):
            assert session.control is not None
            await session.control.call({"op": "fault", "fault": {"fault": "socket_drop", "for": 60}})
        with pytest.raises(BrokerUnreachable, match="run the same command again"):
            await task
        stored = rows(broker.lake, "raw/option_quotes")
    captured = Counter(row["conid"] for row in stored)
    assert set(captured) < frozen
    assert max(captured.values()) == 1
    assert sum(not row["snapshot_error"] for row in stored) >= 10


async def test_a_gateway_that_cannot_be_reached_is_on_record_and_the_step_goes_on(
    gateways: tuple[SimulatedGateway, SimulatedGateway], tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, gateways[1], ports=(1,))
    async with connect_broker(PipelineContext(settings, UNIVERSE[:1], "manual")) as broker:
        assert (broker.session.settings.port, broker.others) == (gateways[1].port, ())
        frozen = freeze(broker, gateways[1])
        await broker.snapshot(storm.DAY, storm.DAY.slots[0])
        assert Counter(row["conid"] for row in rows(broker.lake, "raw/option_quotes")) == Counter(frozen)
        (error,) = [row for row in rows(broker.lake, "ops/errors") if row["error_type"] == "gateway_unreachable"]
        assert "127.0.0.1:1 refused" in error["message"]
    nowhere = settings.model_copy(update={"ib": load(ib={"gateways": ["127.0.0.1:1", "127.0.0.1:2"]}).ib})
    with pytest.raises(BrokerUnreachable, match=r"127.0.0.1:1 refused.*; .*127.0.0.1:2 refused"):
        async with connect_broker(PipelineContext(nowhere, UNIVERSE, "manual")):
            pass


class PaperOptions(GatewayOptions):
    """A gateway whose account looks like one of paper trading."""

    @property
    def account(self) -> str:
        return "DU1234567"


async def test_gateways_of_two_kinds_are_refused_by_name(tmp_path: Path) -> None:
    options = PaperOptions(port=0, at=storm.BELL, speed=0)
    async with storm.gateway() as simulated, SimulatedGateway(options) as paper:
        settings = settings_for(tmp_path, simulated, paper)
        with pytest.raises(UsageError, match=rf"{simulated.port} is simulated and .*{paper.port} is ibkr-paper"):
            async with connect_broker(PipelineContext(settings, UNIVERSE, "manual")):
                pass
        assert not (tmp_path / "lake").exists()


async def test_auto_asks_each_gateway_as_its_own_probe_says(
    gateways: tuple[SimulatedGateway, SimulatedGateway], tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, *gateways)
    measured = ProbeResult(
        chainlake="test",
        probed_at=storm.BELL,
        gateway="",
        origin="simulated",
        lines=60,
        messages_per_second=300,
        streaming_hold_ms=1000.0,
    )
    for gateway, snapshot_ms in zip(gateways, (100.0, 11_000.0), strict=True):
        address = f"127.0.0.1:{gateway.port}"
        store(measured.model_copy(update={"gateway": address, "snapshot_hold_ms": snapshot_ms}), tmp_path / "state")
    universe = tuple(replace(underlying, group=underlying.symbol) for underlying in UNIVERSE[:2])
    async with connect_broker(PipelineContext(settings, universe, "manual")) as broker:
        assert broker._connection(broker.session) == BatchConnection(broker.session, LineOccupancy(1.0, 0.1))
        freeze(broker, gateways[1])
        await broker.session.step_clock(storm.DAY.slots[1].sample_time)
        await broker.snapshot(storm.DAY, storm.DAY.slots[1])
        modes = {row["gateway"]: row["mode"] for row in rows(broker.lake, "ops/runs") if row["step"] == "snapshot"}
    assert [modes[f"127.0.0.1:{gateway.port}"] for gateway in gateways] == ["snapshot", "streaming"]
