"""Discovery: the contract set of a session, qualified from 04:00 on and frozen before the open."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import structlog

from ingest.broker import BrokerPool, BrokerSession, RequestError
from ingest.calendar.clock import Clock
from ingest.calendar.sessions import Session
from ingest.capture import CaptureEngine, CaptureRules, QuoteRequest
from ingest.capture.readiness import previous_close_ready
from ingest.context import StepContext
from ingest.contracts import ChainParameters, OptionContract, OptionSpec, Underlying
from ingest.discovery.concurrency import each
from ingest.discovery.contract_cache import ContractCache, combination
from ingest.discovery.frozen_set import Found, FrozenSet
from ingest.discovery.qualification import Qualifier
from ingest.discovery.selection import candidates, wants
from ingest.errors import BrokerUnreachable, MalformedAnswer, UsageError
from ingest.runs import Run
from ingest.settings import Settings
from lake.reads import Reader, reader
from lake.store import Lake
from lake.vocabulary import ErrorType, Step

log = structlog.get_logger(__name__)

# prewarm asks and freezes nothing, so that freezing has little left to ask; refresh adds to what is frozen.
Mode = Literal["freeze", "prewarm", "refresh"]
STEPS: dict[Mode, Step] = {"freeze": "discover", "prewarm": "prewarm", "refresh": "refresh"}
# Enough that no one waits for the answer to a single question; few, so that underlyings are finished in their order.
UNDERLYINGS_AT_ONCE = 8
CHAIN_TRIES = 3


@dataclass(frozen=True, slots=True)
class Discovered:
    """An underlying is done: `contracts` of it are inside the filters, for which `asked` questions were needed."""

    symbol: str
    number: int
    of: int
    contracts: int
    asked: int


class _NothingFound(Exception):
    """Why an underlying has no contracts."""

    def __init__(self, kind: ErrorType, message: str) -> None:
        super().__init__(message)
        self.kind = kind


async def discover(
    context: StepContext,
    broker: BrokerSession | BrokerPool,
    on_underlying: Callable[[Discovered], None] = lambda discovered: None,
    mode: Mode = "freeze",
) -> Run:
    """Freeze the contracts of the context's universe for its session, and store the session's slots.

    What is frozen stays: an underlying that is frozen already is left alone, or with `mode` refresh added to; one whose
    last frozen set had to be used again (`discovery_stale`) is added to in any case. A run that was killed goes on
    where it was. Raises UsageError when IB knows none of the symbols; BrokerUnreachable when the connection is lost and
    does not come back, after writing what was found until then.
    """
    lake, trading_session, session = context.lake, context.trading_session, BrokerPool.of(broker)
    lake.require_origin(session.origin)
    if mode != "prewarm":
        store_session(lake, trading_session)
    run = context.begin(STEPS[mode], session.clock.now(), batch=context.part)
    run.claim(lake)
    run.watch(session)
    with reader(lake) as reads, _recorded(run, context, session):
        frozen = FrozenSet(lake, reads, trading_session, run)
        done = frozen.underlyings - frozen.stale if mode == "freeze" else set()
        todo = [underlying for underlying in context.universe if underlying.symbol not in done]
        if todo:
            await _Discovery(context, session, run, reads, frozen, mode).run(todo, on_underlying)
        run.tell_damage(reads.damage, session.clock.now())
        if run.failed:
            run.status = "partial" if run.captured or done else "failed"
    return run


def reuse_last_frozen(context: StepContext, clock: Clock, reason: str) -> Run:
    """Freeze the last set of what has none for a session, as no broker can be asked; the run's message says so."""
    lake = context.lake
    store_session(lake, context.trading_session)
    run = context.begin(STEPS["freeze"], clock.now(), batch=context.part)
    with reader(lake) as reads:
        frozen = FrozenSet(lake, reads, context.trading_session, run)
        missing = [underlying.symbol for underlying in context.universe if underlying.symbol not in frozen.underlyings]
        _reuse(frozen, missing, run, context.settings, clock.now(), reason)
        frozen.flush()
    run.failed += len(missing)
    run.asked = run.captured + run.failed
    run.status = "partial" if run.captured or not missing else "failed"
    run.record(lake, clock, context.state)
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


