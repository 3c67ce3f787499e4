"""``chainlake schedule``: what is run when, and the whole of it against a simulated gateway."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from chainlake.cli import options as o
from chainlake.cli.terminal import show
from chainlake.cli.terminal.progress import status
from chainlake.ops.monitoring.selfcheck import Selfcheck, selfcheck
from chainlake.ops.simulation import Done, plan_of, run_plan, with_last_morning
from flows.demo import SYMBOLS, demo_settings
from flows.processes import ended_by_sigterm
from flows.simulated_gateway import GatewayCommand, gateway_process
from flows.steps import PipelineContext, connect_broker
from flows.timetable import Planned
from ingest.calendar.sessions import NEW_YORK, session_on, sessions_between
from ingest.errors import UsageError
from ingest.settings import Settings
from lake.store import Lake

LAKE = "data/simulation"
STATE = "simulation"
MOST_DAYS = 366
A_WEEK = timedelta(days=7)
# What the calendar is held to (docs/reference), and as far as it may be guessed.
YEARS = range(1990, 2101)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(schedule)


@o.command
def schedule(
    given: o.GivenForBroker,
    simulate: Annotated[bool, typer.Option("--simulate", help="Only say what would run; this is the default.")] = False,
    days: Annotated[int, typer.Option("--days", min=1, max=MOST_DAYS, help="So many days from --date on.")] = 1,
    run: Annotated[
        bool, typer.Option("--run", help="Run the plan against a simulated gateway, stepped from run to run.")
    ] = False,
) -> None:
    """Print every run of a day, in New York time and UTC; any date will do. `chainlake serve` runs it for real.

    With --run: all of it, and the open interest of the morning after, in a gateway of its own or the simulated one at
    --host and --port, into data/simulation unless --lake is given. Exits 1 unless every session passes its selfcheck.
    """
    # A simulation must never become the lake that the settings name.
    settings = (replace(given, lake=given.lake or LAKE) if run else given).settings()
    first = _first_day(given.date)
    plans = plan_of(first, days, settings)
    if not run or given.dry_run:
        o.print_result(_as_json(plans), given.json, lambda: _show_plans(plans))
        return
    symbols = o.symbols_from(given.symbols) or list(SYMBOLS)
    planned = with_last_morning(plans, settings)
    if not planned:
        o.print_result(_as_json(plans), given.json, lambda: _show_plans(plans))
        return
    settings = settings.model_copy(
        update={"state": settings.state.model_copy(update={"dir": Path(settings.state.dir) / STATE})}
    )
    own = given.host is None and given.port is None
    with status("simulating") as update:
        done, checks = o.run(lambda: _simulate(settings, symbols, planned, own, update))
    o.print_result(_as_json(plans) | _results(done, checks), given.json, lambda: _show_results(done, checks))
    if any(each.outcome == "failed" for each in done) or not all(check.passed for check in checks):
        raise typer.Exit(1)


def _first_day(text: str) -> date:
    day = datetime.now(UTC).astimezone(NEW_YORK).date() if text == "today" else o.date_from("--date", text)
    if day.year not in YEARS:
        raise UsageError(f"--date {day}: the calendar is known for {YEARS[0]} to {YEARS[-1]}")
    return day


async def _simulate(
    settings: Settings, symbols: Sequence[str], planned: Sequence[Planned], own: bool, update: Any
) -> tuple[list[Done], list[Selfcheck]]:
    if not own:
        return await _executed(settings, symbols, planned, update)
    gateway = GatewayCommand(symbols, planned[0].at)
    settings = demo_settings(settings, gateway.port, all_contracts=False)
    with ended_by_sigterm():
        async with gateway_process(settings, gateway):
            return await _executed(settings, symbols, planned, update)


async def _executed(
    settings: Settings, symbols: Sequence[str], planned: Sequence[Planned], update: Any
) -> tuple[list[Done], list[Selfcheck]]:
    context = PipelineContext.prepare(settings, symbols, "schedule")
    async with connect_broker(context) as broker:
        done = await run_plan(broker, planned, update)
        now = broker.session.clock.now()
    sessions = sorted({run.trade_date for run in planned if run.step == "discover"})
    lake = Lake.open(settings.lake.root)
    return done, [selfcheck(settings, lake, day, now) for day in sessions]


# -- the plan on paper -------------------------------------------------------------------------------------------------


def note_of(day: date, runs: Sequence[Planned]) -> str:
    """What kind of day it is: a session with its hours and the offset of New York's clocks, or none."""
    session = session_on(day)
    if session is None:
        return "not a session of XNYS" if runs else "nothing: not a session of XNYS"
    opened, closed = (instant.astimezone(NEW_YORK) for instant in (session.open, session.close))
    hours = f"{opened:%H:%M} to {closed:%H:%M} New York (UTC{opened:%z}), {len(session.slots)} slots"
    around = sessions_between(day - A_WEEK, day + A_WEEK)
    return f"{hours}, a short day" if len(session.slots) < max(len(one.slots) for one in around) else hours


def _as_json(plans: dict[date, list[Planned]]) -> dict[str, Any]:
    return {
        "days": [
            {"date": day, "session": session_on(day) is not None, "note": note_of(day, runs), "runs": _rows(runs)}
            for day, runs in plans.items()
        ]
    }


def _rows(runs: Sequence[Planned]) -> list[dict[str, Any]]:
    return [
        {
            "new_york": f"{run.at.astimezone(NEW_YORK):%Y-%m-%d %H:%M}",
            "utc": f"{run.at:%Y-%m-%d %H:%M}",
            "step": run.step,
            "slot": run.slot.label if run.slot else None,
            "trade_date": run.trade_date,
        }
        for run in runs
    ]


def _show_plans(plans: dict[date, list[Planned]]) -> None:
    for day, runs in plans.items():
        show.line(f"{day:%a} {day}: {note_of(day, runs)}")
        if runs:
            show.table(pl.DataFrame(_rows(runs), infer_schema_length=None))


def _results(done: Sequence[Done], checks: Sequence[Selfcheck]) -> dict[str, Any]:
    return {
        "results": [
            {**row, "outcome": each.outcome, "said": each.message} for each in done for row in _rows([each.planned])
        ],
        "selfcheck": [check.as_dict() for check in checks],
        "passed": all(each.outcome != "failed" for each in done) and all(check.passed for check in checks),
    }


def _show_results(done: Sequence[Done], checks: Sequence[Selfcheck]) -> None:
    rows = [
        {
            "new york": row["new_york"],
            "run": each.planned.label,
            "trade date": row["trade_date"],
            "outcome": each.outcome if each.outcome != "failed" else "FAILED",
            "what": each.message,
        }
        for each in done
        for row in _rows([each.planned])
    ]
    show.table(pl.DataFrame(rows, infer_schema_length=None), most=len(rows))
    for check in checks:
        bad = [each for each in check.checks if each.verdict == "FAILED"]
        show.line(f"selfcheck of {check.trade_date}: {'passed' if check.passed else 'FAILED'}")
        for each in bad:
            show.line(f"  {each.check}: {each.found}, must be {each.must_be}")
