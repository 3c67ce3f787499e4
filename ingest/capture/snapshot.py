"""One slot of one session: capture what it still lacks, and append one raw row per contract asked."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

import structlog

from ingest.broker import BrokerSession
from ingest.capture.engine import Ask, CaptureEngine, Outcome
from ingest.capture.pacing import Pace
from ingest.capture.readiness import option_ready, underlying_ready
from ingest.capture.rows import Attempt, View, option_row, underlying_row
from ingest.contracts import OptionContract, Underlying
from ingest.errors import BrokerUnreachable, UsageError
from ingest.runs import RUN_TYPES, Run, Trigger
from ingest.selection import capture_order
from ingest.sessions import NEW_YORK, Session, Slot
from ingest.settings import Settings
from lake.reads import reader
from lake.store import Lake

log = structlog.get_logger(__name__)

OPTION_TICKS = "101"
UNDERLYING_TICKS = "104,106"
LIVE_AT_CLOSE = 2
STEPS: dict[View, str] = {"intraday": "snapshot", "close": "close-snapshot"}


def window_of(session: Session, slot: Slot, view: View, settings: Settings) -> tuple[datetime, datetime]:
    """The window in which rows of `slot` may be captured: the slot's own, or close to `close.deadline`."""
    if view == "intraday":
        return slot.sample_time, slot.window_end
    return session.close, session.at(settings.close.deadline)


def check_window(session: Session, slot: Slot, view: View, settings: Settings, now: datetime) -> None:
    """Raise UsageError unless `now` lies in the window: nothing is recorded under a slot that is over."""
    start, end = window_of(session, slot, view, settings)
    what = f"slot {slot.label} of {slot.trade_date}" if view == "intraday" else f"the close view of {slot.trade_date}"
    shown = f"{now.astimezone(NEW_YORK):%Y-%m-%d %H:%M} in New York"
    if now < start:
        raise UsageError(f"{what} begins at {start.astimezone(NEW_YORK):%H:%M}, and it is {shown}: wait for it")
    if now >= end:
        raise UsageError(
            f"{what} was over at {end.astimezone(NEW_YORK):%H:%M}, and it is {shown}: what was not recorded is gone"
        )


async def capture_slot(
    lake: Lake,
    session: BrokerSession,
    trading_session: Session,
    slot: Slot,
    view: View,
    universe: Sequence[Underlying],
    settings: Settings,
    trigger: Trigger,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    on_batch: Callable[[str, int], None] = lambda batch, contracts: None,
) -> list[Run]:
    """Capture what `slot` of `view` still lacks, batch by batch, each committed once.

    Returns one Run a batch. A batch that has nothing left to ask for makes no run. Raises UsageError outside the
    window or without a frozen set, BrokerUnreachable when the connection is lost (after committing what there is).
    """
    check_window(trading_session, slot, view, settings, session.clock.now())
    lake.require_origin(session.origin)
    frozen, done_options, done_underlyings, conids = _still_to_do(lake, trading_session, slot, view, settings)
    listed = {contract.underlying for contract in frozen}
    recorded = await _with_conids(session, [u for u in universe if u.symbol in listed], conids)
    session.use_market_data_type(
        LIVE_AT_CLOSE if session.clock.now() >= trading_session.close else settings.ib.market_data_type
    )
    pace = Pace(settings)
    runs = []
    in_order = sorted(recorded, key=lambda underlying: underlying.group)
    for group, members in groupby(in_order, key=lambda underlying: underlying.group):
        underlyings = [member for member in members if view in member.views]
        symbols = {underlying.symbol for underlying in underlyings}
        options = [c for c in frozen if c.underlying in symbols and c.conid not in done_options]
        missing = [u for u in underlyings if u.conid not in done_underlyings]
        if options or missing:
            on_batch(group or "all", len(options) + len(missing))
            batch = _Batch(lake, session, trading_session, slot, view, group or "all", settings, trigger)
            runs.append(await batch.capture(missing, options, pace, on_outcome))
    return runs


def _still_to_do(
    lake: Lake,
    trading_session: Session,
    slot: Slot,
    view: View,
    settings: Settings,
) -> tuple[list[OptionContract], set[int], set[int], dict[str, int]]:
    """The frozen contracts in order of capture, what already has a row, and the known conids of underlyings."""
    with reader(lake) as reads:
        rows = [row for row in reads.contracts(slot.trade_date) if row["first_seen_slot"] <= slot.slot_30m]
        done_options = reads.captured_options(
            slot.trade_date, view, slot.slot_30m, window_of(trading_session, slot, view, settings)
        )
        done_underlyings = reads.captured_underlyings(slot.trade_date, view, slot.slot_30m)
        conids = reads.underlying_conids(slot.trade_date)
    if not rows:
        raise UsageError(
            f"no contracts are frozen for {slot.trade_date}: run `chainlake discover --date {slot.trade_date}` first"
        )
    reference = {row["underlying"]: row["reference_price"] for row in rows if row["reference_price"]}
    contracts = {row["conid"]: contract_of(row) for row in rows}
    return capture_order(list(contracts.values()), reference), done_options, done_underlyings, conids


