"""A slot that lives through faults, as the lake tells of it: rows, runs, errors; and what is left out of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from ingest.broker import BrokerPool, BrokerSession
from ingest.capture.silence import is_skipped, silent_contracts
from ingest.capture.snapshot import capture_slot
from ingest.context import StepContext
from ingest.contracts import OptionContract, Underlying
from ingest.errors import BrokerUnreachable
from ingest.runs import Run
from ingest.settings import Settings, load
from lake.reads import reader
from lake.store import TABLE_CONFIGURATION, Lake
from lake.tables import BY_NAME
from tests.ingest import storm
from tws_simulator import GatewayOptions, SimulatedGateway

FIRST = storm.DAY.slots[0]


class Desk:
    """A gateway, a connected session, and a lake with a frozen set."""

    def __init__(self, gateway: SimulatedGateway, session: BrokerSession, lake: Lake, settings: Settings) -> None:
        self.gateway, self.session, self.lake, self.settings = gateway, session, lake, settings
        self.broker: BrokerSession | BrokerPool = session
        self.frozen: list[OptionContract] = []

    def freeze(self, contracts: Sequence[OptionContract]) -> None:
        self.frozen = list(contracts)
        rows = [
            asdict(contract)
            | {
                "trade_date": storm.DAY.trade_date,
                "reference_price": 75.0,
                "frozen_at": storm.BELL,
                "first_seen_slot": 0,
                "ingest_id": "frozen",
                "source": "simulated",
            }
            for contract in contracts
        ]
        self.lake.append("raw/contracts", rows, "frozen", 1)

    async def slot(self, number: int = 0, **acquisition: Any) -> Run:
        settings = self.settings.model_copy(
            update={"acquisition": self.settings.acquisition.model_copy(update=acquisition)}
        )
        slot = storm.DAY.slots[number]
        if number:
            await self.session.step_clock(slot.sample_time)
        aapl = Underlying("AAPL", self.gateway.world.underlyings()[0].conid)
        (run,) = await capture_slot(
            StepContext(self.lake, storm.DAY, [aapl], settings, "manual"), self.broker, slot, "intraday"
        )
        return run

    async def fault(self, **fault: Any) -> None:
        assert self.session.control is not None
        await self.session.control.call({"op": "fault", "fault": fault})

    def rows(self, table: str, where: str = "true") -> list[dict[str, Any]]:
        with reader(self.lake) as reads:
            return reads.rows(table, where)


@asynccontextmanager
async def desk_of(gateway: SimulatedGateway, folder: Path, *, connections: int = 1, **ib: Any) -> AsyncIterator[Desk]:
    settings = storm.settings_for(gateway, ib).model_copy(update={"state": load(state={"dir": folder / "state"}).state})
    async with storm.pool_of(settings.ib, connections) as pool:
        lake = Lake.create(folder / "lake", pool.origin, pool.clock.now())
        desk = Desk(gateway, pool.first, lake, settings)
        desk.broker = pool
        yield desk


async def test_an_outage_in_a_slot_is_on_record_and_costs_no_row(tmp_path: Path) -> None:
    async with storm.gateway() as gateway, desk_of(gateway, tmp_path) as desk:
        desk.freeze(storm.contracts(gateway, 80))
        task = asyncio.create_task(desk.slot())
        await storm.sent(desk.session, 60)
        await desk.fault(fault="socket_drop", **{"for": 0.5})
        run = await task
        stored = desk.rows("raw/option_quotes")
        assert Counter(row["conid"] for row in stored) == Counter(contract.conid for contract in desk.frozen)
        assert {(row["attempt"], row["snapshot_error"]) for row in stored} == {(1, False)}
        for row in stored:
            quote = gateway.world.option_quote(gateway.world.by_conid(row["conid"], storm.BELL), storm.BELL)  # type: ignore[arg-type]
            assert (row["bid"], row["ask"], row["volume"]) == (quote.bid or None, quote.ask, quote.volume)
        assert (run.status, run.failed) == ("ok", 0)
        (record,) = desk.rows("ops/runs")
        assert "socket out of reach" in record["message"]
        assert record["outage_s"] >= 0.4
        assert (record["mode"], record["skipped"], record["message_rate"]) == ("streaming", 0, pytest.approx(294))
        (error,) = desk.rows("ops/errors")
        assert error["error_type"] == "broker_outage"
        # one commit of the attempt
        table = DeltaTable(desk.lake.uri("raw/option_quotes"))
        assert table.version() == 1


async def test_delayed_data_is_flagged_alerted_once_and_kept_for_the_next_slot(tmp_path: Path) -> None:
    async with storm.gateway() as gateway, desk_of(gateway, tmp_path) as desk:
        desk.freeze(storm.contracts(gateway, 30))
        await desk.fault(fault="delayed_only")
        first = await desk.slot(0)
        second = await desk.slot(1)
        stored = desk.rows("raw/option_quotes")
        assert {(row["market_data_type"], tuple(row["data_quality_flag"])) for row in stored} == {
            (3, ("delayed_fallback",))
        }
        assert len(stored) == 60
        assert (first.measures["delayed"], second.measures["delayed"]) == (31, 31)
        assert [row["error_type"] for row in desk.rows("ops/errors")] == ["delayed_fallback"]
        assert gateway.stats.errors < 2 * 31 + 40  # 10167 for each; 354 only for what was open at first


async def test_a_window_that_ends_in_an_outage_ends_the_slot_and_the_next_one_finds_the_gateway(tmp_path: Path) -> None:
    async with storm.gateway() as gateway, desk_of(gateway, tmp_path) as desk:
        desk.freeze(storm.contracts(gateway, 500))
        await storm.run_clock(desk.session, 600)
        task = asyncio.create_task(desk.slot())
        await storm.sent(desk.session, 60)
        await desk.fault(fault="socket_drop", **{"for": 3.2})
        run = await task
        assert run.status == "partial"
        assert "were not asked" in (run.message or "")
        stored = desk.rows("raw/option_quotes")
        assert len(stored) == len({row["conid"] for row in stored}) < 500
        assert all(FIRST.sample_time <= row["requested_at"] < FIRST.window_end for row in stored)
        assert all(row["asof_ts"] < FIRST.window_end for row in stored if row["asof_ts"])
        assert not desk.session.connected
        await storm.run_clock(desk.session, 0)
        run = await desk.slot(1)
        assert (run.captured, run.failed) == (501, 0)


async def test_a_gateway_that_does_not_come_back_is_said_after_the_commit(tmp_path: Path) -> None:
    async with storm.gateway() as gateway, desk_of(gateway, tmp_path, reconnect_s=0.4) as desk:
        desk.freeze(storm.contracts(gateway, 80))
        task = asyncio.create_task(desk.slot())
        await storm.sent(desk.session, 60)
        await gateway.stop()
        with pytest.raises(BrokerUnreachable, match="run the same command again"):
            await task
        (record,) = desk.rows("ops/runs")
        stored = desk.rows("raw/option_quotes")
        assert 0 < len(stored) < 80
        assert record["asked"] == len(stored) + len(desk.rows("raw/underlying_quotes"))


async def test_a_gateway_of_another_origin_at_the_same_address_is_refused(tmp_path: Path, shared_data: Path) -> None:
    recorded = shared_data / "replay" / "TWX_2014-06-05.parquet"
    async with AsyncExitStack() as stack:
        async with storm.gateway() as gateway:
            session = await stack.enter_async_context(BrokerSession.connect(storm.settings_for(gateway).ib))
            port = gateway.port
        options = GatewayOptions(port=port, world="replay", replay=(recorded,), speed=0)
        await stack.enter_async_context(SimulatedGateway(options))
        with pytest.raises(BrokerUnreachable, match="came back as replay: log in as before"):
            await session.reconnect(2)
        assert not session.connected


async def test_contracts_that_never_answered_go_last_and_are_asked_every_nth_slot(tmp_path: Path) -> None:
    async with storm.gateway() as gateway, desk_of(gateway, tmp_path) as desk:
        desk.freeze(storm.contracts(gateway, 24))
        mute = {contract.conid for contract in desk.frozen[::4]}
        await desk.fault(fault="silent", conids=sorted(mute))
        rule = {"silent_slots": 2, "silent_every": 3, "contract_timeout_s": 0.3, "retries": 0}
        for number in (0, 1):
            assert (await desk.slot(number, **rule)).measures["skipped"] == 0
        for number in (2, 3, 4):
            slot = storm.DAY.slots[number]
            run = await desk.slot(number, **rule)
            asked = {row["conid"] for row in desk.rows("raw/option_quotes", f"slot_30m = {number}")}
            due = {conid for conid in mute if not is_skipped(conid, slot, 3)}
            assert asked == {contract.conid for contract in desk.frozen} - mute | due
            assert run.measures["skipped"] == len(mute - due)
        # over three slots in a row each has had its turn once
        turns = Counter(row["conid"] for row in desk.rows("raw/option_quotes", "slot_30m >= 2") if row["conid"] in mute)
        assert turns == dict.fromkeys(mute, 1)
        with reader(desk.lake) as reads:
            assert silent_contracts(reads, storm.DAY.slots[5], 2) == mute
            assert silent_contracts(reads, storm.DAY.slots[5], 0) == set()
        # in the close slot all are asked
        await desk.slot(13, **rule)
        last = {row["conid"] for row in desk.rows("raw/option_quotes", "slot_30m = 13")}
        assert last == {contract.conid for contract in desk.frozen}


def test_a_table_of_an_older_version_takes_rows_with_new_columns(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path, "simulated", storm.BELL)
    new = {"skipped", "mode", "message_rate", "open_window", "outage_s"}
    spec = BY_NAME["ops/runs"]
    old = pa.schema([field for field in spec.schema if field.name not in new])
    DeltaTable.create(
        lake.uri("ops/runs"),
        schema=old,
        mode="overwrite",
        partition_by=["trade_date"],
        configuration=TABLE_CONFIGURATION,
    )
    run = {
        "trade_date": storm.DAY.trade_date,
        "step": "snapshot",
        "ingest_id": "1",
        "status": "ok",
        "started_at": storm.BELL,
        "ended_at": storm.BELL,
        "trigger": "manual",
        "host": "here",
    }
    lake.append("ops/runs", [run | {"skipped": 3, "mode": "streaming"}], "run", 1)
    assert not lake.append("ops/runs", [run], "run", 1)
    with reader(lake) as reads:
        (row,) = reads.rows("ops/runs")
    assert (row["skipped"], row["mode"], row["outage_s"]) == (3, "streaming", None)
    assert set(row) == {column.name for column in spec.columns}
