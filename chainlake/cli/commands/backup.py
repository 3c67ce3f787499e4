"""Commands for the life of a lake: a backup, and the change to another version's types."""

from typing import Annotated

import typer

from chainlake.cli import options as o
from chainlake.cli.terminal import show
from chainlake.cli.terminal.progress import status
from lake.maintenance.backup import back_up
from lake.maintenance.evolution import changed_types, migrate, upgrade
from lake.maintenance.lock import maintainer
from lake.store import Lake


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backup)
    app.command("migrate")(migrate_)


@o.command
def backup(
    given: o.Given,
    to: Annotated[
        str, typer.Option("--to", help="Folder or s3:// root of the copy; the next backup adds what is new.")
    ],
    dry_run: o.DryRunOption = False,
) -> None:
    """Copy the lake while it is written to. To have it back, copy the backup to where the lake was."""
    lake = Lake.open(given.settings().lake.root)
    if dry_run:
        show.line(f"would bring the copy of {lake.root} at {to} up to date")
        return
    with status(f"copying {lake.root}") as update:
        copied = back_up(lake, to, update)
    o.print_result(
        {"files": copied.files, "bytes": copied.bytes, "kept": copied.kept},
        given.json,
        lambda: show.line(
            f"{copied.files:,} files, {copied.bytes / 1e6:,.1f} MB copied to {to}; {copied.kept:,} were there"
        ),
    )


@o.command
def migrate_(given: o.Given, dry_run: o.DryRunOption = False) -> None:
    """Write tables whose types have changed again, and add the columns that an older lake lacks."""
    lake = Lake.open(given.settings().lake.root)
    changes = changed_types(lake)
    if dry_run:
        for change in changes:
            show.line(f"would write {change.table} again: {change}")
        show.line("would add the columns that are missing")
        return
    done = []
    with maintainer(lake, "migrate") as hold:
        for table in sorted({change.table for change in changes}):
            with status(f"writing {table} again"):
                done.append(f"{table}: {migrate(lake, table, hold):,} rows written again")
    done += [f"{column} added" for column in upgrade(lake)]
    o.print_result(done, given.json, lambda: show.line("; ".join(done) or "nothing to do"))
