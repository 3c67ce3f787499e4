"""``chainlake serve``, and ``ops bootstrap | missing | rehearse``: Prefect for those who do not want to know it."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from chainlake.cli import options as o
from chainlake.cli.commands.ops.group import ops
from chainlake.cli.terminal import show
from chainlake.cli.terminal.progress import status
from chainlake.ops.incidents.alerts import Channel
from flows.prefect_environment import API_URL, prefect_environment
from flows.prefect_password import CLIENT, FILE, password_variables
from flows.repair import missing_items
from flows.simulated_gateway import free_port
from flows.steps import PipelineContext
from flows.timetable import plan
from ingest.errors import UsageError
from ingest.universe import choose, read_universe, write_universe
from lake.store import Lake

REHEARSAL_LAKE = "data/rehearsal"


def prepare(state: Path) -> str:
    """Set what the environment does not say, as Prefect reads it when it is imported; give the URL of the server.

    From here on this process, and those that it starts, write files for their owner only.
    """
    os.umask(0o077)
    api_url = os.environ.get("PREFECT_API_URL", API_URL)
    wanted = prefect_environment(state, api_url) | password_variables(state, os.environ, api_url)
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    # It holds Prefect's key and what that encrypts, and may be of a version that let others in.
    home.chmod(0o700)
    return os.environ["PREFECT_API_URL"]


def password_file(state: Path) -> str:
    """Where a person finds the password that Prefect's page asks for."""
    file = state / FILE
    return f"the password in {file}" if file.exists() else f"that of {CLIENT}"


@o.command
def serve(given: o.Given) -> None:
    """Run everything from this one process: Prefect's server (where none answers), schedules and flows.

    The server is on loopback, at PREFECT_API_URL (default http://127.0.0.1:4200/api). Ctrl-C, or SIGTERM, ends it.
    """
    settings = given.settings()
    state = Path(settings.state.dir)
    api_url = prepare(state)
    # Takes three seconds to import.
    from flows.prefect import service

    show.line(f"Prefect's page is {api_url.removesuffix('/api')}, and asks for {password_file(state)}")
    show.line("Ctrl-C ends the service")
    o.run(lambda: service.serve(settings, Channel.from_environment(), api_url, show.line))


@ops.command("bootstrap")
@o.command
def bootstrap_(given: o.Given, dry_run: o.DryRunOption = False) -> None:
    """Bring a Prefect server up to date: work pool, deployments, alert blocks, automations. May be repeated."""
    settings = given.settings()
    api_url = prepare(Path(settings.state.dir))
    if dry_run:
        show.line(f"would make or renew the work pool, deployments, blocks and automations at {api_url}")
        return
    from flows.prefect import bootstrap, service

    async def work() -> bootstrap.BootstrapReport:
        await service.require(api_url)
        return await bootstrap.bootstrap(settings, Channel.from_environment())

    report = o.run(work)

    def print_text() -> None:
        for line in report.lines:
            show.line(line)

    o.print_result(list(report.lines), given.json, print_text)


@ops.command("missing")
@ops.command("lacks", hidden=True)
@o.command
def missing(given: o.Given, date: o.DateOption = "today") -> None:
    """Say what is missing of a day, and what can still be had (the flow `repair` captures that). Exits 1 if any."""
    settings = given.settings()
    session = o.session_from(date)
    found = missing_items(PipelineContext.prepare(settings), Lake.open(settings.lake.root), session, datetime.now(UTC))
    rows = [{"what": each.label, "contracts": each.missing, "until": each.until, "gone": each.gone} for each in found]

    def print_text() -> None:
        if rows:
            show.table(pl.DataFrame(rows, infer_schema_length=None), f"missing of {session.trade_date}")
        else:
            show.line(f"nothing of {session.trade_date} is missing")

    o.print_result(rows, given.json, print_text)
    if found:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class GivenForRehearsal(o.Given):
    """The options of every command, for a lake and a state folder of the rehearsal's own."""

    def _flags(self) -> dict[str, dict[str, Any]]:
        lake = self.lake or REHEARSAL_LAKE
        return {"lake": {"root": lake}, "state": {"dir": f"{lake}-state"}}


@ops.command("rehearse")
@o.command
def rehearse_(
    given: GivenForRehearsal,
    date: Annotated[str, typer.Option("--date", help="First New York day, YYYY-MM-DD.")] = "2026-11-27",
    days: Annotated[int, typer.Option(min=1, max=31, help="So many calendar days.")] = 1,
    symbols: Annotated[str, typer.Option("--symbols", help="Underlyings, comma-separated.")] = "AAPL,MSFT",
    until: Annotated[
        str | None, typer.Option("--until", help="Leave out what is due later, New York: '2026-11-30 09:10'.")
    ] = None,
    skip_idle: Annotated[
        bool, typer.Option("--skip-idle", help="Leave out days on which nothing is planned, such as holidays.")
    ] = False,
    speed: Annotated[float, typer.Option(min=1, max=120, help="Market seconds a second.")] = 60,
) -> None:
    """Let a real Prefect server and worker run days of the schedule in minutes, against a simulated gateway.

    The lake is data/rehearsal unless --lake names another; state goes beside it. Exits 1 when a run failed.
    """
    settings = given.settings()
    chosen = o.symbols_from(symbols)
    first = o.date_from("--date", date)
    calendar = [first + timedelta(days=k) for k in range(days)]
    played = [day for day in calendar if not skip_idle or plan(day, settings)]
    if not played:
        raise UsageError(f"nothing is planned on {first}, or on the {days} days from it: choose other days")
    end = o.instant_from("--until", until) if until else None
    state = Path(settings.state.dir)
    write_universe(choose(read_universe(settings.universe.file), chosen), state / "universe.csv")
    universe = settings.universe.model_copy(update={"file": state / "universe.csv"})
    settings = settings.model_copy(update={"universe": universe})
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{free_port()}/api"
    api_url = prepare(state)
    from flows.prefect import rehearsal

    plan_of_days = rehearsal.Rehearsal(played, chosen, speed, end, given.config)
    if not given.json:
        page = api_url.removesuffix("/api")
        show.line(f"Prefect's page is {page} until the rehearsal ends, and asks for {password_file(state)}")
    with status("rehearsal") as update:
        runs = o.run(lambda: rehearsal.rehearse(settings, plan_of_days, api_url, update))
    rows = [
        {"run": run.name, "state": run.state_name, "seconds": round(run.total_run_time.total_seconds(), 1)}
        | {"message": run.state.message if run.state else None}
        for run in runs
    ]
    o.print_result(rows, given.json, lambda: show.table(pl.DataFrame(rows, infer_schema_length=None), most=len(rows)))
    if any(run.state_type not in rehearsal.GOOD for run in runs):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add `serve` beside the group."""
    app.command()(serve)
