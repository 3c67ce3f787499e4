"""What a person sees on the terminal: tables, notes and progress, all through rich.

Words come from anywhere: a broker, a file, a query. They are printed as they are, never as markup, and what a terminal
would obey is shown instead (`lake.text.printable`).
"""

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import polars as pl
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lake.text import number_text, printable

out = Console(highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)

# The rows of a table, as texts.
Cells = Sequence[Sequence[str]]
# What a column needs beside its text: a bar and a space on either side.
BORDER = 3
# A text column can be folded to this many characters and still be read.
FOLDED = 24


def table(frame: pl.DataFrame, title: str | None = None, most: int = 50) -> None:
    """Print `frame`, numbers to the right, at most `most` rows; nothing in it is cut.

    Where the terminal is too narrow, long texts are folded, and a frame of many columns is printed value by value. Into
    a file or a pipe a table is as wide as it has to be.
    """
    rows = [[text(value) for value in row] for row in frame.head(most).iter_rows()]
    names = [printable(name) for name in frame.columns]
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    widths = [
        max(map(cell_len, chain([name], *map(str.splitlines, column))))
        for name, column in zip(names, columns, strict=True)
    ]
    whole = sum(widths) + BORDER * len(widths) + 1
    if not out.is_terminal:
        out.width = max(out.width, whole, cell_len(title or ""))
    if sum(min(width, FOLDED) for width in widths) + BORDER * len(widths) < out.width:
        _grid(frame, names, rows, title)
    else:
        _records(names, rows, title)
    if frame.height > most:
        line(f"… {frame.height - most:,} more rows (--format csv prints all)")


def _grid(frame: pl.DataFrame, names: Sequence[str], rows: Cells, title: str | None) -> None:
    view = Table(title=Text(title) if title else None, title_justify="left", header_style="bold")
    for name, kind in zip(names, frame.dtypes, strict=True):
        view.add_column(Text(name), justify="right" if kind.is_numeric() else "left", overflow="fold")
    for row in rows:
        view.add_row(*map(Text, row))
    out.print(view)


def _records(names: Sequence[str], rows: Cells, title: str | None) -> None:
    """Each row as lines of ``column  value``."""
    if title:
        line(title)
    widest = max(map(cell_len, names))
    for number, row in enumerate(rows, start=1):
        out.rule(Text(f"row {number}"), align="left", style="dim")
        for name, cell in zip(names, row, strict=True):
            line(f"{name}{' ' * (widest - cell_len(name))}  {cell}")


def text(value: Any) -> str:
    """A cell as people read it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, list):
        return " ".join(text(each) for each in value)
    return printable(str(value))


def as_json(value: Any) -> None:
    """Print `value` as JSON, for other programs: ASCII only, so that nothing in it can steer a terminal."""
    out.print(json.dumps(value, default=str, indent=2), soft_wrap=True)


def runs(rows: Sequence[Any], title: str) -> None:
    """Print runs of a step: what was asked, what came, how fast; and what was remarkable about them."""
    frame = pl.DataFrame(
        [
            {
                "step": run.step,
                "slot": run.slot_30m,
                "batch": run.batch,
                "status": run.status,
                "asked": run.asked,
                "captured": run.captured,
                "failed": run.failed,
                "p50 ms": run.measures.get("latency_p50_ms"),
            }
            for run in rows
        ],
        infer_schema_length=None,
    )
    if frame.is_empty():
        line(f"{title}: nothing left to do")
        return
    table(frame.with_columns(pl.col("p50 ms").cast(pl.Float64).round(0)), title)
    for run in rows:
        if run.message:
            line(f"{run.step}: {run.message}")
        if run.measures.get("pacing_errors"):
            line(f"{run.step}, batch {run.batch}: {run.measures['pacing_errors']} pacing errors")


def line(words: str) -> None:
    """Print one sentence as it is, however wide the terminal."""
    out.print(printable(words), soft_wrap=True)


def warning(words: str) -> None:
    """The same on standard error, where it does not mix with results."""
    err.print(printable(words), soft_wrap=True)


def rollup(result: Any) -> None:
    """Print what a rollup built, and what did not pass."""
    publication, build = result.publication, result.build
    days = ", ".join(str(day) for day in build.dates) or "no date"
    verdict = publication.status if publication.dates else "nothing to publish"
    out.print(Text.assemble(f"built {days} in {build.elapsed_s:.1f} s: ", (verdict, "bold")), soft_wrap=True)
    for day in build.left_alone:
        line(f"  left as it is, its quotes are gone: {day}")
    for failure in build.failures:
        line(f"  failed  {failure.name}: {failure.message}")
    for warning in build.warnings:
        line(f"  warned  {warning.name}: {warning.message}")
    for restated, underlyings in build.restatements.items():
        line(f"  restated for corporate actions: {restated} ({', '.join(underlyings)})")
    if result.of_no_use:
        named = ", ".join(result.of_no_use)
        line(f"  corporate actions of symbols that neither the universe nor the lake has: {named}")


def reproduction(result: Any) -> None:
    """Print how a rebuilt day compares with what was published."""
    table(
        pl.DataFrame(
            [
                {
                    "table": each.table,
                    "version": each.version,
                    "rows": each.rows,
                    "only published": each.only_published,
                    "only rebuilt": each.only_rebuilt,
                    "columns that differ": ", ".join(
                        f"{column} ({count:,})" if count else f"{column} (one side only)"
                        for column, count in each.columns.items()
                    ),
                }
                for each in result.tables
            ]
        ),
        f"{result.trade_date}, published {result.published_at:%Y-%m-%d %H:%M:%S} UTC",
    )
    for each in result.tables:
        if each.examples:
            table(pl.DataFrame(list(each.examples), infer_schema_length=None), f"{each.table}, the first rows")
    if not result.same_code:
        line(f"published by Chainlake {result.code_then}, rebuilt by {result.code_now}: not known to be the same code")
    if result.built_at != result.published_at:
        line(f"built {result.built_at:%Y-%m-%d %H:%M:%S} UTC, and restated for corporate actions since")
    if not result.same_actions:
        line("corporate_actions.csv has changed since: lines that were known then may read differently now")
    line("the day came out as it was published" if result.equal else "the day did NOT come out as it was published")


def metrics(frame: pl.DataFrame, day: Any) -> None:
    """Print the quality metrics of a date."""
    if frame.is_empty():
        line(f"no metrics of {day}: a day with no data does not pass")
    else:
        verdict = (
            pl.when("pending").then(pl.lit("pending")).when("passed").then(pl.lit("passed")).otherwise(pl.lit("FAILED"))
        )
        table(frame.select("metric", "value", "threshold", verdict.alias("result")), f"quality of {day}")


def day(report: Any) -> None:
    """Print a day: its runs, what was missed, and the rollup."""
    runs(report.runs, str(report.session.trade_date))
    if report.missed:
        line(f"missed: {', '.join(slot.label for slot in report.missed)}")
    if report.lost:
        line(f"cut short, as the broker was lost: {', '.join(report.lost)}")
    if report.rollup:
        rollup(report.rollup)
