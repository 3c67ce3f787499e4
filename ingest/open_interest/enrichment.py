"""Open interest of a session: observed on the morning after it, and again until each contract shows the session's own.

At the next publication IB shows the next session's. What is still missing then is taken from what that session's own
snapshots showed, and where they showed nothing it is missing for good.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

import structlog

from ingest.broker import BrokerPool, BrokerSession
from ingest.calendar.clock import Clock
from ingest.calendar.sessions import NEW_YORK, new_york, next_session, previous_session
from ingest.capture import CaptureEngine, CaptureRules, Outcome, QuoteRequest
from ingest.capture.accounting import account
from ingest.capture.readiness import OPTION_TICKS, open_interest_ready
from ingest.context import StepContext
from ingest.contracts import OptionContract, Underlying, contract_from_row
from ingest.errors import BrokerUnreachable, UsageError
from ingest.open_interest.freshness import Evidence, described_sessions
from ingest.runs import Run
from ingest.settings import Settings
from lake.reads import InterestBefore, Reader, reader
from lake.store import Lake
from lake.vocabulary import Method

log = structlog.get_logger(__name__)

TABLE = "raw/open_interest"
FROZEN = 2
# What a crash can lose. At IB's 50 messages a second it is three and a half minutes.
CONTRACTS_A_COMMIT = 5_000
# A scheduled run can start a little early.
EARLY = timedelta(minutes=1)
# A contract without a snapshot of the day: what it traded is not known.
UNKNOWN = InterestBefore(None, 0, whole=False)
# After it a number that is missing is a breach; before it the number is pending.
LAST_ATTEMPT_TAKES = timedelta(minutes=30)


def first_attempt_at(trade_date: date, settings: Settings) -> datetime:
    """The first instant at which the open interest of a session is asked for."""
    morning = (
        next_session(trade_date).trade_date
        if settings.enrichment.on == "next_session"
        else trade_date + timedelta(days=1)
    )
    return new_york(morning, settings.schedule.enrichment_at)


def attempts_at(trade_date: date, settings: Settings) -> list[datetime]:
    """When the open interest of a session is asked for: first on time, and later on the next session's morning."""
    morning = next_session(trade_date)
    return [
        first_attempt_at(trade_date, settings),
        *(morning.at(clock_time) for clock_time in settings.enrichment.repeat_at),
    ]


def filled_by(settings: Settings) -> time:
    """The New York clock time of the next session by which the last attempt at open interest is over."""
    last = max((settings.schedule.enrichment_at, *settings.enrichment.repeat_at))
    end = datetime.combine(date.min, last) + LAST_ATTEMPT_TAKES
    return end.time() if end.date() == date.min else time.max.replace(microsecond=0)


def published_at(trade_date: date, settings: Settings) -> datetime:
    """When the open interest of a session is expected to be shown; until then it is that of the session before."""
    return next_session(trade_date).at(settings.enrichment.oi_published_at)


def superseded_at(trade_date: date, settings: Settings) -> datetime:
    """When IB may begin to show the next session's open interest instead."""
    return first_attempt_at(next_session(trade_date).trade_date, settings)


def is_last_attempt(trade_date: date, now: datetime, settings: Settings) -> bool:
    """Whether no later attempt is scheduled: what a run of `now` leaves open stays open."""
    return now + EARLY >= max(attempts_at(trade_date, settings))


def is_missing(lake: Lake, trade_date: date, universe: Sequence[Underlying]) -> bool:
    """Whether any open interest of the frozen contracts of a date may still come."""
    with reader(lake) as reads:
        return bool(_missing(reads, trade_date, universe, _observed(reads, trade_date)))


