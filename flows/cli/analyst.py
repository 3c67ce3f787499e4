"""Commands that read the lake: sql, qa, dashboard."""

import csv
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, TextIO

import typer

from flows import show
from flows.cli import options as o
from flows.cli.capture import latest_date
from flows.lakeframes import ask, daily_metrics
from ingest.errors import UsageError
from lake.catalog import Limits
from lake.store import Lake

FORMATS = ("table", "csv", "json", "parquet")
PROJECT = Path(__file__).resolve().parents[2]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(sql)
    app.command()(qa)
    app.command()(dashboard)


def sql(
    statement: Annotated[str, typer.Argument(help="A SELECT over raw, clean, quality and ops.")],
    form: Annotated[str, typer.Option("--format", help="table, csv, json or parquet (with --output).")] = "table",
    output: Annotated[Path | None, typer.Option("--output", help="File to write, instead of the terminal.")] = None,
    memory: Annotated[str, typer.Option(help="Memory limit of DuckDB.")] = "2GB",
    config: o.ConfigOption = None,
    lake: o.LakeOption = None,
    json: o.JsonOption = False,
) -> None:
    """Query the lake with DuckDB, read-only: `chainlake sql "select * from clean.daily_clean limit 5"`."""
    form = "json" if json else form
    if form not in FORMATS:
        raise UsageError(f"--format {form!r}: use {', '.join(FORMATS)}")
    settings = o.settings_from(config, lake)
    frame = ask(settings.lake.root, statement, Limits(memory=memory))
    if form == "parquet":
        if output is None:
            raise UsageError("--format parquet needs --output FILE")
        frame.write_parquet(output)
    elif form == "table" and output is None:
        show.table(frame)
    elif form == "json":
        _to(output, frame.write_json())
    else:
        flat = frame.to_dicts()
        with output.open("w", newline="") if output else _stdout() as file:
            writer = csv.DictWriter(file, frame.columns)
            writer.writeheader()
            writer.writerows(flat)


def qa(
    date: Annotated[str, typer.Option("--date", help="Trade date, or latest: the last one in the lake.")] = "latest",
    config: o.ConfigOption = None,
    lake: o.LakeOption = None,
    json: o.JsonOption = False,
) -> None:
    """Print the quality metrics of a date. Exits 1 on a breach, and for a day with no data."""
    settings = o.settings_from(config, lake)
    store = Lake.open(settings.lake.root)
    day = latest_date(store) if date == "latest" else o.session_from(date).trade_date
    metrics = daily_metrics(store, day)
    o.print_result(metrics.to_dicts(), json, lambda: show.metrics(metrics, day))
    if metrics.is_empty() or not metrics.filter("breached").is_empty():
        raise typer.Exit(1)


def dashboard(
    port: Annotated[int, typer.Option(help="Port of the page.")] = 8501,
    config: o.ConfigOption = None,
    lake: o.LakeOption = None,
) -> None:
    """Serve a one-page dashboard of the lake on this machine."""
    settings = o.settings_from(config, lake)
    Lake.open(settings.lake.root)
    serve_dashboard(settings.lake.root, port)


def serve_dashboard(root: str, port: int) -> None:
    """Replace this process by Streamlit's server, bound to loopback, sending nothing anywhere."""
    os.environ["CHAINLAKE_LAKE__ROOT"] = root
    arguments = [
        *(sys.executable, "-m", "streamlit", "run", str(PROJECT / "dashboard" / "app.py")),
        *("--server.address", "127.0.0.1", "--server.port", str(port), "--server.headless", "true"),
        *("--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none", "--client.toolbarMode", "minimal"),
    ]
    os.execv(sys.executable, arguments)  # noqa: S606 - our own interpreter, no shell


def _to(output: Path | None, content: str) -> None:
    if output:
        output.write_text(content + "\n")
    else:
        show.out.print(content, soft_wrap=True, markup=False)


def _stdout() -> AbstractContextManager[TextIO]:
    return nullcontext(sys.stdout)
