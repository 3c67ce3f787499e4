"""Open interest of a session, observed on the morning after it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import structlog

from ingest.broker import BrokerSession
from ingest.capture.engine import Ask, CaptureEngine, Outcome
from ingest.capture.pacing import Pace
from ingest.capture.readiness import open_interest_ready
from ingest.capture.snapshot import OPTION_TICKS, contract_of
from ingest.contracts import Underlying
from ingest.errors import BrokerUnreachable, UsageError
from ingest.runs import Run, Trigger
from ingest.sessions import NEW_YORK, Session, new_york, next_session, previous_session
from ingest.settings import Settings
from lake.reads import reader
from lake.store import Lake

log = structlog.get_logger(__name__)

METHOD = "enrichment"
FROZEN = 2
# Of the contracts that traded, real chains show most changed by the next morning; a value that has not turned over
# yet shows none. Half-way between "none" and the least seen on real days leaves room on both sides.
LEAST_CHANGED = 0.05
# |change| cannot exceed the session's volume: misdated chains break that in 30-45 % of the contracts, right ones in
# 0-3 %.
MOST_IMPLAUSIBLE = 0.15
LEAST_EVIDENCE = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one contract can tell: open interest known before, observed now, and the session's volume between."""

    before: int
    now: int
    volume: int


def described_session(
    trade_date: date, evidence: Sequence[Evidence], observed_at: datetime, published_at: datetime
) -> date:
    """The session that a chain's observed open interest describes: `trade_date`, or the session before it.

    The contracts that traded decide: do they show changes, and are those within the session's volume? With fewer
    than five such contracts the clock decides (`published_at`).
    """
    traded = [e for e in evidence if e.volume > 0]
    if len(traded) < LEAST_EVIDENCE:
        return trade_date if observed_at >= published_at else previous_session(trade_date).trade_date
    changed = sum(e.now != e.before for e in traded) / len(traded)
    implausible = sum(abs(e.now - e.before) > e.volume for e in evidence) / len(evidence)
    fresh = changed >= LEAST_CHANGED and implausible <= MOST_IMPLAUSIBLE
    return trade_date if fresh else previous_session(trade_date).trade_date


def due_at(trade_date: date, settings: Settings) -> datetime:
    """The first instant at which the open interest of a session is asked for."""
    morning = (
        next_session(trade_date).trade_date
        if settings.enrichment.on == "next_session"
        else trade_date + timedelta(days=1)
    )
    return new_york(morning, settings.schedule.enrichment_at)


async def enrich(
    lake: Lake,
    session: BrokerSession,
    trading_session: Session,
    universe: Sequence[Underlying],
    settings: Settings,
    trigger: Trigger,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> Run:
    """Observe the open interest of the listed contracts of a session that have none yet; one row per contract asked.

    Each underlying is dated by the evidence of its own chain; an observation of an older session is kept and does not
    fill the day. Raises UsageError before it is due, BrokerUnreachable when the connection is lost.
    """
    day = trading_session.trade_date
    now, due = session.clock.now(), due_at(day, settings)
    if now < due:
        raise UsageError(
            f"open interest of {day} is due from {due.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York, and it is "
            f"{now.astimezone(NEW_YORK):%Y-%m-%d %H:%M} there: run it then"
        )
    lake.require_origin(session.origin)
    symbols = {underlying.symbol for underlying in universe}
    with reader(lake) as reads:
        filled = reads.filled_open_interest(day)
        frozen = {row["conid"]: contract_of(row) for row in reads.contracts(day) if row["underlying"] in symbols}
        shown = reads.session_interest(day)
    if not frozen:
        raise UsageError(f"no contracts of {day} are in the lake: there is nothing to fill")
    # What has expired since is not listed any more: IB could only answer that it does not exist.
    today = now.astimezone(NEW_YORK).date()
    listed = {conid: contract for conid, contract in frozen.items() if contract.expiry >= today}
    asked = [contract for conid, contract in listed.items() if conid not in filled]
    run = Run("enrichment", day, trigger, now)
    run.attempt = 1 + lake.last_attempt("raw/open_interest", run.app_id)
    run.watch(session)
    session.use_market_data_type(FROZEN)
    engine = CaptureEngine(
        session,
        Pace(settings),
        timeout_s=settings.enrichment.patience_s,
        retries=0,
        on_outcome=on_outcome,
    )
    outcomes = await engine.capture([Ask(contract, OPTION_TICKS, open_interest_ready) for contract in asked])
    rows = _rows(outcomes, run, session, shown, settings)
    lake.append("raw/open_interest", rows, run.app_id, run.attempt)
    run.account(outcomes, None, session)
    run.failed = sum(_interest(outcome) is None for outcome in outcomes)
    run.captured = run.asked - run.failed
    filled_now = sum(row["oi_asof_date"] == day for row in rows)
    run.status = "ok" if filled_now == len(asked) else "partial"
    run.message = f"{filled_now:,} of {len(asked):,} filled"
    if expired := len(frozen) - len(listed):
        run.message += f"; {expired:,} have expired"
    run.record(lake, session.clock, Path(settings.state.dir))
    log.info("open_interest_observed", trade_date=str(day), asked=len(asked), filled=filled_now, failed=run.failed)
    if engine.lost:
        raise BrokerUnreachable(f"the connection to {session.address} was lost: run the same command again")
    return run


def _interest(outcome: Outcome) -> int | None:
    return outcome.quote.open_interest if outcome.quote else None


def _rows(
    outcomes: Sequence[Outcome],
    run: Run,
    session: BrokerSession,
    shown: Mapping[int, tuple[int | None, int | None]],
    settings: Settings,
) -> list[dict[str, object]]:
    observed_at = session.clock.now()
    published_at = new_york(next_session(run.trade_date).trade_date, settings.enrichment.oi_published_at)
    by_underlying: dict[str, list[Evidence]] = {}
    for outcome in outcomes:
        before, volume = shown.get(outcome.ask.conid, (None, None))
        interest = _interest(outcome)
        evidence = by_underlying.setdefault(_underlying(outcome), [])
        if interest is not None and before is not None:
            evidence.append(Evidence(before, interest, volume or 0))
    described = {
        underlying: described_session(run.trade_date, evidence, observed_at, published_at)
        for underlying, evidence in by_underlying.items()
    }
    return [
        {
            "trade_date": run.trade_date,
            "oi_asof_date": described[_underlying(outcome)] if _interest(outcome) is not None else None,
            "conid": outcome.ask.conid,
            "underlying": _underlying(outcome),
            "open_interest": _interest(outcome),
            "observed_at": outcome.asof or observed_at,
            "ingest_id": run.ingest_id,
            "method": METHOD,
            "snapshot_error": _interest(outcome) is None,
            "error_code": outcome.failure.code if outcome.failure else None,
            "error_message": _reason(outcome),
            "source": session.origin,
        }
        for outcome in outcomes
    ]


def _underlying(outcome: Outcome) -> str:
    contract = outcome.ask.contract
    return contract.symbol if isinstance(contract, Underlying) else contract.underlying


def _reason(outcome: Outcome) -> str | None:
    if _interest(outcome) is not None:
        return None
    return outcome.failure.message if outcome.failure else "quotes came, but no open interest"
