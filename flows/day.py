"""A whole trading day against one gateway: discovery, every slot, close snapshot, rollup, open interest."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from flows.steps import BrokerContext, Rollup, rollup
from ingest.calendar.clock import MarketClock, sleep_until
from ingest.calendar.sessions import NEW_YORK, Session, Slot
from ingest.errors import BrokerUnreachable, UsageError
from ingest.open_interest.enrichment import attempts_at
from ingest.runs import Run

log = structlog.get_logger(__name__)

# The first quotes of a session need a moment after the bell.
OPENING_DELAY = timedelta(seconds=60)


@dataclass(slots=True)
class DayReport:
    """What a day brought: its runs, the slots that were over before, the steps cut short by a lost broker."""

    session: Session
    runs: list[Run] = field(default_factory=list)
    missed: list[Slot] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    rollup: Rollup | None = None

    async def attempt(self, label: str, step: Awaitable[list[Run]]) -> bool:
        """Await a step and keep its runs; False, and a note, when the broker is lost: the next step seeks it again."""
        try:
            self.runs += await step
        except BrokerUnreachable as reason:
            log.error("step_lost", trade_date=str(self.session.trade_date), step=label, reason=str(reason))
            self.lost.append(label)
            return False
        return True


def step_instant(slot: Slot) -> datetime:
    """Where a stepped market clock stands for a slot: at its instant, a minute later for the opening slot."""
    return slot.sample_time + OPENING_DELAY if slot.slot_30m == 0 else slot.sample_time


async def run_day(
    broker: BrokerContext,
    session: Session,
    with_open_interest: bool,
    on_step: Callable[[str], None] = lambda label: None,
) -> DayReport:
    """Run every step of `session` in order; each waits for its time, or steps the clock of a simulated gateway.

    A slot whose window is over already is reported as missed; steps that are done are not done again; a step that
    loses the broker does not end the day. Raises UsageError when the day lies in the past of a clock that cannot be
    stepped.
    """
    settings, report = broker.context.settings, DayReport(session)
    if broker.session.clock.now() >= session.at(settings.close.deadline) and not stepped(broker):
        raise UsageError(f"{session.trade_date} is over: there is no historical backfill")
    on_step("discover")
    await reach(broker, session.at(settings.schedule.freeze_at))
    discovered = broker.session.clock.now() >= session.close or await _discover(broker, report, "discover")
    for slot in session.slots:
        await reach(broker, step_instant(slot) if stepped(broker) else slot.sample_time)
        if not slot.holds(broker.session.clock.now()):
            log.warning("slot_missed", trade_date=str(session.trade_date), slot=slot.label)
            report.missed.append(slot)
            continue
        on_step(f"slot {slot.label}")
        discovered = discovered or await _discover(broker, report, f"discover at {slot.label}")
        if discovered or broker.is_frozen(session):
            await report.attempt(f"slot {slot.label}", broker.snapshot(session, slot))
    on_step("close snapshot")
    await reach(broker, session.at(settings.schedule.close_snapshot_at))
    await report.attempt("close snapshot", broker.snapshot(session, session.close_slot, "close"))
    on_step("rollup")
    report.rollup = await rollup(broker.context, broker.lake, [session.trade_date], broker.session.clock.now())
    if with_open_interest:
        await _fill_open_interest(broker, report, on_step)
        on_step("rollup with open interest")
        report.rollup = await rollup(broker.context, broker.lake, [session.trade_date], broker.session.clock.now())
    return report


async def _discover(broker: BrokerContext, report: DayReport, label: str) -> bool:
    """Freeze the contract set; False when nothing was found, and the last set is frozen instead where there is one."""

    async def step() -> list[Run]:
        try:
            return [await broker.discover(report.session)]
        except BrokerUnreachable as reason:
            broker.reuse_frozen(report.session, str(reason))
            raise

    return await report.attempt(label, step()) and report.runs[-1].status != "failed"


async def _fill_open_interest(broker: BrokerContext, report: DayReport, on_step: Callable[[str], None]) -> None:
    session = report.session
    for instant in attempts_at(session.trade_date, broker.context.settings):
        label = f"open interest, {instant.astimezone(NEW_YORK):%a %H:%M}"
        on_step(label)
        await reach(broker, instant)

        async def step() -> list[Run]:
            return [await broker.enrich(session)]

        if await report.attempt(label, step()) and report.runs[-1].status == "ok":
            return


def simulated(broker: BrokerContext) -> bool:
    """Whether the pipeline runs on the market clock of a simulated gateway."""
    return isinstance(broker.session.clock, MarketClock)


def stepped(broker: BrokerContext) -> bool:
    """Whether the pipeline's clock stands still until it is stepped on."""
    clock = broker.session.clock
    return isinstance(clock, MarketClock) and clock.speed == 0


async def reach(broker: BrokerContext, instant: datetime) -> None:
    """Wait for `instant`, or step to it: to and fro, because a simulated day may be run again."""
    if stepped(broker):
        await broker.session.step_clock(instant)
    else:
        await sleep_until(broker.session.clock, instant)
