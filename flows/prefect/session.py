"""Flows that talk to the broker during a session: discover (also prewarm and midday-refresh), and a slot's snapshot."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State

from flows.prefect.reporting import log_runs, report_failure, run_name, show_markdown
from flows.prefect.scheduled_run import NO_SESSION, ScheduledRun, scheduled_run, seeking_broker, skipped
from flows.reports.reports import slot_report
from flows.steps import BrokerContext, connect_broker, reuse_frozen
from ingest.calendar.clock import sleep_until
from ingest.calendar.sessions import NEW_YORK, Session, Slot
from ingest.capture.rows import View
from ingest.capture.slot import window_of
from ingest.discovery.discover import Mode
from ingest.errors import BrokerUnreachable
from ingest.runs import Run
from lake.store import Lake

# So long the freeze seeks its broker before the last set is frozen instead: the first slot needs one.
BEFORE_THE_OPEN = timedelta(minutes=1)


@flow(name="discover", flow_run_name=run_name, on_failure=[report_failure], on_crashed=[report_failure])
async def discover_flow(
    trade_date: date | None = None,
    symbols: list[str] | None = None,
    config: Path | None = None,
    mode: Mode = "freeze",
) -> State[Any] | list[str]:
    """Freeze the day's contract set; ``prewarm`` only asks what is listed, ``refresh`` only adds.

    Where the broker cannot be reached, the last set is frozen again: the day's slots need one.
    """
    run = await scheduled_run(config, symbols)
    session = run.session(trade_date)
    if session is None:
        return skipped(NO_SESSION)
    if run.clock.now() >= _last_moment(run, session, mode):
        return skipped(f"stale: it is too late to {mode} {session.trade_date}")
    try:
        runs: list[Run] = []
        async for attempt in seeking_broker(run.clock, session.open - BEFORE_THE_OPEN):
            with attempt:
                async with connect_broker(run.context) as broker:
                    runs = [await broker.discover(session, mode=mode)]
    except BrokerUnreachable as lost:
        if mode != "freeze":
            raise
        get_run_logger().error(str(lost))
        runs = [reuse_frozen(run.context, session, run.clock, "the broker cannot be reached")]
    return log_runs(runs)


def _last_moment(run: ScheduledRun, session: Session, mode: Mode) -> Any:
    return session.at(run.settings.schedule.freeze_at) if mode == "prewarm" else session.close


@flow(name="snapshot", flow_run_name=run_name, on_failure=[report_failure], on_crashed=[report_failure])
async def snapshot_flow(
    trade_date: date | None = None, symbols: list[str] | None = None, config: Path | None = None
) -> State[Any] | list[str]:
    """Capture the slot for which the run was scheduled: what it has no good row of, as long as its window is open."""
    run = await scheduled_run(config, symbols)
    session = run.session(trade_date)
    if session is None:
        return skipped(NO_SESSION)
    slot = session.slot_at(run.at)
    if slot is None:
        return skipped(f"no slot of {session.trade_date} is open at {run.at.astimezone(NEW_YORK):%H:%M} New York")
    if run.clock.now() >= slot.window_end:
        return skipped(f"stale: the window of slot {slot.label} is over")
    # A worker can start a run a moment early.
    await sleep_until(run.clock, slot.sample_time)
    return log_runs(await capture(run, session, slot))


async def capture(run: ScheduledRun, session: Session, slot: Slot, view: View = "intraday") -> list[Run]:
    """Capture what a slot of a view still lacks, seeking a lost broker while there is time, and show what came of it.

    A session without a frozen set is discovered first. Raises BrokerUnreachable when there was none all the time.
    """
    _, until = window_of(session, slot, view, run.settings)
    runs: list[Run] = []
    async for attempt in seeking_broker(run.clock, until):
        with attempt:
            async with connect_broker(run.context) as broker:
                if view == "intraday" and not broker.is_frozen(session):
                    runs.append(await _late_discovery(broker, session))
                runs += await broker.snapshot(session, slot, view)
    report = slot_report(run.settings, Lake.open(run.settings.lake.root), session, slot, view)
    key = "close-snapshot" if view == "close" else f"slot-{slot.label.replace(':', '')}"
    await show_markdown(key, report, f"{session.trade_date}, {key}")
    return runs


async def _late_discovery(broker: BrokerContext, session: Session) -> Run:
    get_run_logger().warning("no contract set is frozen yet: discovering before the slot")
    return await broker.discover(session)