async def _with_conids(
    session: BrokerSession, underlyings: Sequence[Underlying], conids: dict[str, int]
) -> list[Underlying]:
    """`underlyings` with their conids, in order: from the universe file, this day's rows, or else the broker."""
    known = [replace(u, conid=u.conid or conids.get(u.symbol)) for u in underlyings]
    asked = await session.qualify_underlyings([u for u in known if u.conid is None])
    answered = {underlying.symbol: underlying for underlying in asked}
    return [answered.get(u.symbol, u) for u in known if u.conid or u.symbol in answered]


def contract_of(row: dict[str, object]) -> OptionContract:
    """The contract in a row of ``raw/contracts``."""
    return OptionContract(**{name: row[name] for name in OptionContract.__slots__})  # type: ignore[arg-type]


class _Batch:
    """One batch of a slot: one attempt, one commit."""

    def __init__(
        self,
        lake: Lake,
        session: BrokerSession,
        trading_session: Session,
        slot: Slot,
        view: View,
        name: str,
        settings: Settings,
        trigger: Trigger,
    ) -> None:
        self._lake, self._session, self._slot, self._settings = lake, session, slot, settings
        self._window = window_of(trading_session, slot, view, settings)
        self._run = Run(
            STEPS[view], slot.trade_date, trigger, session.clock.now(), view=view, slot_30m=slot.slot_30m, batch=name
        )
        self._run.attempt = 1 + max(
            lake.last_attempt(table, self._run.app_id) for table in ("raw/option_quotes", "raw/underlying_quotes")
        )
        self._run.watch(session)
        self._attempt = Attempt(
            slot,
            view,
            name,
            self._run.attempt,
            self._run.ingest_id,
            RUN_TYPES[trigger],
            session.origin,
            timedelta(seconds=settings.acquisition.slot_grace_s),
            settings.acquisition.retries,
        )

    async def capture(
        self,
        underlyings: Sequence[Underlying],
        options: Sequence[OptionContract],
        pace: Pace,
        on_outcome: Callable[[Outcome], None],
    ) -> Run:
        acquisition = self._settings.acquisition
        option_done = option_ready(acquisition.greeks_patience_s)
        underlying_done = underlying_ready(acquisition.greeks_patience_s)
        asks = [Ask(underlying, UNDERLYING_TICKS, underlying_done) for underlying in underlyings]
        asks += [Ask(contract, OPTION_TICKS, option_done) for contract in options]
        engine = CaptureEngine(
            self._session,
            pace,
            timeout_s=acquisition.contract_timeout_s,
            retries=acquisition.retries,
            seconds_left=lambda: self._session.clock.wall_seconds_until(self._window[1]),
            on_outcome=on_outcome,
        )
        outcomes = await engine.capture(asks)
        self._commit(outcomes, engine)
        if engine.lost:
            raise BrokerUnreachable(
                f"the connection to {self._session.address} was lost in slot {self._slot.label}; {len(outcomes)} "
                f"contracts are recorded: run the same command again for the other {len(engine.unasked)}"
            )
        return self._run

    def _commit(self, outcomes: Sequence[Outcome], engine: CaptureEngine) -> None:
        run = self._run
        option_rows, underlying_rows = [], []
        for outcome in outcomes:
            contract = outcome.ask.contract
            if isinstance(contract, OptionContract):
                option_rows.append(option_row(outcome, contract, self._attempt))
            else:
                underlying_rows.append(underlying_row(outcome, contract, self._attempt))
        self._lake.append("raw/underlying_quotes", underlying_rows, run.app_id, run.attempt)
        self._lake.append("raw/option_quotes", option_rows, run.app_id, run.attempt)
        run.account(outcomes, self._slot.sample_time, self._session)
        if engine.unasked:
            run.status = "partial"
            run.message = f"{len(engine.unasked)} contracts were not asked: the slot's time was over"
            if engine.lost:
                run.message = f"{len(engine.unasked)} contracts were not asked: the connection was lost"
        run.record(self._lake, self._session.clock, Path(self._settings.state.dir))
        log.info(
            "batch_captured",
            slot=self._slot.label,
            view=self._attempt.view,
            batch=run.batch,
            attempt=run.attempt,
            asked=run.asked,
            captured=run.captured,
            failed=run.failed,
            **run.measures,
        )
