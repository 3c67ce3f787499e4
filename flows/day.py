"""A whole trading day against one gateway: discovery, every slot, close snapshot, rollup, open interest."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from flows.steps import Desk, Rollup, rollup
from ingest.clock import MarketClock, sleep_until
from ingest.errors import UsageError
from ingest.open_interest import due_at
from ingest.runs import Run
from ingest.sessions import NEW_YORK, Session, Slot

log = structlog.get_logger(__name__)

# The first quotes of a session need a moment after the bell.
OPENING_DELAY = timedelta(seconds=60)


@dataclass(slots=True)
class DayReport:
    """What a day brought."""

    session: Session
    runs: list[Run] = field(default_factory=list)
    missed: list[Slot] = field(default_factory=list)
    rollup: Rollup | None = None


def step_instant(slot: Slot) -> datetime:
    """Where a stepped market clock stands for a slot: at its instant, a minute later for the opening slot."""
    return slot.sample_time + OPENING_DELAY if slot.slot_30m == 0 else slot.sample_time


async def run_day(
    desk: Desk,
    session: Session,
    with_open_interest: bool,
    on_step: Callable[[str], None] = lambda label: None,
) -> DayReport:
    """Run every step of `session` in order; each waits for its time, or steps the clock of a simulated gateway.

    A slot whose window is over already is reported as missed; steps that are done are not done again. Raises
    UsageError when the day lies in the past of a clock that cannot be stepped.
    """
    settings, report = desk.work.settings, DayReport(session)
    if desk.session.clock.now() >= session.at(settings.close.deadline) and not _stepped(desk):
        raise UsageError(f"{session.trade_date} is over: there is no historical backfill")
    on_step("discover")
    await _reach(desk, session.at(settings.schedule.freeze_at))
    if desk.session.clock.now() < session.close:
        report.runs.append(await desk.discover(session))
    for slot in session.slots:
        await _reach(desk, step_instant(slot) if _stepped(desk) else slot.sample_time)
        if not slot.holds(desk.session.clock.now()):
            log.warning("slot_missed", trade_date=str(session.trade_date), slot=slot.label)
            report.missed.append(slot)
            continue
        on_step(f"slot {slot.label}")
        report.runs += await desk.snapshot(session, slot)
    on_step("close snapshot")
    await _reach(desk, session.at(settings.schedule.close_snapshot_at))
    report.runs += await desk.snapshot(session, session.close_slot, "close")
    on_step("rollup")
    report.rollup = await rollup(desk.work, desk.lake, [session.trade_date], desk.session.clock.now())
    if with_open_interest:
        due = due_at(session.trade_date, settings)
        on_step(f"open interest, {due.astimezone(NEW_YORK):%a %H:%M}")
        await _reach(desk, due)
        report.runs.append(await desk.enrich(session))
        on_step("rollup with open interest")
        report.rollup = await rollup(desk.work, desk.lake, [session.trade_date], desk.session.clock.now())
    return report


def simulated(desk: Desk) -> bool:
    """Whether the pipeline runs on the market clock of a simulated gateway."""
    return isinstance(desk.session.clock, MarketClock)


def _stepped(desk: Desk) -> bool:
    clock = desk.session.clock
    return isinstance(clock, MarketClock) and clock.speed == 0


async def _reach(desk: Desk, instant: datetime) -> None:
    """Wait for `instant`, or step to it: to and fro, because a simulated day may be run again."""
    if _stepped(desk):
        await desk.session.step_clock(instant)
    else:
        await sleep_until(desk.session.clock, instant)