async def enrich(
    context: StepContext,
    broker: BrokerSession | BrokerPool,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> Run:
    """Observe the open interest of the listed contracts of a session that have none yet; one row per contract asked.

    Each contract is dated by itself, on the evidence of its chain (`described_sessions`); an observation that may be of
    the older session is kept, does not fill the day, and is asked for again until the last attempt. After the next
    publication IB is not asked any more (see `last_resort`). Raises UsageError before the first attempt's time,
    BrokerUnreachable when the connection is lost and does not come back.
    """
    lake, settings, day = context.lake, context.settings, context.trading_session.trade_date
    session = BrokerPool.of(broker)
    now = session.clock.now()
    _check_time(day, settings, now)
    await session.reconnect(settings.ib.reconnect_s)
    lake.require_origin(session.origin)
    with reader(lake) as reads:
        if not reads.frozen_conids(day):
            raise UsageError(f"no contracts of {day} are in the lake: there is nothing to fill")
        known = _known(reads, context)
    if known.missing and now >= superseded_at(day, settings):
        run = last_resort(context, session.clock)
        assert run is not None, "something is missing, and it is late enough"
        return run
    # What has expired since is not listed any more: IB could only answer that it does not exist.
    today = now.astimezone(NEW_YORK).date()
    asked = [contract for contract in known.missing if contract.last_trade_date >= today]
    run = context.begin("enrichment", now)
    run.tell_damage(reads.damage, now)
    run.claim(lake)
    run.watch(session)
    session.use_market_data_type(FROZEN)
    writer = _Writer(context, run, known, "enrichment", is_last_attempt(day, now, settings))
    rules = CaptureRules(timeout_s=settings.enrichment.patience_s, retries=0, ends_at=superseded_at(day, settings))
    outcomes, lost = await _observe(
        asked, lambda: CaptureEngine(session, session.pace(settings.acquisition), rules, on_outcome), writer
    )
    account(run, outcomes, None, session)
    run.failed = sum(_interest(outcome) is None for outcome in outcomes)
    run.captured = run.asked - run.failed
    writer.conclude(session.clock, len(asked), len(known.missing) - len(asked))
    if lost:
        raise BrokerUnreachable(f"the connection to {session.address} was lost: run the same command again")
    return run


async def _observe(
    asked: Sequence[OptionContract], engine_of_portion: Callable[[], CaptureEngine], writer: "_Writer"
) -> tuple[list[Outcome], bool]:
    """Ask for contracts and write what is shown, portion by portion; whether the connection was lost on the way."""
    outcomes: list[Outcome] = []
    for portion in _portions(asked):
        engine = engine_of_portion()
        found = await engine.capture([QuoteRequest(one, OPTION_TICKS, open_interest_ready) for one in portion])
        outcomes += found
        writer.write(map(_observation, found))
        if engine.lost:
            return outcomes, True
    return outcomes, False


def _check_time(day: date, settings: Settings, now: datetime) -> None:
    first = first_attempt_at(day, settings)
    if now < first:
        raise UsageError(
            f"open interest of {day} is due from {first.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York, and it is "
            f"{now.astimezone(NEW_YORK):%Y-%m-%d %H:%M} there: run it then"
        )


def last_resort(context: StepContext, clock: Clock) -> Run | None:
    """Fill what a session has no open interest of from what the next session's snapshots showed; give up the rest.

    What is given up gets an error row whose method is next_session_snapshot: the flag `oi_enrichment_failed` means it.
    None when nothing is missing, or it is too early: IB may still show it.
    """
    day = context.trading_session.trade_date
    now = clock.now()
    if now < superseded_at(day, context.settings):
        return None
    with reader(context.lake) as reads:
        if not _missing(reads, day, context.universe, _observed(reads, day)):
            return None
        known = _known(reads, context)
        shown = reads.shown_interest(next_session(day).trade_date)
    run = context.begin("enrichment", now)
    run.claim(context.lake)
    observations = [
        _Observation(contract, *shown[contract.conid])
        if contract.conid in shown
        else _Observation(contract, None, now, _why_never(contract, day))
        for contract in known.missing
    ]
    writer = _Writer(context, run, known, "next_session_snapshot", last=True)
    writer.write(observations)
    run.asked, run.captured, run.failed = len(observations), writer.filled, len(observations) - writer.filled
    writer.conclude(clock, len(observations), 0)
    return run


def _why_never(contract: OptionContract, day: date) -> str:
    if contract.last_trade_date < next_session(day).trade_date:
        return "it had expired before the open interest was published"
    return "the snapshots of the next session showed none"


# -- what is known and what is missing ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Known:
    """What the lake knows of a session's open interest: contracts without any, and evidence about the others."""

    missing: list[OptionContract]
    before: Mapping[int, InterestBefore]
    settled: Mapping[str, list[Evidence]]


def _known(reads: Reader, context: StepContext) -> _Known:
    day = context.trading_session.trade_date
    # Without evidence of the session before, the clock dates what is shown.
    unknown: dict[int, InterestBefore] = {}
    before = reads.spared(
        lambda: reads.interest_before(day, previous_session(day).trade_date, context.trading_session.close), unknown
    )
    observed = _observed(reads, day)
    settled: dict[str, list[Evidence]] = {}
    for conid, (underlying, interest) in observed.items():
        if interest is not None and conid in before:
            settled.setdefault(underlying, []).append(
                Evidence(before[conid].open_interest, interest, *before[conid][1:])
            )
    return _Known(_missing(reads, day, context.universe, observed), before, settled)


def _observed(reads: Reader, day: date) -> dict[int, tuple[str, int | None]]:
    none: dict[int, tuple[str, int | None]] = {}
    return reads.spared(lambda: reads.settled_open_interest(day), none)


def _missing(
    reads: Reader, trade_date: date, universe: Sequence[Underlying], settled: Container[int]
) -> list[OptionContract]:
    """The frozen contracts without a settled observation, neighbours of a chain side by side."""
    symbols = {underlying.symbol for underlying in universe}
    rows = {row["conid"]: row for row in reads.contracts(trade_date) if row["underlying"] in symbols}
    return sorted(
        (contract_from_row(row) for conid, row in rows.items() if conid not in settled),
        key=lambda contract: (contract.underlying, contract.expiry, contract.strike, contract.right),
    )


def _portions(contracts: Sequence[OptionContract]) -> Iterator[list[OptionContract]]:
    """Pieces that are committed by themselves: whole underlyings, as a chain is dated by all of its evidence."""
    portion: list[OptionContract] = []
    for contract in contracts:
        if len(portion) >= CONTRACTS_A_COMMIT and contract.underlying != portion[-1].underlying:
            yield portion
            portion = []
        portion.append(contract)
    if portion:
        yield portion


# -- observations ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Observation:
    """What was seen of one contract: a value, or why there is none."""

    contract: OptionContract
    open_interest: int | None
    observed_at: datetime
    reason: str | None = None
    code: int | None = None


def _interest(outcome: Outcome) -> int | None:
    return outcome.quote.open_interest if outcome.quote else None


def _observation(outcome: Outcome) -> _Observation:
    contract, interest, failure = outcome.request.contract, _interest(outcome), outcome.failure
    assert isinstance(contract, OptionContract)
    observed_at = outcome.asof or outcome.requested_at
    if interest is not None:
        return _Observation(contract, interest, observed_at)
    reason = failure.message if failure else "quotes came, but no open interest"
    return _Observation(contract, None, observed_at, reason, failure.code if failure else None)


class _Writer:
    """Dates the observations of a run and appends them; `filled` counts those that fill the day."""

    def __init__(self, context: StepContext, run: Run, known: _Known, method: Method, last: bool) -> None:
        self._context, self._run, self._known, self._method, self._last = context, run, known, method, last
        self.filled = self._observed = 0

    def write(self, observations: Iterable[_Observation]) -> None:
        """Append one row per observation."""
        observations = list(observations)
        day = self._run.trade_date
        published = published_at(day, self._context.settings)
        chains: dict[str, dict[int, Evidence]] = {}
        for one in observations:
            if one.open_interest is not None:
                before = self._known.before.get(one.contract.conid, UNKNOWN)
                chains.setdefault(one.contract.underlying, {})[one.contract.conid] = Evidence(
                    before.open_interest, one.open_interest, before.volume, before.whole, one.observed_at >= published
                )
        described = described_sessions(day, chains, self._last, self._known.settled)
        rows = [
            _row(one, described.get(one.contract.conid), self._run, self._method, self._context.lake.origin)
            for one in observations
        ]
        self._run.append(self._context.lake, TABLE, rows)
        self.filled += sum(session == day for session in described.values())
        self._observed += len(described)

    def conclude(self, clock: Clock, asked: int, expired: int) -> None:
        """Record the run."""
        run, unsettled = self._run, self._observed - self.filled
        run.status = "ok" if self.filled == asked else "partial"
        run.message = f"{self.filled:,} of {asked:,} filled"
        if unsettled:
            run.message += f"; {unsettled:,} may still show the session before"
        if expired:
            run.message += f"; {expired:,} have expired"
        run.record(self._context.lake, clock, self._context.state)
        log.info(
            "open_interest_observed",
            trade_date=str(run.trade_date),
            method=self._method,
            asked=asked,
            filled=self.filled,
            unsettled=unsettled,
            failed=run.failed,
        )


def _row(one: _Observation, described: date | None, run: Run, method: Method, origin: str) -> dict[str, Any]:
    interest, reason = one.open_interest, one.reason
    if described is not None and method == "next_session_snapshot" and described < run.trade_date:
        # Nobody else will tell any more: the value of an older session is in the snapshots already.
        interest, reason = None, f"the snapshots of the next session still showed that of {described}"
    return {
        "trade_date": run.trade_date,
        "oi_asof_date": described if interest is not None else None,
        "conid": one.contract.conid,
        "underlying": one.contract.underlying,
        "open_interest": interest,
        "observed_at": one.observed_at,
        "ingest_id": run.ingest_id,
        "method": method,
        "snapshot_error": interest is None,
        "error_code": one.code,
        "error_message": reason,
        "source": origin,
    }
