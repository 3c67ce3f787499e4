"""Commands that keep a lake small, fast and whole: compact, retention, vacuum, disk."""

from datetime import UTC, datetime
from typing import Annotated, Any

import polars as pl
import typer

from chainlake.cli import options as o
from chainlake.cli.terminal import show
from chainlake.cli.terminal.progress import status
from flows.maintenance import (
    MaintenanceContext,
    Report,
    check_disk,
    compact,
    run_retention,
    run_vacuum,
    undo_compaction,
)
from ingest.errors import UsageError
from lake.store import Lake, is_table_name

MOST_ROWS = 20


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("compact")(compact_)
    app.command()(retention)
    app.command()(vacuum)
    app.command()(disk)


@o.command
def compact_(
    given: o.Given,
    undo: Annotated[
        str | None, typer.Option("--undo", help="TABLE@VERSION of a compaction that changed rows: take it back.")
    ] = None,
    dry_run: o.DryRunOption = False,
) -> None:
    """Merge small files; sort and pack the days that are no longer hot. Row counts are proven equal."""
    context = _context(given)
    if undo:
        table, _, version = undo.partition("@")
        if not version.isdigit() or int(version) == 0 or not is_table_name(table):
            raise UsageError(f"--undo {undo!r}: write it as raw/option_quotes@57")
        if context.lake.version(table) is None:
            raise UsageError(f"--undo {undo!r}: there is no table {table} in {context.lake.root}")
        if dry_run:
            show.line(f"would take back the compaction {undo}")
            return
        _print(given, undo_compaction(context, table, int(version)))
        return
    with status("compacting"):
        report = compact(context, dry_run)
    _print(given, report)


@o.command
def retention(given: o.Given, clock_is_right: o.ClockIsRightOption = False, dry_run: o.DryRunOption = False) -> None:
    """Take out intraday quotes of published dates, lookups and logs that are older than their retention.

    Refused (exit 2) when the clock is more than two weeks ahead of the newest session in the lake.
    """
    with status("retiring"):
        report = run_retention(_context(given, clock_is_right), dry_run)
    _print(given, report)


@o.command
def vacuum(given: o.Given, clock_is_right: o.ClockIsRightOption = False, dry_run: o.DryRunOption = False) -> None:
    """Delete files that no version of the last week, and no publication within the as-of horizon, needs.

    Refused (exit 2) when the clock is more than two weeks ahead of the newest session in the lake.
    """
    with status("looking for files that nothing needs"):
        report = run_vacuum(_context(given, clock_is_right), dry_run)
    _print(given, report)


@o.command
def disk(given: o.Given, dry_run: o.DryRunOption = False) -> None:
    """Say how full the file systems of lake and state are. Exits 1 when one is fuller than the settings allow."""
    _print(given, check_disk(_context(given), dry_run))


def _context(given: o.Given, clock_is_right: bool = False) -> MaintenanceContext:
    settings = given.settings()
    return MaintenanceContext(Lake.open(settings.lake.root), settings, datetime.now(UTC), clock_is_right=clock_is_right)


def _print(given: o.Given, report: Report) -> None:
    result: dict[str, Any] = {"step": report.step, "result": report.sentence, "rows": list(report.rows)}
    o.print_result(result, given.json, lambda: _for_people(report))
    if not report.passed:
        raise typer.Exit(1)


def _for_people(report: Report) -> None:
    if report.rows:
        frame = pl.DataFrame(list(report.rows), infer_schema_length=None)
        sizes = [name for name in frame.columns if "bytes" in name or name == "size"]
        in_megabytes = [(pl.col(name) / 1e6).round(1).alias(name.replace("bytes", "MB")) for name in sizes]
        show.table(frame.head(MOST_ROWS).with_columns(in_megabytes).drop(sizes))
        if frame.height > MOST_ROWS:
            show.line(f"… {frame.height - MOST_ROWS:,} more (--json prints all)")
    show.line(report.sentence)
