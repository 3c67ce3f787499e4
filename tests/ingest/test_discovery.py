"""Discovery against the simulated gateway: the world says what is listed, and the message log what it cost."""

import asyncio
import contextlib
import time as wall
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.broker import BrokerSession, lookup
from ingest.calendar.clock import HostClock
from ingest.calendar.sessions import Session, next_session
from ingest.capture.snapshot import capture_slot
from ingest.context import StepContext
from ingest.contracts import ChainParameters, OptionSpec, Underlying
from ingest.discovery.discover import Discovered, Mode, discover, reuse_last_frozen
from ingest.runs import Run
from ingest.settings import Settings, load
from lake.reads import reader
from lake.store import Lake
from tws_simulator import GatewayOptions, SimulatedGateway
from tws_simulator.worlds.instruments import OptionSeries

DAY = next_session(date(2026, 11, 18))
NEXT = next_session(DAY.trade_date)
UNIVERSE = [Underlying("AAPL"), Underlying("MSFT"), Underlying("NVDA")]
BAND = 0.1
FILTERS = {"moneyness_pct": BAND, "expiry_months_ahead": 2, "expiry_types": ("all",)}


class Place:
    """A gateway, a lake, and discoveries."""

    def __init__(self, gateway: SimulatedGateway, session: BrokerSession, settings: Settings) -> None:
        self.gateway, self.session, self.settings = gateway, session, settings
        self.lake = Lake.create(settings.lake.root, session.origin, session.clock.now())

    async def discover(
        self,
        day: Session = DAY,
        mode: Mode = "freeze",
        universe: list[Underlying] = UNIVERSE,
        settings: Settings | None = None,
        on_underlying: Callable[[Discovered], None] = lambda discovered: None,
    ) -> Run:
        return await discover(
            StepContext(self.lake, day, universe, settings or self.settings, "manual"),
            self.session,
            on_underlying,
            mode,
        )

    async def fault(self, **fault: Any) -> None:
        assert self.session.control is not None
        await self.session.control.call({"op": "fault", "fault": fault})

    async def clear(self) -> None:
        assert self.session.control is not None
        await self.session.control.call({"op": "clear"})

    def rows(self, table: str, where: str = "true") -> list[dict[str, Any]]:
        with reader(self.lake) as reads:
            return reads.rows(table, where)

    def frozen(self, day: Session = DAY) -> set[int]:
        return {row["conid"] for row in self.rows("raw/contracts", f"trade_date = date '{day.trade_date}'")}

    def listed(self, day: Session = DAY, band: float = BAND, symbol: str | None = None) -> set[int]:
        """What the gateway's world lists within the filters, counted from its own arrays."""
        now, found = self.gateway.clock.now(), set()
        for underlying in self.gateway.world.underlyings(now):
            price = self.gateway.world.previous_close(underlying, now)
            if price is None or symbol not in (None, underlying.symbol):
                continue
            for series in self.gateway.world.series(underlying, now):
                if day.trade_date <= series.expiry <= day.trade_date.replace(year=2027, month=1):
                    found |= conids(series, price * (1 - band), price * (1 + band))
        return found


def conids(series: OptionSeries, lowest: float, highest: float) -> set[int]:
    return {one.conid for one in series.options() if lowest <= one.strike <= highest}


@asynccontextmanager
async def place(
    tmp_path: Path, rate: float = 4000, client_rate: float | None = None, **more: Any
) -> AsyncIterator[Place]:
    options = GatewayOptions(
        port=0,
        control_port=0,
        symbols=("AAPL", "MSFT", "NVDA"),
        at=DAY.at(time(9, 25)),
        speed=0,
        lines=400,
        messages_per_second=rate,
        latency_ms=(0, 5),
        **more,
    )
    settings = load(
        lake={"root": str(tmp_path / "lake")},
        state={"dir": tmp_path / "state"},
        acquisition={"greeks_patience_s": 0.5, "contract_timeout_s": 2.0},
        discovery={"answer_timeout_s": 1.0},
        filters=FILTERS,
    )
    async with SimulatedGateway(options) as gateway:
        ib = {"port": gateway.port, "lines": 400, "messages_per_second": client_rate or rate}
        settings = settings.model_copy(update={"ib": settings.ib.model_copy(update=ib)})
        async with BrokerSession.connect(settings.ib) as session:
            yield Place(gateway, session, settings)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    async with place(tmp_path) as made:
        yield made


