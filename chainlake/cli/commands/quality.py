"""Commands for the operator: the verdict on a day, and what the logs say of it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from chainlake.cli import options as o
from chainlake.cli.terminal import show
from chainlake.cli.terminal.progress import status
from chainlake.ops.monitoring.logscan import Scan, keep, scan
from chainlake.ops.monitoring.selfcheck import Selfcheck
from chainlake.ops.monitoring.selfcheck import selfcheck as check
from ingest.calendar.sessions import NEW_YORK
from ingest.errors import UsageError
from lake.errors import LakeMissing
from lake.reads import reader
from lake.store import Lake


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(selfcheck)
    app.command()(logscan)


@o.command
def selfcheck(
    given: o.Given,
    date: Annotated[
        str, typer.Option("--date", help="Trade date, today, or latest: the last one in the lake.")
    ] = "latest",
) -> None:
    """Say whether a session is whole and good: all metrics, slots, close view, publication, incidents, logs.

    Exits 1 when anything fails. What is not due yet is reported as pending, and fails nothing.
    """
    settings, now = given.settings(), datetime.now(UTC)
    lake = Lake.open(settings.lake.root)
    if date == "latest":
        with reader(lake) as reads:
            day = reads.latest_date()
        if day is None:
            raise UsageError(f"the lake at {lake.root} is empty: record a session first")
    else:
        day = o.session_from(date, now).trade_date
    with status(f"checking {day}"):
        result = check(settings, lake, day, now)
    o.print_result(result.as_dict(), given.json, lambda: _show_checks(result))
    if not result.passed:
        raise typer.Exit(1)


@o.command
def logscan(
    given: o.Given,
    date: Annotated[str, typer.Option("--date", help="Day, YYYY-MM-DD, or today (New York).")] = "today",
    dry_run: o.DryRunOption = False,
) -> None:
    """Count what ops/errors, ops/runs and the log files say of a day, and keep the summary as JSON.

    Exits 1 on what is severe: errors that nothing expected, alarming words, runs that failed and were not made good.
    """
    settings, now = given.settings(), datetime.now(UTC)
    state, today = Path(settings.state.dir), now.astimezone(NEW_YORK).date()
    day = today if date == "today" else o.date_from("--date", date)
    if day > today:
        raise UsageError(f"--date {day} lies in the future: it is {today} in New York")
    try:
        lake = Lake.open(settings.lake.root)
    except LakeMissing:
        # The logs are there before the lake is.
        lake = None
    with status(f"scanning {day}"):
        result = scan(lake, state, day, settings.watch.keywords, now)
    place = None if dry_run else keep(result, state)
    o.print_result(result.as_dict(), given.json, lambda: _show_scan(result, place))
    if result.severe:
        raise typer.Exit(1)


def _show_checks(result: Selfcheck) -> None:
    frame = pl.DataFrame([{"check": each.check, **_columns(each)} for each in result.checks])
    show.table(frame, f"selfcheck of {result.trade_date}")
    failed = [each.check for each in result.checks if each.verdict == "FAILED"]
    pending = [each.check for each in result.checks if each.verdict == "pending"]
    if pending:
        show.line(f"not due yet: {', '.join(pending)}")
    show.line(f"{result.trade_date} FAILED: {', '.join(failed)}" if failed else f"{result.trade_date} passed")


def _columns(each: object) -> dict[str, str]:
    return {
        "found": getattr(each, "found", ""),
        "must be": getattr(each, "must_be", ""),
        "verdict": getattr(each, "verdict", ""),
    }


def _show_scan(result: Scan, place: Path | None) -> None:
    if result.errors:
        show.table(pl.DataFrame(list(result.errors), infer_schema_length=None), f"errors of {result.date}")
    if result.runs:
        show.table(pl.DataFrame(list(result.runs), infer_schema_length=None), "runs that failed or were refused")
    if result.files:
        rows = [
            {
                "file": each.file,
                "lines": each.lines,
                "warnings": each.levels["warning"] + each.levels["warn"],
                "errors": each.levels["error"] + each.levels["critical"],
                "tracebacks": each.tracebacks,
                "words": ", ".join(f"{word} {count}" for word, count in each.keywords.items()),
            }
            for each in result.files
        ]
        show.table(pl.DataFrame(rows), "log files")
    for finding in result.severe:
        show.line(f"severe: {finding}")
    show.line(
        f"{len(result.severe)} severe findings of {result.date}"
        if result.severe
        else f"nothing severe of {result.date}"
    )
    if place:
        show.line(f"summary in {place}")
