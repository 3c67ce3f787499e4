"""Discovery: the contract set of a session, frozen before the open."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from ingest.broker import BrokerSession
from ingest.capture.engine import Ask, CaptureEngine
from ingest.capture.pacing import Pace
from ingest.capture.readiness import previous_close_ready
from ingest.capture.rows import contract_columns
from ingest.capture.snapshot import contract_of
from ingest.contracts import ChainParameters, OptionContract, OptionSpec, Underlying
from ingest.errors import UsageError
from ingest.runs import Run, Trigger
from ingest.selection import candidates, wants_expiry, wants_strike
from ingest.sessions import Session
from ingest.settings import Settings
from lake.reads import reader
from lake.store import Lake

log = structlog.get_logger(__name__)

QUALIFY_AT_ONCE = 100


async def discover(
    lake: Lake,
    session: BrokerSession,
    trading_session: Session,
    universe: Sequence[Underlying],
    part: str,
    settings: Settings,
    trigger: Trigger,
    on_underlying: Callable[[str, int], None] = lambda symbol, contracts: None,
) -> Run:
    """Freeze the contracts of `universe` for a session, and store the session's slots.

    `part` names what is asked for in ``ops/runs.batch``: "all", or the symbols that a user chose.
    An underlying that is frozen already stays as it is: running it twice changes nothing, and a run that was killed
    goes on with the underlyings it had not reached. Raises UsageError for a symbol that IB does not know.
    """
    lake.require_origin(session.origin)
    store_session(lake, trading_session)
    run = Run("discover", trading_session.trade_date, trigger, session.clock.now(), batch=part)
    run.watch(session)
    with reader(lake) as reads:
        frozen = {row["underlying"] for row in reads.contracts(trading_session.trade_date)}
    todo = [underlying for underlying in universe if underlying.symbol not in frozen]
    if todo:
        session.use_market_data_type(settings.ib.market_data_type)
        pace = Pace(settings)
        known = await _known_underlyings(session, todo, pace, run)
        references = await _reference_prices(lake, session, trading_session, known, pace, settings)
        for underlying in known:
            price = references.get(underlying.symbol)
            await _freeze(lake, session, trading_session, underlying, price, pace, settings, run)
            on_underlying(underlying.symbol, run.captured)
    run.asked = run.captured + run.failed
    run.count_messages(session)
    if run.failed:
        run.status = "partial" if run.captured or frozen else "failed"
    run.record(lake, session.clock, Path(settings.state.dir))
    log.info("discovered", trade_date=str(trading_session.trade_date), contracts=run.captured, failed=run.failed)
    return run


def store_session(lake: Lake, trading_session: Session) -> None:
    """Append the slots of a session to ``raw/sessions``, once."""
    rows = [
        {
            "trade_date": slot.trade_date,
            "slot_30m": slot.slot_30m,
            "sample_time": slot.sample_time,
            "is_close": slot.is_close,
            "is_pre_close": slot.is_pre_close,
            "window_end": slot.window_end,
        }
        for slot in trading_session.slots
    ]
    lake.append("raw/sessions", rows, f"sessions/{trading_session.trade_date}/-/-", 1)


async def _known_underlyings(
    session: BrokerSession, underlyings: Sequence[Underlying], pace: Pace, run: Run
) -> list[Underlying]:
    known = await _qualified(session, underlyings, pace)
    symbols = {underlying.symbol for underlying in known}
    # A conid in the universe file can be outdated; the symbol is what the user meant.
    outdated = [replace(u, conid=None) for u in underlyings if u.conid and u.symbol not in symbols]
    for underlying in await _qualified(session, outdated, pace):
        log.warning("outdated_conid", symbol=underlying.symbol, conid=underlying.conid)
        known.append(underlying)
    unknown = [u.symbol for u in underlyings if u.symbol not in {k.symbol for k in known}]
    if unknown and not known:
        raise UsageError(f"IB knows no stock {', '.join(unknown)}: check --symbols and the universe file")
    for symbol in unknown:
        log.warning("unknown_symbol", symbol=symbol)
        run.failed += 1
        run.error("unknown_symbol", f"IB knows no stock {symbol}", session.clock.now(), 200)
        run.message = f"unknown symbols: {', '.join(unknown)}"
    return known


async def _qualified(session: BrokerSession, underlyings: Sequence[Underlying], pace: Pace) -> list[Underlying]:
    known: list[Underlying] = []
    for start in range(0, len(underlyings), QUALIFY_AT_ONCE):
        chunk = underlyings[start : start + QUALIFY_AT_ONCE]
        for _ in chunk:
            await pace.message()
        known += await session.qualify_underlyings(chunk)
    return known


async def _reference_prices(
    lake: Lake,
    session: BrokerSession,
    trading_session: Session,
    underlyings: Sequence[Underlying],
    pace: Pace,
    settings: Settings,
) -> dict[str, float]:
    """Previous closes by symbol: tick 9, else the lake's last close. Never by history requests."""
    ready = previous_close_ready(settings.acquisition.greeks_patience_s)
    engine = CaptureEngine(
        session, pace, timeout_s=settings.acquisition.contract_timeout_s, retries=settings.acquisition.retries
    )
    prices: dict[str, float] = {}
    for outcome in await engine.capture([Ask(underlying, "", ready) for underlying in underlyings]):
        price = outcome.quote and (outcome.quote.close or outcome.quote.last)
        if price and isinstance(outcome.ask.contract, Underlying):
            prices[outcome.ask.contract.symbol] = price
    with reader(lake) as reads:
        for underlying in underlyings:
            if underlying.symbol not in prices and (
                close := reads.last_close(underlying.symbol, trading_session.trade_date)
            ):
                prices[underlying.symbol] = close
    return prices


