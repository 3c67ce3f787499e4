"""Prefect flows: one for each step, thin over the plain functions, with the guards that a schedule needs.

State of truth is the lake: every flow can be run again, for any date that its step still allows. The trade date and
the slot come from the scheduled time of the run, never from the time at which it happens to start: a worker starts
runs a little early or late, and after downtime it starts every run it has missed.
"""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.steps import Workplace, desk, reuse_frozen, rollup
from ingest.clock import sleep_until
from ingest.discovery import Mode
from ingest.errors import BrokerUnreachable
from ingest.runs import Run
from ingest.sessions import NEW_YORK, Session, previous_session, session_on
from ingest.settings import Settings, load
from lake.store import Lake


@flow(name="discover")
async def discover_flow(
    trade_date: date | None = None,
    symbols: list[str] | None = None,
    config: Path | None = None,
    mode: Mode = "freeze",
) -> State[Any] | list[str]:
    """Freeze the day's contract set; ``prewarm`` only asks what is listed, ``refresh`` only adds.

    Where the broker cannot be reached, the last set is frozen again: the day's slots need one.
    """
    session = _session(trade_date)
    if session is None:
        return _skipped("no session of XNYS")
    work = _work(config, symbols)
    try:
        async with desk(work) as place:
            return _said([await place.discover(session, mode=mode)])
    except BrokerUnreachable as lost:
        if mode != "freeze":
            raise
        get_run_logger().error(str(lost))
        return _said([reuse_frozen(work, session, "the broker cannot be reached")])


@flow(name="snapshot")
async def snapshot_flow(
    trade_date: date | None = None, symbols: list[str] | None = None, config: Path | None = None
) -> State[Any] | list[str]:
    """Capture the slot for which the run was scheduled."""
    session = _session(trade_date)
    slot = session.slot_at(_scheduled()) if session else None
    if session is None or slot is None:
        return _skipped("no slot of an XNYS session")
    async with desk(_work(config, symbols)) as place:
        if place.session.clock.now() >= slot.window_end:
            return _skipped(f"stale: the window of slot {slot.label} is over")
        await sleep_until(place.session.clock, slot.sample_time)
        return _said(await place.snapshot(session, slot))


@flow(name="close")
async def close_flow(
    trade_date: date | None = None, symbols: list[str] | None = None, config: Path | None = None
) -> State[Any] | list[str]:
    """Take the close snapshot, then roll the day up and publish it."""
    session = _session(trade_date)
    if session is None:
        return _skipped("no session of XNYS")
    work = _work(config, symbols)
    async with desk(work) as place:
        runs = await place.snapshot(session, session.close_slot, "close")
        now = place.session.clock.now()
    return await _roll_up(work, session, now, runs)


@flow(name="rollup")
async def rollup_flow(trade_date: date | None = None, config: Path | None = None) -> State[Any] | list[str]:
    """Build, test and publish the daily views of a date."""
    session = _session(trade_date)
    if session is None:
        return _skipped("no session of XNYS")
    return await _roll_up(_work(config, None), session, datetime.now(UTC), [])


@flow(name="enrich")
async def enrich_flow(
    trade_date: date | None = None, symbols: list[str] | None = None, config: Path | None = None
) -> State[Any] | list[str]:
    """Fill the open interest of the session before the scheduled trading day, then build that date again.

    A later run of the same morning asks only for what is still missing. What the session before that one lacks is
    taken from this one's snapshots, or given up.
    """
    morning = _session(None)
    if trade_date is None and morning is None:
        return _skipped("no session of XNYS")
    session = _session(trade_date) if trade_date else previous_session(_scheduled_day())
    if session is None:
        return _skipped("no session of XNYS")
    work = _work(config, symbols)
    async with desk(work) as place:
        runs = [await place.enrich(session)]
        if closed := place.close_open_interest(previous_session(session.trade_date)):
            runs.append(closed)
        now = place.session.clock.now()
    return await _roll_up(work, session, now, runs)


async def _roll_up(work: Workplace, session: Session, now: datetime, runs: list[Run]) -> list[str]:
    days = sorted({session.trade_date, *(run.trade_date for run in runs)})
    result = await rollup(work, Lake.open(work.settings.lake.root), days, now)
    named = ", ".join(str(day) for day in days)
    if result.publication.status == "failed":
        raise RuntimeError(f"{named} published as failed: {result.publication.detail}")
    return [*_said(runs), f"published {named}: {result.publication.status}"]


def _work(config: Path | None, symbols: list[str] | None) -> Workplace:
    settings: Settings = load(config)
    return Workplace.prepare(settings, symbols or (), "schedule")


def _scheduled() -> datetime:
    scheduled = runtime.flow_run.scheduled_start_time
    return datetime.fromtimestamp(scheduled.timestamp(), UTC) if scheduled else datetime.now(UTC)


def _scheduled_day() -> date:
    return _scheduled().astimezone(NEW_YORK).date()


def _session(trade_date: date | None) -> Session | None:
    return session_on(trade_date or _scheduled_day())


def _skipped(reason: str) -> State[Any]:
    return Completed(name="Skipped", message=reason)


def _said(runs: list[Run]) -> list[str]:
    logger = get_run_logger()
    lines = [f"{run.app_id}: {run.status}, {run.captured} of {run.asked} captured, {run.failed} failed" for run in runs]
    for line in lines:
        logger.info(line)
    return lines