def with_filters(settings: Settings, **filters: Any) -> Settings:
    return settings.model_copy(update={"filters": settings.filters.model_copy(update=filters)})


# -- what is found -----------------------------------------------------------------------------------------------------


async def test_all_that_is_listed_inside_the_filters_is_frozen_and_nothing_else(here: Place) -> None:
    done: list[Discovered] = []
    run = await here.discover(on_underlying=done.append)
    assert here.frozen() == here.listed()
    assert (run.status, run.failed, run.captured) == ("ok", 0, len(here.listed()))
    assert {row["discovered_on"] for row in here.rows("raw/contracts")} == {DAY.trade_date}
    # Told once each, with a number that counts up.
    assert sorted(one.symbol for one in done) == ["AAPL", "MSFT", "NVDA"]
    assert [(one.number, one.of) for one in done] == [(1, 3), (2, 3), (3, 3)]
    assert sum(one.contracts for one in done) == run.captured


async def test_mini_options_are_kept_apart_by_class_and_multiplier(tmp_path: Path) -> None:
    async with place(tmp_path, minis=("AAPL",)) as here:
        await here.discover()
        assert here.frozen() == here.listed()
        kinds = {(row["trading_class"], row["multiplier"]) for row in here.rows("raw/contracts", "underlying = 'AAPL'")}
        assert kinds == {("AAPL", 100.0), ("AAPL7", 10.0)}


async def test_prewarming_freezes_nothing_and_leaves_freezing_nothing_to_ask(here: Place) -> None:
    warm = await here.discover(mode="prewarm")
    assert here.rows("raw/contracts") == here.rows("raw/sessions") == []
    assert warm.measures["questions"] == len(here.rows("ops/contract_lookups")) > len(here.listed())
    assert warm.measures["listed"] == len(here.listed())
    frozen = await here.discover()
    assert frozen.measures["questions"] == 0
    assert here.frozen() == here.listed()


async def test_the_next_day_asks_only_for_what_is_new_and_drops_what_has_expired(here: Place) -> None:
    first = await here.discover()
    expiring = {row["conid"] for row in here.rows("raw/contracts") if row["expiry"] == DAY.trade_date}
    known = {terms_of(row) for row in here.rows("ops/contract_lookups")}
    assert len(known) == first.measures["questions"]
    await here.session.step_clock(NEXT.at(time(9, 25)))
    second = await here.discover(NEXT)
    assert here.frozen(NEXT) == here.listed(NEXT)
    assert not here.frozen(NEXT) & expiring
    asked = [row for row in here.rows("ops/contract_lookups") if row["trade_date"] == NEXT.trade_date]
    assert second.measures["questions"] == len(asked) < 0.3 * first.measures["questions"]
    assert not {terms_of(row) for row in asked} & known


def terms_of(row: dict[str, Any]) -> tuple[Any, ...]:
    names = ("underlying", "trading_class", "last_trade_date", "right", "strike", "multiplier")
    return tuple(row[name] for name in names)


async def test_what_does_not_exist_is_asked_again_after_five_sessions(here: Place) -> None:
    # The band of one day, so that the combinations stay the same ones.
    await here.discover(mode="prewarm")
    unlisted = {terms_of(row) for row in here.rows("ops/contract_lookups", "conid is null")}
    days, asked = [DAY], []
    for _ in range(5):
        days.append(next_session(days[-1].trade_date))
        await here.session.step_clock(days[-1].at(time(4)))
        await here.discover(days[-1], "prewarm")
        on_that_day = here.rows("ops/contract_lookups", f"trade_date = date '{days[-1].trade_date}'")
        asked.append({terms_of(row) for row in on_that_day} & unlisted)
    assert [len(again) for again in asked[:4]] == [0, 0, 0, 0]
    assert asked[4]
    # What was listed is remembered as well, until the cache of answers and the frozen sets forget it.
    assert all(row["conid"] is None for row in here.rows("ops/contract_lookups") if terms_of(row) in asked[4])


