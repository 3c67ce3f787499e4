"""Flows of the day's end and the morning after: close-snapshot, rollup, enrichment, and the reports."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Failed

from chainlake.ops.rollout.report import weekly_report
from flows.models import DbtProject
from flows.prefect.dbt_tasks import TaskRuns
from flows.prefect.reporting import BREACHED, log_runs, report_failure, run_name, show_markdown
from flows.prefect.scheduled_run import NO_SESSION, ScheduledRun, scheduled_run, seeking_broker, skipped
from flows.prefect.session import capture
from flows.reports.reports import daily_report, keep_report
from flows.steps import RawRetired, connect_broker, rollup
from flows.timetable import plan
from ingest.calendar.sessions import Session, previous_session
from ingest.errors import BrokerUnreachable
from ingest.open_interest.enrichment import attempts_at, is_missing
from ingest.runs import Run
from lake.errors import LakeMissing
from lake.store import Lake

# The last attempt of a morning seeks its broker for so long.
LAST_ATTEMPT = timedelta(minutes=20)


@flow(name="close-snapshot", flow_run_name=run_name, on_failure=[report_failure], on_crashed=[report_failure])
async def close_snapshot_flow(
    trade_date: date | None = None, symbols: list[str] | None = None, config: Path | None = None
) -> State[Any] | list[str]:
    """Take the close snapshot while there is time for it, then roll the day up, test and publish it.

    Raises BrokerUnreachable when there was no broker until the deadline, once the day is rolled up without.
    """
    run = await scheduled_run(config, symbols)
    session = run.session(trade_date)
    if session is None:
        return skipped(NO_SESSION)
    runs: list[Run] = []
    if run.clock.now() < session.at(run.settings.close.deadline):
        try:
            runs = await capture(run, session, session.close_slot, "close")
        except BrokerUnreachable:
            # The run fails, and is alerted; the day is made from its slots all the same.
            await roll_up(run, [session.trade_date], [])
            raise
    else:
        get_run_logger().warning(
            f"too late for the close snapshot of {session.trade_date}: the day is rolled up without"
        )
    return await roll_up(run, [session.trade_date], runs)


@flow(name="rollup", flow_run_name=run_name, on_failure=[report_failure], on_crashed=[report_failure])
async def rollup_flow(trade_date: date | None = None, config: Path | None = None) -> State[Any] | list[str]:
    """Build, test and publish the daily views of a date."""
    run = await scheduled_run(config)
    session = run.session(trade_date)
    if session is None:
        return skipped(NO_SESSION)
    if session.open > run.clock.now():
        return skipped(f"{session.trade_date} has not begun")
    return await roll_up(run, [session.trade_date], [])


@flow(name="enrichment", flow_run_name=run_name, on_failure=[report_failure], on_crashed=[report_failure])
async def enrichment_flow(
    trade_date: date | None = None, symbols: list[str] | None = None, config: Path | None = None
) -> State[Any] | list[str]:
    """Fill the open interest of the session before the scheduled morning, then build that date again.

    A later run of the same morning asks only for what is still missing. What the session before that one lacks is
    taken from this one's snapshots, or given up.
    """
    run = await scheduled_run(config, symbols)
    if trade_date is None and not any(planned.step == "enrichment" for planned in plan(run.day, run.settings)):
        return skipped(NO_SESSION)
    session = run.session(trade_date) if trade_date else previous_session(run.day)
    if session is None:
        return skipped(NO_SESSION)
    try:
        lake = Lake.open(run.settings.lake.root)
    except LakeMissing:
        return skipped("nothing has been recorded yet")
    before = previous_session(session.trade_date)
    days = [before.trade_date, session.trade_date]
    if not any(is_missing(lake, day, run.context.universe) for day in days):
        return skipped(f"no open interest of {session.trade_date} is missing")
    runs: list[Run] = []
    async for attempt in seeking_broker(run.clock, _next_attempt(run, session)):
        with attempt:
            async with connect_broker(run.context) as broker:
                runs = [await broker.enrich(session)]
                if closed := broker.close_open_interest(before):
                    runs.append(closed)
    return await roll_up(run, sorted({session.trade_date, *(each.trade_date for each in runs)}), runs)


def _next_attempt(run: ScheduledRun, session: Session) -> datetime:
    now = run.clock.now()
    return next((at for at in attempts_at(session.trade_date, run.settings) if at > now), now + LAST_ATTEMPT)


async def roll_up(run: ScheduledRun, days: Sequence[date], runs: list[Run]) -> State[Any] | list[str]:
    """Build and publish dates, show them, and end as breached when a quality contract failed.

    Dates whose quotes retention has taken are skipped: they keep their verdict.
    """
    settings = run.settings
    lake = Lake.open(settings.lake.root)
    context = replace(run.context, project=DbtProject(TaskRuns)) if settings.schedule.dbt_tasks else run.context
    try:
        result = await rollup(context, lake, list(days), run.clock.now())
    except RawRetired as reason:
        return [*log_runs(runs), str(reason)] if runs else skipped(str(reason))
    for day in days:
        await show_markdown("day-report", daily_report(settings, lake, day, run.clock.now()), f"{day}")
    named, status = ", ".join(map(str, result.build.dates)), result.publication.status
    if status == "failed":
        return Failed(name=BREACHED, message=f"{named} published as failed: {result.publication.detail}")
    return [*log_runs(runs), f"published {named}: {status}"]


@flow(name="daily-report", flow_run_name=run_name, on_failure=[report_failure], on_crashed=[report_failure])
async def daily_report_flow(trade_date: date | None = None, config: Path | None = None) -> State[Any] | list[str]:
    """Show a day as a whole, and keep it as a file of the state folder."""
    run = await scheduled_run(config)
    session = run.session(trade_date)
    if session is None:
        return skipped(NO_SESSION)
    markdown = daily_report(run.settings, Lake.open(run.settings.lake.root), session.trade_date, run.clock.now())
    file = keep_report(markdown, run.context.state, "daily", session.trade_date)
    await show_markdown("day-report", markdown, f"{session.trade_date}")
    return [str(file)]


@flow(name="weekly-report", flow_run_name=run_name, on_failure=[report_failure], on_crashed=[report_failure])
async def weekly_report_flow(trade_date: date | None = None, config: Path | None = None) -> list[str]:
    """Show the week's sessions against the rollout's rules, and keep it as a file of the state folder."""
    run = await scheduled_run(config)
    day = trade_date or run.day
    markdown = weekly_report(run.settings, Lake.open(run.settings.lake.root), day, run.clock.now())
    await show_markdown("week-report", markdown, f"week of {day}")
    return [f"week of {day}"]
