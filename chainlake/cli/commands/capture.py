"""Commands of a trading day that talk to the broker: discover, snapshot, close-snapshot, enrichment, run-day."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from chainlake.cli import options as o
from chainlake.cli.terminal import show
from chainlake.cli.terminal.progress import count_progress, slot_progress, status
from chainlake.cli.terminal.results import day_report, run_report
from flows.day import DayReport, run_day, simulated
from flows.processes import ended_by_sigterm
from flows.steps import BrokerContext, PipelineContext, RawRetired, choose_slot, connect_broker, reuse_frozen, rollup
from ingest.calendar.clock import HostClock
from ingest.calendar.sessions import Session, previous_session
from ingest.discovery.discover import Discovered, Mode
from ingest.errors import BrokerUnreachable, UsageError
from ingest.open_interest.enrichment import is_missing
from ingest.runs import Run
from lake.errors import LakeMissing
from lake.reads import reader
from lake.store import Lake

T = TypeVar("T")
FINE = ("ok", "partial")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(discover)
    app.command()(snapshot)
    app.command("close-snapshot")(close_snapshot)
    app.command()(enrichment)
    app.command("run-day")(run_day_command)


@o.command
def discover(
    given: o.GivenForBroker,
    prewarm: Annotated[
        bool, typer.Option("--prewarm", help="Ask what is listed, from 04:00 on, and freeze nothing yet.")
    ] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Add what has been listed since it was frozen.")] = False,
) -> None:
    """Freeze the day's contract set."""
    if prewarm and refresh:
        raise UsageError("--prewarm comes before the set is frozen, --refresh after it: give one of them")
    mode: Mode = "prewarm" if prewarm else "refresh" if refresh else "freeze"
    context = given.pipeline_context()
    if given.dry_run:
        what = {
            "freeze": "freeze the contracts of {} underlyings into {}",
            "prewarm": "ask what is listed of {} underlyings, for {}",
            "refresh": "add new contracts of {} underlyings to {}",
        }[mode]
        show.line("would " + what.format(len(context.universe), context.settings.lake.root))
        return

    async def steps(broker: BrokerContext) -> list[Run]:
        session = given.session(broker.session.clock.now())
        with status("discovering") as update:
            return [await broker.discover(session, lambda found: update(_found(found)), mode)]

    try:
        runs = _with_broker(context, steps)
    except BrokerUnreachable as lost:
        if mode == "freeze":
            _reuse_frozen(context, given, lost)
        raise
    _finish(runs, "discovery", given)


def _found(found: Discovered) -> str:
    asked = f", {found.asked:,} asked" if found.asked else ""
    return f"{found.number} of {found.of} underlyings, {found.symbol}: {found.contracts:,} contracts{asked}"


def _reuse_frozen(context: PipelineContext, given: o.GivenForBroker, lost: BrokerUnreachable) -> None:
    """Freeze the last set, flagged discovery_stale, so that the day's slots have contracts once the broker is back."""
    try:
        run = reuse_frozen(context, given.session(), HostClock(), "the broker cannot be reached")
    except (LakeMissing, UsageError):
        # No lake yet, or it is not the time: what was wrong is that the broker could not be reached.
        return
    if run.captured:
        raise BrokerUnreachable(f"{lost}; {run.message}, {run.captured:,} contracts: discover again to add to it")


@o.command
def snapshot(
    given: o.GivenForBroker,
    slot: Annotated[str, typer.Option("--slot", help="HH:MM New York, a number, now, or missed.")] = "now",
) -> None:
    """Capture a slot: what it has no good row of yet."""
    context = given.pipeline_context()
    if given.date != "today" and slot not in ("now", "missed"):
        choose_slot(given.session(), slot, datetime.now(UTC))
    if given.dry_run:
        _print_frozen(context, given)
        return

    async def steps(broker: BrokerContext) -> list[Run]:
        now = broker.session.clock.now()
        session = given.session(now)
        if slot == "missed":
            _print_gone(broker.lake, session, now)
        chosen = choose_slot(session, "now" if slot == "missed" else slot, now)
        with slot_progress(f"slot {chosen.label}") as progress:
            return await broker.snapshot(session, chosen, "intraday", progress)

    _finish(_with_broker(context, steps), "snapshot", given)