async def test_refreshing_only_adds_and_what_joins_comes_with_the_next_slot(here: Place) -> None:
    narrow = with_filters(here.settings, moneyness_pct=0.04)
    await here.discover(settings=narrow)
    before = {row["conid"]: row for row in here.rows("raw/contracts")}
    assert before.keys() == here.listed(band=0.04)
    assert (await here.discover(settings=here.settings)).captured == 0
    await here.session.step_clock(DAY.slots[5].sample_time + timedelta(minutes=7))
    run = await here.discover(mode="refresh")
    after = {row["conid"]: row for row in here.rows("raw/contracts")}
    assert after.keys() == here.listed() > before.keys()
    assert run.captured == len(after) - len(before)
    assert all(after[conid] == row for conid, row in before.items())
    assert {after[conid]["first_seen_slot"] for conid in after.keys() - before.keys()} == {6}
    assert {row["first_seen_slot"] for row in before.values()} == {0}
    # A refresh that takes nothing new in changes nothing; nor does one whose band has become narrower.
    assert (await here.discover(mode="refresh", settings=narrow)).captured == 0
    assert len(here.rows("raw/contracts")) == len(after)


# -- pacing and trouble ------------------------------------------------------------------------------------------------

TURN_S = 0.01


async def count_turns() -> int:
    """Turns of the event loop until cancelled, each of TURN_S or more: on a busy host they are longer and fewer."""
    turns = 0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(TURN_S)
            turns += 1
    return turns


async def test_a_cold_discovery_keeps_to_the_rate_without_one_error_100(tmp_path: Path) -> None:
    async with place(tmp_path, rate=100) as here:
        started = wall.monotonic()
        turns = asyncio.create_task(count_turns())
        run = await here.discover(
            universe=[Underlying("AAPL")], settings=with_filters(here.settings, moneyness_pct=0.06)
        )
        seconds = wall.monotonic() - started
        turns.cancel()
        assert here.gateway.stats.violations == run.measures["pacing_errors"] == 0
        assert run.measures["questions"] > 150
        # Its budget begins with the 0.15 s of messages that it may send at once.
        assert run.measures["messages"] / 100 - 0.15 <= seconds
        # Nothing but the budget holds it up: head-room, start and end cost less than a quarter.
        assert await turns * TURN_S < 1.25 * run.measures["messages"] / 100 + 1


async def test_a_rate_that_turns_out_too_high_is_cut_and_loses_nothing(tmp_path: Path) -> None:
    async with place(tmp_path, rate=100, client_rate=300) as here:
        run = await here.discover(universe=UNIVERSE[:2])
        assert run.measures["pacing_errors"] >= 1
        assert here.frozen() == here.listed(symbol="AAPL") | here.listed(symbol="MSFT")
        assert run.status == "ok"