async def _freeze(
    lake: Lake,
    session: BrokerSession,
    trading_session: Session,
    underlying: Underlying,
    reference_price: float | None,
    pace: Pace,
    settings: Settings,
    run: Run,
) -> None:
    """Freeze one underlying: candidates of its chain, qualified in bulk, committed as one append."""
    now = session.clock.now()
    if reference_price is None:
        run.failed += 1
        run.error("no_reference_price", f"no previous close of {underlying.symbol}", now, conid=underlying.conid)
        return
    await pace.message()
    chain = await session.option_chain(underlying)
    contracts = await _listed(lake, session, trading_session, underlying, chain, reference_price, pace, settings)
    if not contracts:
        run.failed += 1
        run.error(
            "no_contracts", f"{underlying.symbol} has no contracts inside the filters", now, conid=underlying.conid
        )
        return
    slot = trading_session.slot_at(now)
    # What joins a running session is asked from its current slot on; before the open, from the first.
    first_seen = slot.slot_30m if slot else 0
    rows = [
        {
            "trade_date": trading_session.trade_date,
            **contract_columns(contract),
            "reference_price": reference_price,
            "frozen_at": now,
            "first_seen_slot": first_seen,
            "ingest_id": run.ingest_id,
            "source": session.origin,
        }
        for contract in contracts
    ]
    app_id = f"discover/{trading_session.trade_date}/-/{underlying.symbol}"
    lake.append("raw/contracts", rows, app_id, 1 + lake.last_attempt("raw/contracts", app_id))
    run.captured += len(rows)


async def _listed(
    lake: Lake,
    session: BrokerSession,
    trading_session: Session,
    underlying: Underlying,
    chain: Sequence[ChainParameters],
    reference_price: float,
    pace: Pace,
    settings: Settings,
) -> list[OptionContract]:
    """The contracts that are really listed among the candidates; those of the last days need no question."""
    day, filters = trading_session.trade_date, settings.filters
    with reader(lake) as reads:
        cached = {_spec_key(c): c for c in map(contract_of, reads.recent_contracts(underlying.symbol, day))}
    contracts: list[OptionContract] = []
    unknown: list[OptionSpec] = []
    for spec in candidates(underlying.symbol, chain, day, reference_price, filters):
        known = cached.get((spec.trading_class, spec.last_trade_date, spec.right, spec.strike, float(spec.multiplier)))
        if known:
            contracts.append(known)
        else:
            unknown.append(spec)
    for start in range(0, len(unknown), QUALIFY_AT_ONCE):
        chunk = unknown[start : start + QUALIFY_AT_ONCE]
        for _ in chunk:
            await pace.message()
        contracts += await session.qualify_options(chunk)
    # The filter speaks of what is listed: the OCC expiry is known only now.
    return [
        contract
        for contract in contracts
        if wants_expiry(contract.expiry, day, filters) and wants_strike(contract.strike, reference_price, filters)
    ]


def _spec_key(contract: OptionContract) -> tuple[str, object, str, float, float]:
    return (
        contract.trading_class,
        contract.last_trade_date,
        contract.right,
        contract.strike,
        contract.multiplier,
    )
