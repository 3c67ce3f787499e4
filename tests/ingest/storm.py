"""A capture with faults in the middle of it, and the simulated gateway's own market as answer sheet."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from ingest.broker import BrokerPool, BrokerSession, Quote
from ingest.calendar.clock import ControlPort
from ingest.calendar.sessions import Session, session_on
from ingest.capture import CaptureEngine, CaptureRules, Outcome, QuoteRequest
from ingest.capture.readiness import option_ready, underlying_ready
from ingest.contracts import OptionContract, Underlying
from ingest.settings import IbSettings, Settings, load
from tws_simulator import GatewayOptions, SimulatedGateway
from tws_simulator.worlds.instruments import Option

_DAY = session_on(date(2026, 11, 20))
assert _DAY is not None
DAY: Session = _DAY
BELL = DAY.slots[0].sample_time + timedelta(minutes=1)
PATIENCE_S = 1.5


@asynccontextmanager
async def gateway(**changes: Any) -> AsyncIterator[SimulatedGateway]:
    """A gateway at one minute after the bell with a stepped clock; small limits, so that a capture takes a moment."""
    options: dict[str, Any] = {
        "port": 0,
        "control_port": 0,
        "symbols": ("AAPL",),
        "at": BELL,
        "speed": 0,
        "lines": 60,
        "messages_per_second": 300,
        "latency_ms": (5, 40),
        "snapshot_seconds": 1.0,
    }
    async with SimulatedGateway(GatewayOptions.model_validate(options | changes)) as started:
        yield started


def settings_for(started: SimulatedGateway, ib: dict[str, Any] | None = None, **acquisition: Any) -> Settings:
    """Settings with short times: a test must not wait for what takes minutes with IB."""
    options = started.options
    return load(
        ib={
            "port": started.port,
            "lines": options.lines,
            "messages_per_second": options.message_rate,
            "connect_timeout_s": 1.0,
            "reconnect_s": 20,
            "heartbeat_s": 0.3,
            "heartbeat_timeout_s": 0.4,
        }
        | (ib or {}),
        acquisition={"greeks_patience_s": PATIENCE_S, "contract_timeout_s": 4, "retries": 1, "outage_probe_s": 0.2}
        | acquisition,
    )


@asynccontextmanager
async def pool_of(ib: IbSettings, connections: int) -> AsyncIterator[BrokerPool]:
    """So many connections: a busy host may take its time to let all in, and only later is nobody waited for."""
    patient = ib.model_copy(update={"connect_timeout_s": 15.0})
    async with BrokerPool.connect(patient, connections) as pool:
        for session in pool.sessions:
            session.settings = session.settings.model_copy(update={"connect_timeout_s": ib.connect_timeout_s})
        yield pool


def contracts(started: SimulatedGateway, count: int, symbol: str = "AAPL") -> list[OptionContract]:
    """The `count` listed options nearest to the money, nearest expiry after today first."""
    world = started.world
    (underlying,) = (one for one in world.underlyings() if one.symbol == symbol)
    price = world.underlying_quote(underlying, BELL).last
    assert price is not None
    listed = [
        option
        for series in world.series(underlying, BELL)
        if series.expiry > DAY.trade_date
        for option in series.options()
    ]
    listed.sort(key=lambda option: (abs(option.strike / price - 1), option.series.expiry))
    return [
        OptionContract(
            option.conid,
            underlying.symbol,
            option.local_symbol,
            option.series.trading_class,
            option.series.expiry,
            option.series.last_trade_date,
            option.right,
            option.strike,
            option.series.multiplier,
            "SMART",
        )
        for option in listed[:count]
    ]


async def run_clock(session: BrokerSession, speed: float) -> None:
    """Let the gateway's clock run from where it stands."""
    assert session.control is not None
    await session.control.call({"op": "speed", "speed": speed})
    session.clock = await session.control.read_clock()


async def sent(session: BrokerSession, messages: int) -> None:
    """Return once so many messages more have been sent: in the middle of a capture, however fast the host is."""
    enough = session.messages + messages
    async with asyncio.timeout(40):
        while session.messages < enough:
            await asyncio.sleep(0.001)


async def strike(control: ControlPort, fault: dict[str, Any] | Callable[[], None]) -> None:
    """Have a fault happen."""
    if callable(fault):
        fault()
    else:
        await control.call({"op": "fault", "fault": fault})


