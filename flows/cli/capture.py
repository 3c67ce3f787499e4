"""Commands of a trading day: discover, snapshot, close-snapshot, rollup, enrichment, run-day."""

from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer

from flows import show
from flows.cli import options as o
from flows.cli.report import day_report, rollup_report
from flows.day import run_day, simulated
from flows.progress import capture_progress, status
from flows.steps import Desk, Workplace, choose_slot, desk, rollup, trading_session
from ingest.errors import UsageError
from ingest.runs import Run
from ingest.sessions import Session
from ingest.universe import ib_symbol
from lake.reads import reader
from lake.store import Lake

FINE = ("ok", "partial")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(discover)
    app.command()(snapshot)
    app.command("close-snapshot")(close_snapshot)
    app.command("rollup")(roll_up)
    app.command()(enrichment)
    app.command("run-day")(run_day_command)


def discover(
    date: o.DateOption = "today",
    symbols: o.SymbolsOption = None,
    config: o.ConfigOption = None,
    lake: o.LakeOption = None,
    host: o.HostOption = None,
    port: o.PortOption = None,
    client_id: o.ClientIdOption = None,
    preset: o.PresetOption = None,
    dry_run: o.DryRunOption = False,
    json: o.JsonOption = False,
    verbose: o.VerboseOption = False,
) -> None:
    """Freeze the day's contract set."""
    o.check_date(date)
    settings = o.settings_from(config, lake, host, port, client_id, preset, verbose)
    work = Workplace.prepare(settings, o.symbols_from(symbols))
    if dry_run:
        show.out.print(f"would freeze the contracts of {len(work.universe)} underlyings into {settings.lake.root}")
        return

    async def work_at(place: Desk) -> list[Run]:
        with status("discovering") as say:
            return [
                await place.discover(
                    o.session_from(date, place.session.clock.now()),
                    lambda symbol, contracts: say(f"{symbol}: {contracts:,} contracts so far"),
                )
            ]

    _finish(_at_desk(work, work_at), "discovery", json)


def snapshot(
    slot: Annotated[str, typer.Option("--slot", help="HH:MM New York, a number, now, or missed.")] = "now",
    date: o.DateOption = "today",
    symbols: o.SymbolsOption = None,
    config: o.ConfigOption = None,
    lake: o.LakeOption = None,
    host: o.HostOption = None,
    port: o.PortOption = None,
    client_id: o.ClientIdOption = None,
    preset: o.PresetOption = None,
    dry_run: o.DryRunOption = False,
    json: o.JsonOption = False,
    verbose: o.VerboseOption = False,
) -> None:
    """Capture a slot: what it has no good row of yet."""
    o.check_date(date)
    if date != "today" and slot not in ("now", "missed"):
        choose_slot(o.session_from(date), slot, datetime.now(UTC))
    settings = o.settings_from(config, lake, host, port, client_id, preset, verbose)
    work = Workplace.prepare(settings, o.symbols_from(symbols))
    if dry_run:
        _say_frozen(work, date)
        return

    async def work_at(place: Desk) -> list[Run]:
        now = place.session.clock.now()
        session = o.session_from(date, now)
        chosen = choose_slot(session, "now" if slot == "missed" else slot, now)
        if slot == "missed":
            _say_gone(place.lake, session, now)
        with capture_progress(f"slot {chosen.label}") as progress:
            return await place.snapshot(session, chosen, "intraday", progress.outcome, progress.batch)

    _finish(_at_desk(work, work_at), "snapshot", json)


def close_snapshot(
    date: o.DateOption = "today",
    symbols: o.SymbolsOption = None,
    config: o.ConfigOption = None,
    lake: o.LakeOption = None,
    host: o.HostOption = None,
    port: o.PortOption = None,
    client_id: o.ClientIdOption = None,
    preset: o.PresetOption = None,
    dry_run: o.DryRunOption = False,
    json: o.JsonOption = False,
    verbose: o.VerboseOption = False,
) -> None:
    """Capture the quotes that stand after the close."""
    o.check_date(date)
    settings = o.settings_from(config, lake, host, port, client_id, preset, verbose)
    work = Workplace.prepare(settings, o.symbols_from(symbols))
    if dry_run:
        _say_frozen(work, date)
        return

    async def work_at(place: Desk) -> list[Run]:
        session = o.session_from(date, place.session.clock.now())
        with capture_progress("close snapshot") as progress:
            return await place.snapshot(session, session.close_slot, "close", progress.outcome, progress.batch)

    _finish(_at_desk(work, work_at), "close snapshot", json)


def enrichment(
    date: o.DateOption = "today",
    symbols: o.SymbolsOption = None,
    config: o.ConfigOption = None,
    lake: o.LakeOption = None,
    host: o.HostOption = None,
    port: o.PortOption = None,
    client_id: o.ClientIdOption = None,
    preset: o.PresetOption = None,
    dry_run: o.DryRunOption = False,
    json: o.JsonOption = False,
    verbose: o.VerboseOption = False,
) -> None:
    """Fill the open interest of a date, on the morning after it, and build its daily views again."""
    o.check_date(date)
    settings = o.settings_from(config, lake, host, port, client_id, preset, verbose)
    work = Workplace.prepare(settings, o.symbols_from(symbols))
    if dry_run:
        _say_frozen(work, date)
        return

    async def work_at(place: Desk) -> list[Run]:
        session = o.session_from(date, place.session.clock.now())
        with capture_progress("open interest") as progress:
            run = await place.enrich(session, progress.outcome)
        with status("building the daily views"):
            await rollup(work, place.lake, [session.trade_date], place.session.clock.now())
        return [run]

    _finish(_at_desk(work, work_at), "enrichment", json)