def _reuse(frozen: FrozenSet, symbols: Sequence[str], run: Run, settings: Settings, now: datetime, reason: str) -> None:
    reused = frozen.reuse(symbols, settings.discovery.stale_sessions, now)
    if reused:
        run.message = f"discovery_stale: the last frozen set is used again for {', '.join(sorted(reused))} ({reason})"
        run.error("discovery_stale", run.message, now)
        log.warning(
            "discovery_stale",
            trade_date=str(run.trade_date),
            underlyings=sorted(reused),
            contracts=sum(reused.values()),
            reason=reason,
        )


@contextmanager
def _recorded(run: Run, context: StepContext, session: BrokerPool) -> Iterator[None]:
    """Record the run however it ends, unless it was wrong usage."""
    try:
        yield
    except UsageError:
        raise
    except BaseException as failure:
        run.status = "partial" if run.captured else "failed"
        run.message = str(failure) or type(failure).__name__
        _record(run, context, session)
        raise
    _record(run, context, session)


def _record(run: Run, context: StepContext, session: BrokerPool) -> None:
    run.asked = run.asked or run.captured + run.failed
    run.count_messages(session)
    run.record(context.lake, session.clock, context.state)


class _Discovery:
    """One discovery over the connections to one gateway."""

    def __init__(
        self,
        context: StepContext,
        session: BrokerPool,
        run: Run,
        reads: Reader,
        frozen: FrozenSet,
        mode: Mode,
    ) -> None:
        self._session, self._settings = session, context.settings
        self._run, self._reads, self._frozen, self._mode = run, reads, frozen, mode
        settings = context.settings
        self._qualifier = Qualifier(session, settings)
        self._cache = ContractCache(
            context.lake, reads, run.trade_date, run.ingest_id, settings.discovery.unlisted_sessions
        )
        self._done = self._inside = self._asked = self._listed = 0
        self._not_found: dict[str, str] = {}

    async def run(self, underlyings: Sequence[Underlying], on_underlying: Callable[[Discovered], None]) -> None:
        try:
            self._session.use_market_data_type(self._settings.ib.market_data_type)
            known = await self._known(underlyings)
            prices = await self._reference_prices(known)

            async def find(underlying: Underlying) -> None:
                contracts, asked = await self._underlying(underlying, prices.get(underlying.symbol))
                self._done += 1
                on_underlying(Discovered(underlying.symbol, self._done, len(known), contracts, asked))

            await each(known, find, UNDERLYINGS_AT_ONCE)
            if self._mode == "freeze":
                self._reuse_for_not_found()
        finally:
            # Also when it is cancelled or the connection lost: what was found and answered is not asked again.
            self._qualifier.stop()
            self._frozen.flush()
            self._cache.flush()
            self._conclude()

    def _conclude(self) -> None:
        asked = f"{self._asked:,} combinations asked, {self._listed:,} of them listed"
        self._run.message = f"{self._run.message}; {asked}" if self._run.message else asked
        self._run.measures |= {"questions": self._asked, "listed": self._listed}
        if self._mode == "prewarm":
            self._run.asked, self._run.captured = self._asked, self._listed
        log.info(
            "discovered",
            mode=self._mode,
            trade_date=str(self._run.trade_date),
            underlyings=self._done,
            inside=self._inside,
            frozen=self._run.captured,
            failed=self._run.failed,
            asked=self._asked,
            listed=self._listed,
        )

    def _reuse_for_not_found(self) -> None:
        if self._not_found:
            kinds = ", ".join(sorted(set(self._not_found.values())))
            now = self._session.clock.now()
            _reuse(self._frozen, list(self._not_found), self._run, self._settings, now, kinds)

    def _failed(self, underlying: Underlying, kind: ErrorType, message: str) -> None:
        log.warning(kind, symbol=underlying.symbol, reason=message)
        self._run.failed += 1
        self._run.error(kind, message, self._session.clock.now(), conid=underlying.conid)
        self._not_found[underlying.symbol] = kind

    # -- underlyings -------------------------------------------------------------------------------------------------

    async def _known(self, underlyings: Sequence[Underlying]) -> list[Underlying]:
        """Those that IB knows, with their conid, in order."""
        known: dict[str, Underlying] = {}

        def answered(asked: Underlying, answer: Underlying | None) -> None:
            if answer is not None:
                known[asked.symbol] = answer

        unanswered = await self._qualifier.underlyings(underlyings, answered)
        # A conid in the universe file can be outdated; the symbol is what the user meant.
        outdated = [replace(u, conid=None) for u in underlyings if u.conid and u.symbol not in known]
        unanswered += await self._qualifier.underlyings(outdated, answered)
        silent = {one.question.symbol: one.error for one in unanswered}
        for underlying in outdated:
            if underlying.symbol in known:
                log.warning("outdated_conid", symbol=underlying.symbol, conid=known[underlying.symbol].conid)
        unknown = [u for u in underlyings if u.symbol not in known]
        if unknown and not known and not silent:
            raise UsageError(
                f"IB knows no stock {', '.join(u.symbol for u in unknown)}: check --symbols and the universe file"
            )
        for underlying in unknown:
            if underlying.symbol in silent:
                error = silent[underlying.symbol]
                said = f"IB refused to say what {underlying.symbol} is: {error.message}" if error else None
                self._failed(underlying, "no_answer", said or f"IB did not say what {underlying.symbol} is")
            else:
                self._failed(underlying, "unknown_symbol", f"IB knows no stock {underlying.symbol}")
        return [known[u.symbol] for u in underlyings if u.symbol in known]

    async def _reference_prices(self, underlyings: Sequence[Underlying]) -> Mapping[str, float]:
        """Previous closes by symbol: tick 9, else the lake's last close, else the last price; never by history."""
        acquisition = self._settings.acquisition
        rules = CaptureRules(timeout_s=acquisition.contract_timeout_s, retries=acquisition.retries)
        engine = CaptureEngine(self._session, self._session.pace(acquisition), rules)
        ready = previous_close_ready(acquisition.greeks_patience_s)
        prices: dict[str, float] = {}
        last: dict[str, float] = {}
        for outcome in await engine.capture([QuoteRequest(underlying, "", ready) for underlying in underlyings]):
            contract, quote = outcome.request.contract, outcome.quote
            if quote and isinstance(contract, Underlying):
                if quote.close:
                    prices[contract.symbol] = quote.close
                if quote.last:
                    last[contract.symbol] = quote.last
        for underlying in underlyings:
            if underlying.symbol not in prices and (
                price := self._last_close(underlying.symbol) or last.get(underlying.symbol)
            ):
                prices[underlying.symbol] = price
        return prices

    def _last_close(self, symbol: str) -> float | None:
        return self._reads.spared(lambda: self._reads.last_close(symbol, self._run.trade_date), None)

    # -- contracts ---------------------------------------------------------------------------------------------------

    async def _underlying(self, underlying: Underlying, reference_price: float | None) -> tuple[int, int]:
        """Find the contracts of one underlying, and freeze them; how many there are, and how many questions it took."""
        asked_before = self._asked
        try:
            if reference_price is None:
                raise _NothingFound("no_reference_price", f"no previous close of {underlying.symbol}")
            chain = await self._chain(underlying)
            contracts = await self._contracts(underlying, chain, reference_price)
        except MalformedAnswer as reason:
            self._failed(underlying, "malformed_answer", str(reason))
            return 0, self._asked - asked_before
        except _NothingFound as reason:
            self._failed(underlying, reason.kind, str(reason))
            return 0, self._asked - asked_before
        self._inside += len(contracts)
        if self._mode != "prewarm":
            found = Found(underlying.symbol, contracts, reference_price)
            self._frozen.add(found, self._session.clock.now())
        return len(contracts), self._asked - asked_before

    async def _chain(self, underlying: Underlying) -> list[ChainParameters]:
        """The chain's classes on SMART."""
        said = ""
        for _ in range(CHAIN_TRIES):
            async with self._qualifier.turn() as lookup:
                # Lost or left without an answer: the next turn waits for a connection.
                with suppress(BrokerUnreachable):
                    chain = await lookup.option_chain(underlying)
                    if isinstance(chain, RequestError):
                        said = f": error {chain.code}, {chain.message}"
                    elif chain:
                        return chain
        raise _NothingFound("no_answer", f"IB did not give the option chain of {underlying.symbol}{said}")

    async def _contracts(
        self, underlying: Underlying, chain: Sequence[ChainParameters], reference_price: float
    ) -> list[OptionContract]:
        """The listed contracts inside the filters; what is known needs no question."""
        symbol, day, filters = underlying.symbol, self._run.trade_date, self._settings.filters
        known = self._cache.known(symbol)
        contracts: list[OptionContract] = []
        unknown: list[OptionSpec] = []
        for spec in candidates(underlying, chain, day, reference_price, filters):
            key = combination(spec)
            if key not in known:
                unknown.append(spec)
            elif contract := known[key]:
                contracts.append(contract)
        answers = _Answers(self._cache, self._session, contracts)
        unanswered = await self._qualifier.options(unknown, answers.take)
        self._asked += len(unknown)
        self._listed += answers.listed
        self._tell_unanswered(symbol, len(unknown), [one.error for one in unanswered])
        # The filter speaks of what is listed: the OCC expiry is known only now.
        inside = [contract for contract in contracts if wants(contract, day, reference_price, filters)]
        log.info("underlying_discovered", symbol=symbol, contracts=len(inside), asked=len(unknown), known=len(known))
        if not inside:
            raise _NothingFound("no_contracts", f"{symbol} has no contracts inside the filters")
        return inside

    def _tell_unanswered(self, symbol: str, asked: int, errors: Sequence[RequestError | None]) -> None:
        """Record why combinations have no answer: each contract that IB describes badly, else one line to a reason."""
        now = self._session.clock.now()
        for error, count in Counter(errors).items():
            if error is not None and error.conid is not None:
                self._run.failed += 1
                self._run.error("malformed_answer", error.message, now, conid=error.conid)
                continue
            combinations = f"{count:,} of {asked:,} combinations of {symbol}"
            if error is None:
                self._run.error("no_answer", f"{combinations} were left without an answer", now)
            else:
                self._run.error("ib_error", f"{combinations} were refused: {error.message}", now, error.code or None)
        if errors:
            log.warning("combinations_unanswered", symbol=symbol, unanswered=len(errors), asked=asked)


class _Answers:
    """Takes the answers about one underlying.

    That a combination does not exist is remembered only once IB has shown a contract of the underlying: a service that
    knows none of them is out of order, and shall not be believed for days.
    """

    def __init__(self, cache: ContractCache, session: BrokerPool, contracts: list[OptionContract]) -> None:
        self._cache, self._session, self._contracts = cache, session, contracts
        self._unbelieved: list[tuple[OptionSpec, datetime]] = []
        self.listed = 0

    def take(self, spec: OptionSpec, contract: OptionContract | None) -> None:
        now = self._session.clock.now()
        if contract is not None:
            self.listed += 1
            self._contracts.append(contract)
            self._cache.learn(spec, contract, now)
        else:
            self._unbelieved.append((spec, now))
        if self._contracts:
            for unlisted, asked_at in self._unbelieved:
                self._cache.learn(unlisted, None, asked_at)
            self._unbelieved.clear()