@o.command
def close_snapshot(given: o.GivenForBroker) -> None:
    """Capture the quotes that stand after the close."""
    context = given.pipeline_context()
    if given.dry_run:
        _print_frozen(context, given)
        return

    async def steps(broker: BrokerContext) -> list[Run]:
        session = given.session(broker.session.clock.now())
        with slot_progress("close snapshot") as progress:
            return await broker.snapshot(session, session.close_slot, "close", progress)

    _finish(_with_broker(context, steps), "close snapshot", given)


@o.command
def enrichment(
    given: o.GivenForBroker,
    retry: Annotated[
        bool, typer.Option("--retry", help="Only when something is missing; else connect to nothing.")
    ] = False,
) -> None:
    """Fill the open interest of a date, on the morning after it, and build its daily views again.

    A second run asks only for what is missing. The session before it is closed: what it still lacks is taken from this
    date's snapshots, or given up.
    """
    context = given.pipeline_context()
    if given.dry_run:
        _print_frozen(context, given)
        return
    if retry and not _missing_interest(context, given.session()):
        show.line("nothing is missing")
        return

    async def steps(broker: BrokerContext) -> list[Run]:
        session = given.session(broker.session.clock.now())
        with count_progress("open interest") as count:
            runs = [await broker.enrich(session, count)]
        before = broker.close_open_interest(previous_session(session.trade_date))
        runs += [before] if before else []
        with status("building the daily views"):
            try:
                await rollup(context, broker.lake, sorted(run.trade_date for run in runs), broker.session.clock.now())
            except RawRetired as reason:
                # What was observed is kept in raw; the day that it came too late for stays as it is.
                show.warning(str(reason))
        return runs

    _finish(_with_broker(context, steps), "enrichment", given)


def _missing_interest(context: PipelineContext, session: Session) -> bool:
    lake, before = Lake.open(context.settings.lake.root), previous_session(session.trade_date)
    return any(is_missing(lake, day, context.universe) for day in (before.trade_date, session.trade_date))


@o.command
def run_day_command(
    given: o.GivenForBroker,
    open_interest: Annotated[
        bool | None,
        typer.Option(
            "--open-interest/--no-open-interest",
            help="Stay until the next trading morning; default: only with a simulated clock.",
        ),
    ] = None,
) -> None:
    """Run every step of a day against one gateway; one that loses the broker is reported, and the day goes on."""
    context = given.pipeline_context()
    if given.dry_run:
        session = given.session()
        labels = ", ".join(slot.label for slot in session.slots)
        show.line(f"would run {session.trade_date}: discovery, slots {labels}, close snapshot, rollup")
        return

    async def steps(broker: BrokerContext) -> DayReport:
        session = given.session(broker.session.clock.now())
        stay = simulated(broker) if open_interest is None else open_interest
        with status(f"{session.trade_date}") as update:
            return await run_day(broker, session, stay, update)

    report = _with_broker(context, steps)
    o.print_result(day_report(report), given.json, lambda: show.day(report))
    if report.lost or (report.rollup and report.rollup.publication.status == "failed"):
        raise typer.Exit(1)


def _with_broker(context: PipelineContext, steps: Callable[[BrokerContext], Awaitable[T]]) -> T:
    async def connected() -> T:
        # Cancelled, a capture commits what it has answers of.
        with ended_by_sigterm():
            async with connect_broker(context) as broker:
                return await steps(broker)

    return o.run(connected)


def _finish(runs: list[Run], title: str, given: o.GivenForBroker) -> None:
    o.print_result([run_report(run) for run in runs], given.json, lambda: show.runs(runs, title))
    if any(run.status not in FINE for run in runs):
        raise typer.Exit(1)


def _print_frozen(context: PipelineContext, given: o.GivenForBroker) -> None:
    session = given.session()
    symbols = {underlying.symbol for underlying in context.universe}
    with reader(Lake.open(context.settings.lake.root)) as reads:
        frozen = [row for row in reads.contracts(session.trade_date) if row["underlying"] in symbols]
    show.line(f"would ask for up to {len(frozen):,} contracts of {session.trade_date}")


def _print_gone(store: Lake, session: Session, now: datetime) -> None:
    with reader(store) as reads:
        captured = reads.captured_slots(session.trade_date)
    gone = [slot.label for slot in session.slots if slot.window_end <= now and slot.slot_30m not in captured]
    if gone:
        show.warning(f"gone for good, their windows are over: {', '.join(gone)}")