@dataclass
class Captured:
    """What a capture brought, and the engine that brought it."""

    outcomes: list[Outcome]
    engine: CaptureEngine
    pool: BrokerPool
    asked: list[int] = field(default_factory=list)

    @property
    def session(self) -> BrokerSession:
        """The first connection."""
        return self.pool.first

    @property
    def failures(self) -> list[str]:
        """The kind of every failure."""
        return [outcome.failure.kind for outcome in self.outcomes if outcome.failure]


async def capture(
    started: SimulatedGateway,
    asked: Sequence[OptionContract],
    faults: Sequence[tuple[float, dict[str, Any] | Callable[[], None]]] = (),
    *,
    ib: dict[str, Any] | None = None,
    ends_at: datetime | None = None,
    snapshot: bool = False,
    speed: float = 0,
    connections: int = 1,
    **acquisition: Any,
) -> Captured:
    """Capture the underlying and `asked`; each fault strikes once its share of them has an outcome, 0: before.

    A fault is one of a scenario, or what the test itself does.
    """
    settings = settings_for(started, ib, **acquisition)
    before = [fault for share, fault in faults if share <= 0]
    script = sorted(((share, fault) for share, fault in faults if share > 0), key=lambda one: one[0])
    settled = 0
    progress = asyncio.Event()

    def count(_outcome: Outcome) -> None:
        nonlocal settled
        settled += 1
        progress.set()

    async def inject(session: BrokerSession) -> None:
        control = session.control
        assert control is not None
        for share, fault in script:
            while settled < share * len(asked):
                progress.clear()
                await progress.wait()
            await strike(control, fault)

    async with pool_of(settings.ib, connections) as pool:
        session = pool.first
        underlying = started.world.underlyings()[0]
        asks = [QuoteRequest(Underlying(underlying.symbol, underlying.conid), "104,106", underlying_ready(PATIENCE_S))]
        asks += [QuoteRequest(contract, "101", option_ready(PATIENCE_S), snapshot) for contract in asked]
        engine = CaptureEngine(
            pool,
            pool.pace(settings.acquisition),
            CaptureRules(
                timeout_s=settings.acquisition.contract_timeout_s,
                retries=settings.acquisition.retries,
                ends_at=ends_at,
                delayed_fallback=settings.acquisition.delayed_fallback == "auto",
                probe_s=settings.acquisition.outage_probe_s,
            ),
            on_outcome=count,
        )
        assert session.control is not None
        for fault in before:
            await strike(session.control, fault)
        if speed:
            await run_clock(session, speed)
        injecting = asyncio.create_task(inject(session))
        try:
            async with asyncio.timeout(40):
                outcomes = await engine.capture(asks)
        finally:
            injecting.cancel()
        return Captured(outcomes, engine, pool, [ask.conid for ask in asks])


def assert_each_once(captured: Captured) -> None:
    """Outcomes and what was never asked are the contracts, each once."""
    unasked = [ask.conid for ask in captured.engine.unasked]
    assert Counter([o.request.conid for o in captured.outcomes] + unasked) == Counter(captured.asked)


def assert_true_quotes(started: SimulatedGateway, outcomes: Sequence[Outcome]) -> None:
    """Every quote of an option is the one that stood in the gateway's market when it was asked for."""
    for outcome in outcomes:
        if outcome.quote is not None and outcome.request.is_option:
            seen, stood = shown(outcome.quote), standing(started, outcome.request.conid, outcome.requested_at)
            if outcome.quote.delta is None and outcome.latency_s >= PATIENCE_S:
                seen, stood = seen[:-1], stood[:-1]  # a good quote was taken as it was when the patience was over
            assert seen == stood, outcome


def shown(quote: Quote) -> tuple[Any, ...]:
    """What a row shows of a market."""
    return quote.bid, quote.ask, quote.last, quote.volume, None if quote.delta is None else np.float32(quote.delta)


def standing(started: SimulatedGateway, conid: int, instant: datetime) -> tuple[Any, ...]:
    """The same of the gateway's market at an instant; no bid is null."""
    instant = instant.astimezone(UTC)
    option = started.world.by_conid(conid, instant)
    assert isinstance(option, Option)
    quote = started.world.option_quote(option, instant)
    delta = quote.model.delta if quote.model is not None else None
    return quote.bid or None, quote.ask, quote.last, quote.volume, None if delta is None else np.float32(delta)
