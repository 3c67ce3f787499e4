"""The plan of days executed against a simulated gateway, its clock stepped from one run to the next.

The runs are those of `flows.timetable`, in their order and at their times, by the same steps that the command line and
the Prefect flows call; only waiting is left out.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from chainlake.ops.rollout.report import weekly_report
from flows.day import reach, step_instant, stepped
from flows.maintenance import WEEKLY, MaintenanceContext
from flows.reports.reports import daily_report, keep_report
from flows.steps import BrokerContext, rollup
from flows.timetable import Planned, plan
from ingest.calendar.sessions import Session, next_session, previous_session, session_on
from ingest.discovery.discover import Mode
from ingest.errors import ChainlakeError, UsageError
from ingest.open_interest.enrichment import is_missing
from ingest.runs import Run
from ingest.settings import Settings
from lake.errors import LakeError

Outcome = Literal["ok", "skipped", "failed"]
DISCOVERY: dict[str, Mode] = {"prewarm": "prewarm", "discover": "freeze", "midday-refresh": "refresh"}


@dataclass(frozen=True, slots=True)
class Done:
    """A planned run, how it ended, and what it says."""

    planned: Planned
    outcome: Outcome
    message: str


class _Skipped(Exception):
    pass


def plan_of(first: date, days: int, settings: Settings) -> dict[date, list[Planned]]:
    """The plan of each of so many calendar days; a day without a run has an empty one."""
    dates = [first + timedelta(days=number) for number in range(days)]
    return {day: plan(day, settings) for day in dates}


def with_last_morning(plans: dict[date, list[Planned]], settings: Settings) -> list[Planned]:
    """All runs in order, and those of the later mornings that fill the open interest of the last planned session."""
    runs = [run for of_day in plans.values() for run in of_day]
    sessions = [day for day in plans if session_on(day)]
    if not sessions:
        return runs
    # Its open interest is asked for until the next session's morning, which may be after some days.
    day, until = max(plans) + timedelta(days=1), next_session(sessions[-1]).trade_date
    while day <= until:
        runs += [run for run in plan(day, settings) if run.step == "enrichment" and run.trade_date == sessions[-1]]
        day += timedelta(days=1)
    return runs


async def run_plan(
    broker: BrokerContext, runs: Sequence[Planned], on_step: Callable[[str], None] = lambda label: None
) -> list[Done]:
    """Execute `runs` in their order; one that fails does not keep the next from being run.

    Raises UsageError for a gateway that is not simulated: what it would have to wait for takes days.
    """
    if not broker.session.control:
        address, origin = broker.session.address, broker.session.origin
        raise UsageError(f"--run needs a simulated gateway with a control port, and {address} is {origin}")
    done = []
    for planned in runs:
        on_step(f"{planned.at:%Y-%m-%d %H:%M} UTC, {planned.label}")
        try:
            done.append(Done(planned, "ok", await _run(broker, planned)))
        except _Skipped as reason:
            done.append(Done(planned, "skipped", str(reason)))
        except (ChainlakeError, LakeError) as error:
            done.append(Done(planned, "failed", " ".join(str(error).split())))
    return done


async def _run(broker: BrokerContext, planned: Planned) -> str:
    await reach(broker, step_instant(planned.slot) if planned.slot and stepped(broker) else planned.at)
    session = session_on(planned.trade_date)
    if planned.step == "maintain":
        return await asyncio.to_thread(_maintain, broker)
    if planned.step == "weekly-report":
        weekly_report(broker.context.settings, broker.lake, planned.trade_date, broker.session.clock.now())
        return "written"
    assert session is not None, "every other step is about a session"
    if planned.step in DISCOVERY:
        return _summary([await broker.discover(session, mode=DISCOVERY[planned.step])])
    if planned.step == "snapshot":
        assert planned.slot is not None
        return _summary(await broker.snapshot(session, planned.slot))
    if planned.step == "close-snapshot":
        runs = await broker.snapshot(session, session.close_slot, "close")
        return await _rolled_up(broker, [session.trade_date], runs)
    if planned.step == "enrichment":
        return await _enrichment(broker, session)
    return _daily_report(broker, session)


async def _enrichment(broker: BrokerContext, session: Session) -> str:
    if not broker.is_frozen(session):
        raise _Skipped(f"nothing of {session.trade_date} is in the lake")
    before = previous_session(session.trade_date)
    universe = broker.context.universe
    if not any(is_missing(broker.lake, day, universe) for day in (before.trade_date, session.trade_date)):
        raise _Skipped(f"no open interest of {session.trade_date} is missing")
    runs = [await broker.enrich(session)]
    if closed := broker.close_open_interest(before):
        runs.append(closed)
    return await _rolled_up(broker, sorted({run.trade_date for run in runs}), runs)


async def _rolled_up(broker: BrokerContext, days: Sequence[date], runs: Sequence[Run]) -> str:
    published = (await rollup(broker.context, broker.lake, days, broker.session.clock.now())).publication
    if published.status == "failed":
        raise ChainlakeError(f"published as failed: {published.detail}")
    return f"{_summary(runs)}; published as {published.status}"


def _daily_report(broker: BrokerContext, session: Session) -> str:
    text = daily_report(broker.context.settings, broker.lake, session.trade_date, broker.session.clock.now())
    return keep_report(text, broker.context.state, "daily", session.trade_date).name


def _maintain(broker: BrokerContext) -> str:
    context = MaintenanceContext(broker.lake, broker.context.settings, broker.session.clock.now(), "schedule")
    reports = [step(context) for step in WEEKLY]
    if full := [report.sentence for report in reports if not report.passed]:
        raise ChainlakeError("; ".join(full))
    return "; ".join(report.sentence for report in reports)


def _summary(runs: Sequence[Run]) -> str:
    """What runs did. Raises ChainlakeError when one of them failed."""
    if failed := [run for run in runs if run.status in ("failed", "refused")]:
        raise ChainlakeError(failed[0].message or f"{failed[0].step} has failed")
    asked, captured = sum(run.asked for run in runs), sum(run.captured for run in runs)
    return f"{captured:,} of {asked:,} contracts"
