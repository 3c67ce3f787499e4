"""The command export: a trade date in the format of another program."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from chainlake.cli import options as o
from chainlake.cli.terminal import show
from chainlake.export import lean
from ingest.errors import UsageError
from lake.reads import reader
from lake.store import Lake


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


@o.command
def export(
    given: o.Given,
    folder: Annotated[Path, typer.Argument(help="Folder to write into: new, empty, or of an earlier export.")],
    form: Annotated[str, typer.Option("--format", help="lean: option universes of QuantConnect's Lean.")] = lean.FORMAT,
    date: o.StoredDateOption = "latest",
    symbols: o.SymbolsOption = None,
) -> None:
    """Write the end of day for another program: `chainlake export lean-data --format lean --date 2026-11-20`."""
    if form != lean.FORMAT:
        raise UsageError(f"--format {form!r}: use {lean.FORMAT}")
    store = Lake.open(given.settings().lake.root)
    with reader(store) as reads:
        (found,) = reads.rows("ops/published", columns="max(trade_date) as day") or [{"day": None}]
    day = found["day"] if date == "latest" else o.session_from(date).trade_date
    if day is None or store.version("clean/daily_clean") is None:
        raise UsageError(f"the lake at {store.root} has no published date: run `chainlake rollup` first")
    done = lean.export(store.root, day, o.symbols_from(symbols), folder)
    if not done.files:
        raise UsageError(f"nothing of {day} to export: `chainlake sql 'from ops.latest_published'` lists the dates")
    o.print_result(
        asdict(done) | {"trade_date": day, "files": [str(file) for file in done.files]},
        given.json,
        lambda: show.line(
            f"{done.contracts:,} contracts of {day} in {len(done.files)} files in {folder}; {done.left_out:,} adjusted "
            "or mini contracts are left out"
        ),
    )