async def test_a_discovery_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    async with place(tmp_path, rate=400) as here:
        task = asyncio.create_task(here.discover())
        while here.session.messages < 300:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        answered = {terms_of(row) for row in here.rows("ops/contract_lookups")}
        assert answered
        second = await here.discover()
        assert here.frozen() == here.listed()
        asked = [terms_of(row) for row in here.rows("ops/contract_lookups")]
        assert len(asked) == len(set(asked)) == len(answered) + second.measures["questions"]
        (killed,) = here.rows("ops/runs", "status <> 'ok'")
        assert killed["step"] == "discover"


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "socket_drop", "for": 0.5},
        {"fault": "connection_lost", "for": 1.5, "data": "kept"},
        {"fault": "farm_down", "farm": "secdefnj", "for": 1.5},
        {"fault": "error", "code": 162, "requests": ["contract_details"], "probability": 0.05},
        {"fault": "error", "code": 504, "requests": ["option_parameters"], "times": 2},
    ],
    ids=lambda fault: fault["fault"],
)
async def test_trouble_in_the_middle_costs_no_contract(here: Place, fault: dict[str, Any]) -> None:
    task = asyncio.create_task(here.discover())
    while here.session.messages < 40:
        await asyncio.sleep(0.001)
    await here.fault(**fault)
    run = await task
    assert here.frozen() == here.listed()
    assert run.status == "ok"
    unlisted = {terms_of(row) for row in here.rows("ops/contract_lookups", "conid is null")}
    assert not unlisted & {terms_of(row) for row in here.rows("raw/contracts")}


async def test_a_service_that_knows_no_contract_at_all_is_not_believed(here: Place) -> None:
    everything = {"instruments": ["option"], "requests": ["contract_details"]}
    await here.fault(fault="error", code=200, **everything)
    run = await here.discover()
    assert (run.status, run.failed) == ("failed", 3)
    assert here.rows("ops/contract_lookups") == here.rows("raw/contracts") == []
    await here.clear()
    assert (await here.discover()).status == "ok"
    assert here.frozen() == here.listed()


# -- answers in words that make none -----------------------------------------------------------------------------------


@pytest.mark.parametrize("symbol", ["", "AAPL NOV 20 '26 77 Call"], ids=["empty", "words"])
async def test_one_contract_that_is_described_badly_is_named_and_costs_no_other(
    here: Place, monkeypatch: pytest.MonkeyPatch, symbol: str
) -> None:
    bad = min(here.listed(symbol="MSFT"))
    monkeypatch.setattr(lookup, "_option", described_badly(bad, symbol))
    run = await here.discover()
    assert here.frozen() == here.listed() - {bad}
    assert (run.status, run.failed) == ("partial", 1)
    (error,) = here.rows("ops/errors", "error_type = 'malformed_answer'")
    assert error["conid"] == bad
    assert f"IB describes contract {bad} in words that make none" in error["message"]
    # It is neither taken for unlisted nor remembered: once it is described well it joins.
    monkeypatch.undo()
    await here.discover(mode="refresh")
    assert here.frozen() == here.listed()


def described_badly(conid: int, symbol: str) -> Callable[..., Any]:
    read = lookup._option

    def answer(spec: OptionSpec, contract: Any) -> Any:
        if contract.conId == conid:
            contract.localSymbol = symbol
        return read(spec, contract)

    return answer


