"""Commands over what is stored: rollup, qa, sql, dashboard."""

import csv
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, TextIO

import typer

from flows import show
from flows.cli import options as o
from flows.cli.report import rollup_report
from flows.lakeframes import ask, daily_metrics
from flows.progress import status
from flows.steps import Workplace, rollup
from ingest.errors import UsageError
from ingest.settings import PROJECT
from lake.catalog import Limits
from lake.reads import reader
from lake.store import Lake

FORMATS = ("table", "csv", "json", "parquet")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("rollup")(roll_up)
    app.command()(qa)
    app.command()(sql)
    app.command()(dashboard)


@o.command
def roll_up(
    given: o.Given,
    date: o.StoredDateOption = "latest",
    target: Annotated[str | None, typer.Option("--target", help="dbt target in profiles.yml.")] = None,
    dry_run: o.DryRunOption = False,
) -> None:
    """Build, test and publish the daily views of a date. Exits 1 when a quality contract fails."""
    settings = given.settings()
    work = Workplace.prepare(settings)
    store = Lake.open(settings.lake.root)
    day = _stored_date(store, date)
    with reader(store) as reads:
        if not reads.sessions(day):
            raise UsageError(f"the lake at {store.root} has nothing of {day}: choose a recorded date")
    if dry_run:
        show.line(f"would build and publish {day} in {settings.lake.root}")
        return
    with status(f"building {day}"):
        result = o.run(lambda: rollup(work, store, [day], datetime.now(UTC), target))
    o.print_result(rollup_report(result), given.json, lambda: show.rollup(result))
    if result.publication.status == "failed":
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
    form: Annotated[str, typer.Option("--format", help="table, csv, json or parquet (with --output).")] = "table",
    output: Annotated[Path | None, typer.Option("--output", help="File to write, instead of the terminal.")] = None,
    memory: Annotated[str, typer.Option(help="Memory limit of DuckDB.")] = "2GB",
) -> None:
    """Query the lake with DuckDB, read-only: `chainlake sql "select * from clean.daily_clean limit 5"`."""
    form = "json" if given.json else form
    if form not in FORMATS:
        raise UsageError(f"--format {form!r}: use {', '.join(FORMATS)}")
    frame = ask(given.settings().lake.root, statement, Limits(memory=memory))
    if form == "parquet":
        if output is None:
            raise UsageError("--format parquet needs --output FILE")
        frame.write_parquet(output)
    elif form == "json":
        with _to(output) as file:
            file.write(frame.write_json() + "\n")
    elif form == "table" and output is None:
        show.table(frame)
    else:
        with _to(output) as file:
            writer = csv.DictWriter(file, frame.columns)
            writer.writeheader()
            writer.writerows(frame.iter_rows(named=True))


@o.command
def dashboard(
    given: o.Given,
    port: Annotated[int, typer.Option(help="Port of the page.")] = 8501,
) -> None:
    """Serve a one-page dashboard of the lake on this machine."""
    store = Lake.open(given.settings().lake.root)
    os.environ["CHAINLAKE_LAKE__ROOT"] = store.root
    # Bound to loopback, and sending nothing anywhere.
    arguments = [
        *(sys.executable, "-m", "streamlit", "run", str(PROJECT / "dashboard" / "app.py")),
        *("--server.address", "127.0.0.1", "--server.port", str(port), "--server.headless", "true"),
        *("--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none", "--client.toolbarMode", "minimal"),
    ]
    os.execv(sys.executable, arguments)  # noqa: S606 - our own interpreter, no shell


def _stored_date(store: Lake, text: str) -> date:
    """The trade date that ``--date`` names; latest is the lake's last. Raises UsageError."""
    with reader(store) as reads:
        day = reads.latest_date() if text == "latest" else o.session_from(text).trade_date
        if day is None:
            raise UsageError(f"the lake at {store.root} has no trade date yet: run `chainlake discover` first")
    return day


def _to(output: Path | None) -> AbstractContextManager[TextIO]:
    return output.open("w", newline="") if output else nullcontext(sys.stdout)
