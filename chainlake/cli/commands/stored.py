"""Commands over what is stored: rollup, reproduce, qa, sql, catalog, dashboard."""

import csv
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, TextIO

import polars as pl
import typer

from chainlake import dashboard as page
from chainlake.cli import options as o
from chainlake.cli.terminal import show
from chainlake.cli.terminal.progress import status
from chainlake.cli.terminal.results import reproduction_report, rollup_report
from flows.clock_evidence import newest_recording, require_evidence
from flows.lake_frames import ask_for_user, daily_metrics
from flows.reproduce import reproduce
from flows.steps import PipelineContext, require_raw, rollup
from ingest.errors import UsageError
from lake.catalog.as_of import ON_MARKET_CLOCK, last_instant
from lake.catalog.connection import CATALOG_FILE, DEFAULT_LIMITS, Limits, write_catalog
from lake.catalog.untrusted import Question
from lake.duck import extension
from lake.reads import reader
from lake.store import Lake
from lake.text import for_spreadsheet, printable

FORMATS = ("table", "csv", "json", "parquet")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("rollup")(roll_up)
    app.command("reproduce")(reproduce_)
    app.command()(qa)
    app.command()(sql)
    app.command()(catalog)
    app.command()(dashboard)


@o.command
def roll_up(
    given: o.Given,
    date: o.StoredDateOption = "latest",
    target: Annotated[str | None, typer.Option("--target", help="dbt target in profiles.yml.")] = None,
    restate: Annotated[
        bool, typer.Option("--restate", help="Build no date; only restate those that corporate actions now reach.")
    ] = False,
    clock_is_right: o.ClockIsRightOption = False,
    dry_run: o.DryRunOption = False,
) -> None:
    """Build, test and publish the daily views of a date. Exits 1 when a quality contract fails.

    Earlier dates that a new corporate action reaches are restated with it. A date whose quotes retention has taken
    cannot be built again: it keeps its tables and its verdict (exit 2).
    """
    settings = given.settings()
    context = PipelineContext.prepare(settings)
    store = Lake.open(settings.lake.root)
    days = [] if restate else [_stored_date(store, date)]
    with reader(store) as reads:
        for day in days:
            if not reads.sessions(day):
                raise UsageError(f"the lake at {store.root} has nothing of {day}: choose a recorded date")
    require_raw(store, days)
    now = _pipeline_now(store)
    if not clock_is_right:
        require_evidence(store, datetime.now(UTC), newest_recording(store), "rollup")
    doing = ", ".join(map(str, days)) or "what corporate actions reach"
    if dry_run:
        show.line(f"would build and publish {doing} in {settings.lake.root}")
        return
    with status(f"building {doing}"):
        result = o.run(lambda: rollup(context, store, days, now, target))
    o.print_result(rollup_report(result), given.json, lambda: show.rollup(result))
    if result.publication.status == "failed":
        raise typer.Exit(1)


@o.command
def reproduce_(given: o.Given, date: o.StoredDateOption = "latest") -> None:
    """Rebuild a published date from its raw rows, in a scratch place, and compare. Exits 1 when they differ.

    Nothing in the lake changes.
    """
    settings = given.settings()
    context = PipelineContext.prepare(settings)
    store = Lake.open(settings.lake.root)
    day = _stored_date(store, date)
    with status(f"rebuilding {day}"):
        result = reproduce(context, store, day)
    o.print_result(reproduction_report(result), given.json, lambda: show.reproduction(result))
    if not result.equal:
        raise typer.Exit(1)


@o.command
def qa(given: o.Given, date: o.StoredDateOption = "latest") -> None:
    """Print the quality metrics of a date. Exits 1 on a breach, and for a day with no data."""
    store = Lake.open(given.settings().lake.root)
    day = _stored_date(store, date)
    metrics = daily_metrics(store, day)
    o.print_result(metrics.to_dicts(), given.json, lambda: show.metrics(metrics, day))
    if metrics.is_empty() or not metrics.filter("breached").is_empty():
        raise typer.Exit(1)


