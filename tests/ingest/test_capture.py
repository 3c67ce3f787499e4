"""Capture against the simulated gateway over a real socket: every contract asked ends in exactly one row."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.broker import BrokerSession
from ingest.calendar.sessions import NEW_YORK, next_session
from ingest.capture import CaptureEngine, CaptureRules, Pace, QuoteRequest
from ingest.capture.readiness import option_ready
from ingest.capture.snapshot import capture_slot
from ingest.context import StepContext
from ingest.contracts import OptionContract, Underlying, contract_from_row
from ingest.discovery.discover import discover
from ingest.errors import BrokerUnreachable, UsageError
from ingest.open_interest.enrichment import enrich
from ingest.runs import LAKE_DAMAGED
from ingest.settings import Settings, load
from lake.errors import OriginMismatch
from lake.reads import reader
from lake.store import Lake
from tests.ingest import storm
from tws_simulator import GatewayOptions, SimulatedGateway

DAY = next_session(date(2026, 11, 19))
BELL = DAY.slots[0].sample_time + timedelta(minutes=1)
AAPL = Underlying("AAPL")
# A dozen strikes of the two next monthly expiries are enough for every rule.
FILTERS = {"moneyness_pct": 0.05, "expiry_months_ahead": 2}


@pytest.fixture
async def gateway() -> AsyncIterator[SimulatedGateway]:
    options = GatewayOptions(
        port=0,
        control_port=0,
        symbols=("AAPL", "MSFT"),
        at=DAY.at(time(9, 25)),
        speed=0,
        lines=400,
        messages_per_second=4000,
        latency_ms=(2, 10),
    )
    async with SimulatedGateway(options) as gateway:
        yield gateway


@pytest.fixture
def settings(gateway: SimulatedGateway, tmp_path: Path) -> Settings:
    return load(
        ib={"port": gateway.port, "lines": 400, "messages_per_second": 4000.0, "client_id_pool": 0, "reconnect_s": 0.5},
        lake={"root": str(tmp_path / "lake")},
        state={"dir": tmp_path / "state"},
        acquisition={"greeks_patience_s": 1.5, "contract_timeout_s": 4.0},
        filters=FILTERS,
    )


@pytest.fixture
async def session(settings: Settings) -> AsyncIterator[BrokerSession]:
    async with BrokerSession.connect(settings.ib) as session:
        yield session


@pytest.fixture
def lake(settings: Settings, session: BrokerSession) -> Lake:
    return Lake.create(settings.lake.root, session.origin, session.clock.now())


def rows(lake: Lake, table: str, where: str = "true") -> list[dict[str, Any]]:
    with reader(lake) as reads:
        return reads.rows(table, where)


async def opened(lake: Lake, session: BrokerSession, settings: Settings) -> list[OptionContract]:
    await discover(StepContext(lake, DAY, [AAPL], settings, "manual", "AAPL"), session)
    await session.step_clock(BELL)
    return [contract_from_row(row) for row in rows(lake, "raw/contracts")]


async def test_bad_values_cost_no_row_of_the_batch(lake: Lake, session: BrokerSession, settings: Settings) -> None:
    contracts = await opened(lake, session, settings)
    decoder, spoilt = session._ib.client.decoder, Counter[str]()
    interpret = decoder.interpret

    def of_option(request_id: str) -> bool:
        # The underlying has no row among those that are looked at below.
        ticker = session._ib.wrapper.reqId2Ticker.get(int(request_id))
        return ticker is not None and ticker.contract.conId in {contract.conid for contract in contracts}

    def hostile(fields: list[str]) -> None:
        message, tick = fields[0], fields[3] if fields[0] == "2" else fields[0]
        # Message 2 is a size (tick 8: volume, 0: bid size), 58 the market data type.
        values = {("2", "8"): "9223372036854775807", ("2", "0"): "2147483647", ("58", "58"): "2147483648"}
        if (message, tick) in values and spoilt[tick] < 5 and of_option(fields[2]):
            spoilt[tick] += 1
            fields = [*fields[: 4 if message == "2" else 3], values[message, tick]]
        interpret(fields)

    decoder.interpret = hostile  # type: ignore[method-assign]
    (run,) = await capture_slot(StepContext(lake, DAY, [AAPL], settings, "manual"), session, DAY.slots[0], "intraday")
    stored = rows(lake, "raw/option_quotes")
    assert Counter(row["conid"] for row in stored) == Counter(contract.conid for contract in contracts)
    assert (run.status, run.failed, run.captured) == ("ok", 0, len(contracts) + 1)
    assert min(spoilt["8"], spoilt["58"]) == 5
    assert sum(row["volume"] is None for row in stored) >= 5
    for row in stored:
        assert all(row[name] is None or row[name] < 2**31 - 1 for name in ("volume", "bid_size", "market_data_type"))


async def test_freezing_twice_changes_nothing(lake: Lake, session: BrokerSession, settings: Settings) -> None:
    run = await discover(StepContext(lake, DAY, [AAPL], settings, "manual"), session)
    assert run.captured == len(rows(lake, "raw/contracts")) > 10
    again = await discover(StepContext(lake, DAY, [AAPL], settings, "manual"), session)
    assert (again.captured, again.status) == (0, "ok")
    frozen = rows(lake, "raw/contracts")
    assert len(frozen) == run.captured == len({row["conid"] for row in frozen})
    assert len(rows(lake, "raw/sessions")) == 14
    for row in frozen:
        assert abs(row["strike"] / row["reference_price"] - 1) <= 0.05


async def test_an_unknown_symbol_is_refused_alone_and_reported_in_company(
    lake: Lake, session: BrokerSession, settings: Settings
) -> None:
    with pytest.raises(UsageError, match="ZZZZ"):
        await discover(StepContext(lake, DAY, [Underlying("ZZZZ")], settings, "manual"), session)
    run = await discover(StepContext(lake, DAY, [Underlying("ZZZZ"), AAPL], settings, "manual"), session)
    assert (run.status, run.failed) == ("partial", 1)
    assert run.captured > 10


async def test_a_slot_gives_one_row_a_contract_with_quote_and_greeks(
    lake: Lake, session: BrokerSession, settings: Settings
) -> None:
    contracts = await opened(lake, session, settings)
    (run,) = await capture_slot(StepContext(lake, DAY, [AAPL], settings, "manual"), session, DAY.slots[0], "intraday")
    stored = rows(lake, "raw/option_quotes")
    assert Counter(row["conid"] for row in stored) == Counter(contract.conid for contract in contracts)
    assert run.asked == len(contracts) + 1
    near = [row for row in stored if row["iv"] is not None]
    assert len(near) > 0.9 * len(stored)
    for row in stored:
        assert row["asof_ts"].astimezone(UTC) == BELL
        assert row["snapshot_error"] or row["ask"] is None or row["bid"] is None or row["bid"] < row["ask"]
        assert row["data_quality_flag"] == []
        assert (row["source"], row["attempt"], row["market_data_type"]) == ("simulated", 1, 1)
    (underlying,) = rows(lake, "raw/underlying_quotes")
    assert underlying["last"] > 0
    assert underlying["close"] > 0
    (record,) = rows(lake, "ops/runs", "step = 'snapshot'")
    assert (record["asked"], record["captured"], record["pacing_errors"]) == (run.asked, run.captured, 0)


async def test_a_second_run_of_a_slot_asks_only_for_what_has_no_good_row(
    lake: Lake, session: BrokerSession, settings: Settings
) -> None:
    await opened(lake, session, settings)
    await capture_slot(StepContext(lake, DAY, [AAPL], settings, "manual"), session, DAY.slots[0], "intraday")
    good = {row["conid"] for row in rows(lake, "raw/option_quotes") if row["ask"] and row["bid_seen"]}
    before = len(rows(lake, "raw/option_quotes"))
    runs = await capture_slot(StepContext(lake, DAY, [AAPL], settings, "manual"), session, DAY.slots[0], "intraday")
    again = [row for row in rows(lake, "raw/option_quotes") if row["attempt"] == 2]
    assert len(rows(lake, "raw/option_quotes")) == before + len(again)
    assert not {row["conid"] for row in again} & good
    assert sum(run.asked for run in runs) == len(again)


def cut_short(lake: Lake, table: str) -> Path:
    """Cut the first data file of a table short, and say which it is."""
    file = next(Path(lake.uri(table)).rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:300])
    return file


async def test_a_damaged_file_of_an_earlier_slot_costs_no_later_slot(
    lake: Lake, session: BrokerSession, settings: Settings
) -> None:
    contracts = await opened(lake, session, settings)
    context = StepContext(lake, DAY, [AAPL], settings, "manual")
    await capture_slot(context, session, DAY.slots[0], "intraday")
    damaged = [cut_short(lake, name) for name in ("raw/option_quotes", "raw/underlying_quotes")]
    await session.step_clock(DAY.slots[1].sample_time)
    (run,) = await capture_slot(context, session, DAY.slots[1], "intraday")
    assert (run.status, run.captured) == ("ok", len(contracts) + 1)
    assert len(rows(lake, "raw/option_quotes", "slot_30m = 1")) == len(contracts)
    told = [row for row in rows(lake, "ops/errors") if row["error_type"] == LAKE_DAMAGED]
    assert {row["ingest_id"] for row in told} == {run.ingest_id}
    assert all(any(file.name in row["message"] for row in told) for file in damaged)
    assert not any("\n" in row["message"] for row in told)


async def test_a_capture_that_is_killed_leaves_nothing_and_the_next_one_everything(
    lake: Lake, session: BrokerSession, settings: Settings, gateway: SimulatedGateway
) -> None:
    contracts = await opened(lake, session, settings)
    slow = asyncio.create_task(
        capture_slot(StepContext(lake, DAY, [AAPL], settings, "manual"), session, DAY.slots[0], "intraday")
    )
    await asyncio.sleep(0.02)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    assert rows(lake, "raw/option_quotes") == []
    await capture_slot(StepContext(lake, DAY, [AAPL], settings, "manual"), session, DAY.slots[0], "intraday")
    assert len(rows(lake, "raw/option_quotes")) == len(contracts)


async def test_nothing_is_captured_under_a_slot_outside_its_window(
    lake: Lake, session: BrokerSession, settings: Settings
) -> None:
    await opened(lake, session, settings)
    with pytest.raises(UsageError, match=r"begins at 10:00"):
        await capture_slot(StepContext(lake, DAY, [AAPL], settings, "manual"), session, DAY.slots[1], "intraday")
    await session.step_clock(DAY.slots[1].sample_time)
    with pytest.raises(UsageError, match=r"was over at 10:00"):
        await capture_slot(StepContext(lake, DAY, [AAPL], settings, "manual"), session, DAY.slots[0], "intraday")
    with pytest.raises(UsageError, match=r"close view"):
        await capture_slot(StepContext(lake, DAY, [AAPL], settings, "manual"), session, DAY.close_slot, "close")
    assert rows(lake, "raw/option_quotes") == []


async def test_the_close_view_holds_frozen_quotes_under_the_close_slot(
    lake: Lake, session: BrokerSession, settings: Settings
) -> None:
    await opened(lake, session, settings)
    await session.step_clock(DAY.close + timedelta(hours=1))
    await capture_slot(StepContext(lake, DAY, [AAPL], settings, "manual"), session, DAY.close_slot, "close")
    stored = rows(lake, "raw/option_quotes")
    assert {(row["view"], row["slot_30m"], row["market_data_type"]) for row in stored} == {("close", 13, 2)}
    assert {row["asof_ts"].astimezone(NEW_YORK).hour for row in stored} == {17}


async def test_a_request_beyond_the_grace_is_flagged_late(
    lake: Lake, session: BrokerSession, settings: Settings
) -> None:
    await opened(lake, session, settings)
    await session.step_clock(DAY.slots[0].sample_time + timedelta(seconds=121))
    await capture_slot(StepContext(lake, DAY, [AAPL], settings, "manual"), session, DAY.slots[0], "intraday")
    assert {tuple(row["data_quality_flag"]) for row in rows(lake, "raw/option_quotes")} == {("late_sample",)}


async def test_open_interest_is_refused_before_it_is_due_and_observed_once_after(
    lake: Lake, session: BrokerSession, settings: Settings
) -> None:
    contracts = await opened(lake, session, settings)
    await capture_slot(StepContext(lake, DAY, [AAPL], settings, "manual"), session, DAY.slots[0], "intraday")
    await session.step_clock(DAY.close)
    with pytest.raises(UsageError, match="is due from 2026-11-23 04:00"):
        await enrich(StepContext(lake, DAY, [AAPL], settings, "manual"), session)
    await session.step_clock(next_session(DAY.trade_date).at(time(4)))
    early = await enrich(StepContext(lake, DAY, [AAPL], settings, "manual"), session)
    # 2026-11-20 is a third Friday: what expired on it is gone by Monday, and not asked for.
    alive = {contract.conid for contract in contracts if contract.last_trade_date > DAY.trade_date}
    assert 0 < len(alive) == early.asked < len(contracts)
    # One slot's volumes tell nothing of the chain, and at 04:00 the clock says that it is too early.
    assert not [row for row in rows(lake, "raw/open_interest") if row["oi_asof_date"] == DAY.trade_date]
    await session.step_clock(next_session(DAY.trade_date).at(time(9)))
    last = await enrich(StepContext(lake, DAY, [AAPL], settings, "manual"), session)
    stored = rows(lake, "raw/open_interest")
    filled = [row for row in stored if row["oi_asof_date"] == DAY.trade_date]
    assert {row["conid"] for row in filled} == {row["conid"] for row in stored} == alive
    assert (last.asked, len(filled), len(stored)) == (len(alive), len(alive), 2 * len(alive))
    again = await enrich(StepContext(lake, DAY, [AAPL], settings, "manual"), session)
    assert again.asked == 0


async def test_contracts_that_do_not_exist_and_lines_that_are_missing_end_in_error_rows() -> None:
    """The gateway has 12 lines where the settings say 2000."""
    async with storm.gateway(lines=12, messages_per_second=2000, latency_ms=(150, 200)) as gateway:
        settings = storm.settings_for(gateway, {"lines": 2000})
        contracts = storm.contracts(gateway, 40)
        nobody = replace(contracts[0], conid=12345)
        async with BrokerSession.connect(settings.ib) as session:
            engine = CaptureEngine(
                session, Pace(settings.ib, settings.acquisition), CaptureRules(timeout_s=2, retries=0)
            )
            outcomes = await engine.capture([QuoteRequest(c, "101", option_ready(0.3)) for c in (nobody, *contracts)])
    assert sorted(o.request.conid for o in outcomes) == sorted([12345, *(c.conid for c in contracts)])
    failures = {o.request.conid: (o.failure.kind, o.failure.code) for o in outcomes if o.failure}
    assert failures.pop(12345) == ("ib_error", 200)
    assert set(failures.values()) == {("pacing", 101)}
    # Those that found a line have their quotes.
    assert len(failures) <= len(contracts) - 12
    assert all(o.quote is not None for o in outcomes if not o.failure)


async def test_a_gateway_that_goes_away_ends_the_slot_with_what_there_is(
    lake: Lake, session: BrokerSession, settings: Settings, gateway: SimulatedGateway
) -> None:
    contracts = await opened(lake, session, settings)
    slot = capture_slot(StepContext(lake, DAY, [AAPL], settings, "manual"), session, DAY.slots[0], "intraday")
    task = asyncio.create_task(slot)
    await storm.sent(session, 20)
    await gateway.stop()
    with pytest.raises(BrokerUnreachable, match="run the same command again"):
        await task
    stored = rows(lake, "raw/option_quotes")
    assert len(stored) == len({row["conid"] for row in stored}) <= len(contracts)
    assert {row["error_type"] for row in stored if row["snapshot_error"]} <= {"disconnected"}


async def test_a_lake_of_another_origin_takes_no_rows(settings: Settings, session: BrokerSession) -> None:
    live = Lake.create(settings.lake.root, "ibkr-live", session.clock.now())
    with pytest.raises(OriginMismatch):
        await discover(StepContext(live, DAY, [AAPL], settings, "manual"), session)
    assert rows(live, "raw/sessions") == []


async def test_no_gateway_and_a_taken_client_id_say_what_to_do(settings: Settings, session: BrokerSession) -> None:
    with pytest.raises(BrokerUnreachable, match="--client-id"):
        async with BrokerSession.connect(settings.ib):
            pass
    closed = settings.ib.model_copy(update={"port": 1})
    with pytest.raises(BrokerUnreachable, match="chainlake gateway"):
        async with BrokerSession.connect(closed):
            pass


async def test_nothing_of_a_subscription_outlives_its_cancel(
    session: BrokerSession, settings: Settings, lake: Lake
) -> None:
    """The library keeps every ticker for ever, and serves its old quotes to the next request."""
    await opened(lake, session, settings)
    await capture_slot(StepContext(lake, DAY, [AAPL], settings, "manual"), session, DAY.slots[0], "intraday")
    wrapper = session._ib.wrapper
    assert (len(wrapper.tickers), len(wrapper.reqId2Ticker), len(wrapper._reqId2Contract)) == (0, 0, 0)
    assert not wrapper.ticker2ReqId["mktData"]