def roll_up(
    date: Annotated[
        str, typer.Option("--date", help="Trade date, YYYY-MM-DD, or latest: the last one in the lake.")
    ] = "latest",
    config: o.ConfigOption = None,
    lake: o.LakeOption = None,
    target: Annotated[str | None, typer.Option("--target", help="dbt target in profiles.yml.")] = None,
    dry_run: o.DryRunOption = False,
    json: o.JsonOption = False,
    verbose: o.VerboseOption = False,
) -> None:
    """Build, test and publish the daily views of a date. Exits 1 when a quality contract fails."""
    settings = o.settings_from(config, lake, verbose=verbose)
    work = Workplace.prepare(settings)
    store = Lake.open(settings.lake.root)
    day = latest_date(store) if date == "latest" else o.session_from(date).trade_date
    _require_raw(store, day)
    if dry_run:
        show.out.print(f"would build and publish {day} in {settings.lake.root}")
        return
    with status(f"building {day}"):
        result = o.run(lambda: rollup(work, store, [day], datetime.now(UTC), target))
    o.print_result(rollup_report(result), json, lambda: show.rollup(result))
    if result.publication.status == "failed":
        raise typer.Exit(1)


def run_day_command(
    date: o.DateOption = "today",
    symbols: o.SymbolsOption = None,
    config: o.ConfigOption = None,
    lake: o.LakeOption = None,
    host: o.HostOption = None,
    port: o.PortOption = None,
    client_id: o.ClientIdOption = None,
    preset: o.PresetOption = None,
    open_interest: Annotated[
        bool | None,
        typer.Option(
            "--open-interest/--no-open-interest",
            help="Stay until the next trading morning; default: only with a simulated clock.",
        ),
    ] = None,
    dry_run: o.DryRunOption = False,
    json: o.JsonOption = False,
    verbose: o.VerboseOption = False,
) -> None:
    """Run every step of a day against one gateway."""
    o.check_date(date)
    settings = o.settings_from(config, lake, host, port, client_id, preset, verbose)
    work = Workplace.prepare(settings, o.symbols_from(symbols))
    if dry_run:
        session = o.session_from(date)
        labels = ", ".join(slot.label for slot in session.slots)
        show.out.print(f"would run {session.trade_date}: discovery, slots {labels}, close snapshot, rollup")
        return

    async def work_at(place: Desk) -> Any:
        session = o.session_from(date, place.session.clock.now())
        stay = simulated(place) if open_interest is None else open_interest
        with status(f"{session.trade_date}") as say:
            return await run_day(place, session, stay, say)

    report = _at_desk(work, work_at)
    o.print_result(day_report(report), json, lambda: show.day(report))
    if report.rollup and report.rollup.publication.status == "failed":
        raise typer.Exit(1)


def latest_date(store: Lake) -> date:
    """The last trade date that the lake knows. Raises UsageError for an empty lake."""
    with reader(store) as reads:
        found = reads.rows("raw/sessions", columns="max(trade_date) as day")
    if not found or found[0]["day"] is None:
        raise UsageError(f"the lake at {store.root} has no trade date yet: run `chainlake discover` first")
    day: date = found[0]["day"]
    return day


def _require_raw(store: Lake, day: date) -> None:
    with reader(store) as reads:
        if not reads.sessions(day):
            raise UsageError(f"the lake at {store.root} has nothing of {day}: choose a recorded date")


def _at_desk(work: Workplace, steps: Any) -> Any:
    async def connected() -> Any:
        async with desk(work) as place:
            return await steps(place)

    return o.run(connected)


def _finish(runs: list[Run], title: str, json: bool) -> None:
    o.print_result([run_summary(run) for run in runs], json, lambda: show.runs(runs, title))
    if any(run.status not in FINE for run in runs):
        raise typer.Exit(1)


def run_summary(run: Run) -> dict[str, Any]:
    """A run as JSON."""
    return {
        "step": run.step,
        "trade_date": run.trade_date,
        "slot_30m": run.slot_30m,
        "view": run.view,
        "batch": run.batch,
        "attempt": run.attempt,
        "ingest_id": run.ingest_id,
        "status": run.status,
        "asked": run.asked,
        "captured": run.captured,
        "failed": run.failed,
        "message": run.message,
        **run.measures,
    }


def _say_frozen(work: Workplace, date: str) -> None:
    session = o.session_from(date)
    symbols = {ib_symbol(underlying.symbol) for underlying in work.universe}
    store = Lake.open(work.settings.lake.root)
    with reader(store) as reads:
        frozen = [row for row in reads.contracts(session.trade_date) if row["underlying"] in symbols]
    show.out.print(f"would ask for up to {len(frozen):,} contracts of {session.trade_date}")


def _say_gone(store: Lake, session: Session, now: datetime) -> None:
    with reader(store) as reads:
        asked = {
            row["slot_30m"]
            for row in reads.rows(
                "raw/option_quotes",
                f"trade_date = date '{session.trade_date}' and view = 'intraday' and not snapshot_error",
                "distinct slot_30m",
            )
        }
    gone = [slot.label for slot in session.slots if slot.window_end <= now and slot.slot_30m not in asked]
    if gone:
        show.err.print(f"gone for good, their windows are over: {', '.join(gone)}")


__all__ = ["latest_date", "register", "trading_session"]
