"""``chainlake ops incidents | ack | watch | test-alert``: incidents and alerts by hand, without Prefect."""

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from chainlake.cli import options as o
from chainlake.cli.commands.ops.group import ops
from chainlake.cli.terminal import show
from chainlake.cli.terminal.progress import status
from chainlake.ops.incidents.alerts import VARIABLE, AlertFailed, Channel
from chainlake.ops.incidents.incidents import (
    IncidentContext,
    OpenIncident,
    Settled,
    acknowledge,
    history,
    open_incidents,
    settle,
)
from chainlake.ops.incidents.incidents import close as close_incident
from chainlake.ops.incidents.outbox import Outbox
from chainlake.ops.monitoring.watchdog import look
from ingest.calendar.clock import HostClock
from ingest.calendar.sessions import NEW_YORK
from ingest.errors import UsageError
from ingest.recovery import recover
from lake.store import Lake


@ops.command("incidents")
@o.command
def incidents(
    given: o.Given,
    all_: Annotated[
        bool, typer.Option("--all", help="Every change of every incident, also those that are over.")
    ] = False,
) -> None:
    """List what is open: since when, what, and the end of its ID for `ops ack`."""
    lake = Lake.open(given.settings().lake.root)
    rows = history(lake) if all_ else [_row(each) for each in open_incidents(lake)]
    o.print_result(rows, given.json, lambda: _show(rows))


@ops.command("ack")
@o.command
def ack(
    given: o.Given,
    incident_id: Annotated[str, typer.Argument(help="The ID, or its end, as `ops incidents` shows it.")],
    by: Annotated[str | None, typer.Option("--by", help="Who has taken it; default: the user.")] = None,
    close: Annotated[
        str | None, typer.Option("--close", help="Close it for this reason: what no look will ever find mended.")
    ] = None,
    dry_run: o.DryRunOption = False,
) -> None:
    """Take an incident: it stays in TODO.now.md, marked. With --close it is over, and the all-clear goes out."""
    settings, now = given.settings(), datetime.now(UTC)
    lake, state, who = Lake.open(settings.lake.root), Path(settings.state.dir), by or getpass.getuser()
    if dry_run:
        show.line(f"would {'close' if close else 'acknowledge'} the incident {incident_id} for {who}")
        return
    if close is None:
        taken = acknowledge(lake, state, incident_id, who, now)
    else:
        taken = close_incident(IncidentContext(lake, state, Channel.from_environment(), now), incident_id, who, close)
    done = "closed" if close else f"acknowledged by {taken.acknowledged_by}"
    o.print_result(_row(taken), given.json, lambda: show.line(f"{taken.cause} of {taken.trade_date}: {done}"))


@ops.command("watch")
@o.command
def watch(given: o.Given, dry_run: o.DryRunOption = False) -> None:
    """Look once at everything, as the watchdog flow does every five minutes: for cron, where there is no Prefect.

    Opens and closes incidents and alerts of them. Exits 1 while something is open that nobody has acknowledged.
    """
    settings, now = given.settings(), datetime.now(UTC)
    lake, state = Lake.open(settings.lake.root), Path(settings.state.dir)
    if not dry_run:
        recover(lake, state, HostClock())
    with status("looking"):
        found = look(settings, lake, now)
    if dry_run:
        rows = [{"cause": each.cause, "trade_date": each.trade_date, "detail": each.detail} for each in found.breaches]
        o.print_result(rows, given.json, lambda: _show(rows))
        return
    settled = settle(IncidentContext(lake, state, Channel.from_environment(), now), found.breaches, found.examined)
    rows = [_row(each) for each in settled.still_open]
    report = {
        "opened": len(settled.opened),
        "closed": len(settled.closed),
        "undelivered_alerts": settled.undelivered,
        "open": rows,
    }
    o.print_result(report, given.json, lambda: _show_settled(settled, rows))
    if any(each.acknowledged_at is None for each in settled.still_open):
        raise typer.Exit(1)


@ops.command("test-alert")
@o.command
def alert_test(given: o.Given, dry_run: o.DryRunOption = False) -> None:
    """Send a test message to every URL of CHAINLAKE_ALERT_URLS, and say which kind of service took it.

    Alerts that waited for one of them are delivered too. Exits 1 when one did not take it, 2 when there is none.
    """
    settings, now = given.settings(), datetime.now(UTC)
    channel = Channel.from_environment()
    if not channel.destinations:
        raise UsageError(f"no alert URL is set: alerts are only in the log and in {settings.state.dir}; set {VARIABLE}")
    if dry_run:
        show.line(f"would send a test message to {', '.join(channel.kinds)}")
        return
    rows = []
    for destination in channel.destinations:
        try:
            with status(f"sending to {destination.name}"):
                destination.send("Chainlake: test", "This is a test of Chainlake's alerts. Nothing is wrong.", None)
            rows.append({"service": destination.name, "result": "taken"})
        except AlertFailed as failure:
            rows.append({"service": destination.name, "result": str(failure).partition(": ")[2]})
    box = Outbox(Path(settings.state.dir))
    with box.locked():
        left = box.deliver(channel, now)
    o.print_result({"services": rows, "undelivered_alerts": left}, given.json, lambda: show.table(pl.DataFrame(rows)))
    if any(row["result"] != "taken" for row in rows):
        raise typer.Exit(1)


def _row(incident: OpenIncident) -> dict[str, Any]:
    return {
        "id": incident.incident_id,
        "severity": incident.severity,
        "cause": incident.cause,
        "trade_date": incident.trade_date,
        "since": incident.opened_at,
        "acknowledged_by": incident.acknowledged_by,
        "detail": incident.detail,
    }


def _show(rows: list[dict[str, Any]]) -> None:
    """A paragraph each: a detail is a sentence, and a table would fold it."""
    for row in rows:
        words = [str(row[name]) for name in ("severity", "state", "cause") if row.get(name)]
        since = row.get("since") or row.get("changed_at")
        at = f", {since.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York" if since else ""
        taken = f", acknowledged by {row['acknowledged_by']}" if row.get("acknowledged_by") else ""
        named = row.get("id") or row.get("incident_id")
        show.line(f"{' '.join(words)} of {row['trade_date']}{at}{taken}{f' [{named}]' if named else ''}")
        show.line(f"    {row['detail']}")
    if not rows:
        show.line("nothing to do")


def _show_settled(settled: Settled, rows: list[dict[str, Any]]) -> None:
    _show(rows)
    show.line(f"{len(settled.opened)} opened, {len(settled.closed)} closed, {len(rows)} open")
    if settled.undelivered:
        show.line(f"{settled.undelivered} alerts could not be delivered yet: the next look tries again")