async def test_one_chain_that_is_described_badly_is_named_and_its_last_set_used_again(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.discover()
    of_msft = {row["conid"] for row in here.rows("raw/contracts", "underlying = 'MSFT'")}
    expired = {row["conid"] for row in here.rows("raw/contracts") if row["expiry"] == DAY.trade_date}
    await here.session.step_clock(NEXT.at(time(9, 25)))
    described = ChainParameters.described

    def badly(exchange: str, trading_class: str, multiplier: str, *unions: Any) -> ChainParameters:
        return described(exchange, trading_class, "abc" if trading_class == "MSFT" else multiplier, *unions)

    monkeypatch.setattr(ChainParameters, "described", badly)
    run = await here.discover(NEXT)
    assert (run.status, run.failed) == ("partial", 1)
    (error,) = here.rows("ops/errors", "error_type = 'malformed_answer'")
    assert "class 'MSFT' on 'SMART' has a multiplier of 'abc'" in error["message"]
    again = {row["conid"]: row for row in here.rows("raw/contracts", f"trade_date = date '{NEXT.trade_date}'")}
    assert {conid for conid, row in again.items() if row["discovered_on"] < NEXT.trade_date} == of_msft - expired
    assert again.keys() >= here.listed(NEXT, symbol="AAPL") | here.listed(NEXT, symbol="NVDA")


# -- when there is no new set ------------------------------------------------------------------------------------------


async def test_where_discovery_fails_the_last_set_is_used_again_without_what_has_expired(here: Place) -> None:
    await here.discover()
    of_msft = {row["conid"]: row for row in here.rows("raw/contracts", "underlying = 'MSFT'")}
    expired = {conid for conid, row in of_msft.items() if row["expiry"] == DAY.trade_date}
    await here.session.step_clock(NEXT.at(time(9, 25)))
    await here.fault(fault="error", code=321, requests=["option_parameters"], symbols=["MSFT"])
    run = await here.discover(NEXT)
    again = {row["conid"]: row for row in here.rows("raw/contracts", f"trade_date = date '{NEXT.trade_date}'")}
    stale = {conid for conid, row in again.items() if row["discovered_on"] < NEXT.trade_date}
    assert stale == of_msft.keys() - expired
    assert again.keys() - stale == here.listed(NEXT, symbol="AAPL") | here.listed(NEXT, symbol="NVDA")
    assert {again[conid]["discovered_on"] for conid in stale} == {DAY.trade_date}
    assert (run.status, run.failed) == ("partial", 1)
    assert run.message is not None
    assert run.message.startswith("discovery_stale: the last frozen set is used again for MSFT (no_answer)")
    errors = here.rows("ops/errors")
    assert "discovery_stale" in {row["error_type"] for row in errors}
    # What IB said is kept.
    (refused,) = [row for row in errors if row["error_type"] == "no_answer"]
    assert refused["message"].startswith("IB did not give the option chain of MSFT: error 321, ")
    # Its rows say so.
    await here.session.step_clock(NEXT.slots[0].sample_time + timedelta(minutes=1))
    await capture_slot(
        StepContext(here.lake, NEXT, UNIVERSE, here.settings, "manual"), here.session, NEXT.slots[0], "intraday"
    )
    flagged = {row["conid"] for row in here.rows("raw/option_quotes") if "discovery_stale" in row["data_quality_flag"]}
    assert flagged == stale
    # What IB answers later is added.
    await here.clear()
    later = await here.discover(NEXT)
    assert here.frozen(NEXT) >= here.listed(NEXT)
    assert later.captured == len(here.listed(NEXT, symbol="MSFT") - stale)


async def test_without_a_broker_the_last_set_is_used_again_but_not_for_ever(here: Place) -> None:
    await here.discover()
    unexpired = {row["conid"] for row in here.rows("raw/contracts") if row["expiry"] > DAY.trade_date}
    day, statuses = DAY, []
    for _ in range(6):
        day = next_session(day.trade_date)
        run = reuse_last_frozen(
            StepContext(here.lake, day, UNIVERSE, here.settings, "manual"), HostClock(), "the gateway is away"
        )
        statuses.append((run.status, bool(here.frozen(day))))
        if day == NEXT:
            assert here.frozen(day) == unexpired
    assert statuses == [("partial", True)] * 5 + [("failed", False)]
    # Once more changes nothing.
    count = len(here.rows("raw/contracts"))
    reuse_last_frozen(
        StepContext(here.lake, NEXT, UNIVERSE, here.settings, "manual"), HostClock(), "the gateway is away"
    )
    assert len(here.rows("raw/contracts")) == count


async def test_what_ib_has_disowned_since_is_asked_about_again(here: Place) -> None:
    await here.discover()
    gone = min(here.frozen())
    await here.session.step_clock(DAY.slots[1].sample_time)
    run = Run("snapshot", DAY.trade_date, "manual", here.session.clock.now())
    run.error("ib_error", "No security definition", here.session.clock.now(), 200, gone)
    run.record(here.lake, here.session.clock, here.settings.state.dir)
    await here.session.step_clock(DAY.slots[2].sample_time)
    await here.discover(mode="refresh")
    asked_again = [row for row in here.rows("ops/contract_lookups") if row["asked_at"] == DAY.slots[2].sample_time]
    assert gone in {row["conid"] for row in asked_again}
