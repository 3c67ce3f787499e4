"""``chainlake doctor``: whether everything is in place, and what to do about what is not."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from chainlake.cli import options as o
from chainlake.cli.terminal import show
from chainlake.cli.terminal.progress import status
from chainlake.ops.doctor.check import Check, exit_code, fail
from ingest.contracts import Underlying
from ingest.errors import UsageError
from ingest.settings import Settings
from ingest.universe import choose, read_universe
from lake.text import printable

MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red")}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


@o.command
def doctor(
    given: o.GivenForBroker,
    offline: Annotated[bool, typer.Option("--offline", help="Leave the gateway out.")] = False,
) -> None:
    """Look at configuration, gateway, permissions, clocks, calendar, disk, versions and tables. Changes nothing.

    Exits 1 when a check fails, 3 when only the broker cannot be reached.
    """
    # Its checks load most of Chainlake: other commands shall not wait for that.
    from chainlake.ops.doctor.configuration import calendar_checks, configuration_checks
    from chainlake.ops.doctor.host import host_checks

    now = datetime.now(UTC)
    with status("looking") as update:
        try:
            settings = given.settings()
        except UsageError as error:
            wrong = fail("settings", str(error), "correct it; what needs settings is not looked at")
            checks = [wrong, *calendar_checks(now), *host_checks()]
        else:
            checks = [*configuration_checks(settings, given.config, now), *host_checks()]
            checks += _of_places(settings, now)
            if not offline:
                update(f"asking {settings.ib.host}:{settings.ib.port}")
                checks += _of_broker(settings, given, now)
    o.print_result([check.as_dict() for check in checks], given.json, lambda: _show(checks))
    if code := exit_code(checks):
        raise typer.Exit(code)


def _of_places(settings: Settings, now: datetime) -> list[Check]:
    from chainlake.ops.doctor.configuration import capacity_checks, symbol_checks
    from chainlake.ops.doctor.host import place_checks
    from chainlake.ops.doctor.tables import open_lake, table_checks

    lake, checks = open_lake(settings)
    checks += [*place_checks(settings), *symbol_checks(settings, lake)]
    return checks if lake is None else [*checks, *table_checks(settings, lake, now), *capacity_checks(settings, lake)]


def _of_broker(settings: Settings, given: o.GivenForBroker, now: datetime) -> list[Check]:
    from chainlake.ops.doctor.broker import broker_checks
    from chainlake.ops.doctor.tables import open_lake

    lake, _ = open_lake(settings)
    universe = _universe(settings, o.symbols_from(given.symbols))
    try:
        return o.run(lambda: broker_checks(settings, universe, lake, now))
    except Exception as error:  # the checks that were made are shown all the same
        return [
            fail("gateway", " ".join(str(error).split()) or type(error).__name__, "see the log under state/run_logs")
        ]


def _universe(settings: Settings, symbols: Sequence[str]) -> list[Underlying]:
    try:
        return choose(read_universe(settings.universe.file), symbols)
    except UsageError:
        # Its own check reports it.
        return choose([], symbols)


def _show(checks: Sequence[Check]) -> None:
    """Print a line for each check, and under those that are not ok what to do."""
    for check in checks:
        found = printable(f"  {check.name}: {check.found}")
        show.out.print(Text.assemble(MARKS[check.status], found), soft_wrap=True)
        if check.status != "ok" and check.next_step:
            show.line(f"        next: {check.next_step}")
    counts = {name: sum(check.status == name for check in checks) for name in ("fail", "warn", "ok")}
    show.line(f"{counts['fail']} failed, {counts['warn']} to look at, {counts['ok']} fine")