@o.command
def sql(
    given: o.Given,
    statement: Annotated[str, typer.Argument(help="A SELECT over raw, clean, quality and ops.")],
    form: Annotated[
        str | None,
        typer.Option("--format", help="table, csv, json or parquet; default: as --output ends, else a table."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="File to write, instead of the terminal.")] = None,
    memory: Annotated[str, typer.Option(help="Memory limit of the query.")] = DEFAULT_LIMITS.memory,
    timeout: Annotated[float, typer.Option(help="Seconds after which the query is stopped.")] = DEFAULT_LIMITS.seconds,
    spreadsheet: Annotated[
        bool, typer.Option("--spreadsheet", help="In CSV, keep texts like =1+1 from being computed by a spreadsheet.")
    ] = False,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Answer as known then: '2026-11-20 17:30', New York time.")
    ] = None,
) -> None:
    """Query the lake with DuckDB, read-only: `chainlake sql "select * from clean.daily_clean limit 5"`."""
    form = "json" if given.json else _format(form, output)
    settings, limits = given.settings(), Limits(memory=memory, seconds=timeout)
    frame = ask_for_user(Question(settings.lake.root, statement, as_of, settings.maintenance.as_of_days), limits)
    if form == "parquet" and output:
        frame.write_parquet(output)
    elif form == "json":
        with _to(output) as file:
            file.write(frame.write_json() + "\n")
    elif form == "table":
        show.table(frame)
    else:
        with _to(output) as file:
            writer = csv.DictWriter(file, frame.columns)
            writer.writeheader()
            writer.writerows(_csv_rows(frame, spreadsheet, terminal=output is None and sys.stdout.isatty()))


def _csv_rows(frame: pl.DataFrame, spreadsheet: bool, terminal: bool) -> Iterator[dict[str, Any]]:
    """The rows of a CSV: as they are in a file or a pipe; on a terminal nothing in them can steer it."""
    for row in frame.iter_rows(named=True):
        if spreadsheet:
            row = {name: for_spreadsheet(value) for name, value in row.items()}
        if terminal:
            row = {name: printable(value) if isinstance(value, str) else value for name, value in row.items()}
        yield row


@o.command
def catalog(
    given: o.Given,
    output: Annotated[
        Path | None, typer.Option("--output", help=f"File to write; default: {CATALOG_FILE} in the lake.")
    ] = None,
    dry_run: o.DryRunOption = False,
) -> None:
    """Write the lake's views and macros into a DuckDB file, for the DuckDB shell, Python, Jupyter and DBeaver.

    Every publication does the same. The file holds no rows: what it shows is always the latest commit.
    """
    store = Lake.open(given.settings().lake.root)
    if dry_run:
        show.line(f"would write {output or store.uri(CATALOG_FILE)}")
        return
    report = {"catalog": write_catalog(store.root, output), "extension": extension("delta")}

    def print_text() -> None:
        show.line(f"{report['catalog']} is written; open it read-only, after")
        show.line(f"LOAD '{report['extension']}';" if report["extension"] else "INSTALL delta; LOAD delta;")

    o.print_result(report, given.json, print_text)


@o.command
def dashboard(
    given: o.Given,
    port: Annotated[int, typer.Option(help="Port of the page.")] = 8501,
) -> None:
    """Serve a one-page dashboard of the lake on this machine."""
    store = Lake.open(given.settings().lake.root)
    # Bound to loopback, and sending nothing anywhere.
    arguments = [
        *(sys.executable, "-m", "streamlit", "run", str(Path(page.__file__).with_name("server.py"))),
        *("--server.address", "127.0.0.1", "--server.port", str(port), "--server.headless", "true"),
        *("--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none", "--client.toolbarMode", "minimal"),
    ]
    environment = {**os.environ, "CHAINLAKE_LAKE__ROOT": store.root}
    os.execve(sys.executable, arguments, environment)  # noqa: S606 - our own interpreter, no shell


def _pipeline_now(store: Lake) -> datetime:
    """The host's clock; a lake of a market clock that stands ahead of it is as late as its last run or publication."""
    now = datetime.now(UTC)
    if store.origin not in ON_MARKET_CLOCK:
        return now
    with reader(store) as reads:
        (run,) = reads.rows("ops/runs", columns="max(ended_at) as last") or [{"last": None}]
        return max(now, last_instant(store, reads, now), run["last"] or now)


def _stored_date(store: Lake, text: str) -> date:
    """The trade date that ``--date`` names; latest is the lake's last. Raises UsageError."""
    with reader(store) as reads:
        day = reads.latest_date() if text == "latest" else o.session_from(text).trade_date
        if day is None:
            raise UsageError(f"the lake at {store.root} has no trade date yet: run `chainlake discover` first")
    return day


def _format(form: str | None, output: Path | None) -> str:
    """The format that is meant. Raises UsageError for one that does not go where it should."""
    ending = output.suffix.removeprefix(".").lower() if output else "table"
    chosen = form or (ending if ending in FORMATS else "csv")
    if chosen not in FORMATS:
        raise UsageError(f"--format {form!r}: use {', '.join(FORMATS)}")
    if chosen == "parquet" and output is None:
        raise UsageError("--format parquet needs --output FILE")
    if chosen == "table" and output:
        raise UsageError("--format table is for the terminal: use csv, json or parquet with --output")
    return chosen


def _to(output: Path | None) -> AbstractContextManager[TextIO]:
    return output.open("w", newline="") if output else nullcontext(sys.stdout)
