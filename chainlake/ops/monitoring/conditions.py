"""Rules about the state of things: the broker, the disk, maintenance, the log, and flows. Pure."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from chainlake.ops.incidents.causes import FLOW_FAILED, FLOW_LATE, FlowTrouble
from chainlake.ops.monitoring.facts import ErrorGroup, Facts
from chainlake.ops.monitoring.findings import Findings
from ingest.broker.codes import COMPETING_SESSION, NO_LIVE_PERMISSION
from ingest.calendar.sessions import NEW_YORK
from ingest.runs import LAKE_DAMAGED

CAPTURES = ("snapshot", "close-snapshot")
# Steps that read what was recorded before.
READERS = (*CAPTURES, "discover", "prewarm", "refresh", "enrichment")
MAINTENANCE = ("compact", "retention", "vacuum")


def broker(facts: Facts, findings: Findings, clock_skew_s: float | None, gateway_error: str | None) -> None:
    """What the errors of the last sessions, and a probe of the gateway, say of the broker."""
    _by_errors(
        facts,
        findings,
        "competing_session",
        lambda error: error.code == COMPETING_SESSION,
        lambda run: bool(run["captured"]),
    )
    _by_errors(
        facts,
        findings,
        "no_permission",
        lambda error: error.code in NO_LIVE_PERMISSION or error.error_type == "delayed_fallback",
        lambda run: bool(run["captured"]) and not run["delayed"],
    )
    _by_errors(
        facts,
        findings,
        "discovery_stale",
        lambda error: error.error_type == "discovery_stale",
        lambda run: run["status"] == "ok",
        steps=("discover", "refresh"),
    )
    _by_errors(
        facts,
        findings,
        "lake_damaged",
        lambda error: error.error_type == LAKE_DAMAGED,
        lambda run: bool(run["captured"]),
        steps=READERS,
    )
    _gateway(facts, findings, clock_skew_s is not None, gateway_error)
    limit = facts.settings.watch.clock_skew_s
    if clock_skew_s is not None:
        skewed = f"the gateway's clock differs by {clock_skew_s:+.1f} s, and may by {limit:g} s"
        findings.condition(facts, "clock_skew", facts.today, skewed if abs(clock_skew_s) > limit else None)


def _by_errors(
    facts: Facts,
    findings: Findings,
    cause: str,
    concerns: Callable[[ErrorGroup], bool],
    disproves: Callable[[dict[str, Any]], bool],
    steps: Sequence[str] = CAPTURES,
) -> None:
    """A condition that an error tells of, until a run that started after it shows that it is over."""
    errors = [error for error in facts.errors if concerns(error)]
    if not errors:
        return
    last = max(errors, key=lambda error: error.last_at)
    over = any(run["started_at"] > last.last_at and disproves(run) for run in facts.runs_of(*steps))
    number = sum(error.count for error in errors if error.trade_date == last.trade_date)
    found = f"{last.message} ({number:,} times, last at {_shown(last.last_at)})"
    findings.condition(facts, cause, last.trade_date, None if over else found)


def _gateway(facts: Facts, findings: Findings, reached: bool, gateway_error: str | None) -> None:
    """Out of reach by a probe now, or by an error since which nothing has been captured."""
    if gateway_error is not None:
        findings.condition(facts, "gateway_unreachable", facts.today, gateway_error)
        return
    contact = max((run["ended_at"] for run in facts.runs_of(*CAPTURES) if run["captured"]), default=facts.created_at)
    errors = [error for error in facts.errors if error.error_type == "gateway_unreachable"]
    if reached:
        findings.condition(facts, "gateway_unreachable", facts.today, None)
    elif errors and (last := max(errors, key=lambda error: error.last_at)).last_at > contact:
        findings.condition(facts, "gateway_unreachable", last.trade_date, last.message)
    elif all(each.opened_at < contact for each in facts.open if each.cause == "gateway_unreachable"):
        findings.condition(facts, "gateway_unreachable", facts.today, None)


def _shown(instant: datetime) -> str:
    return f"{instant.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York"


def host(facts: Facts, findings: Findings) -> None:
    """The disk, and maintenance."""
    bound = facts.settings.maintenance.disk_used_pct
    full = [
        f"the file system of {disk.path} is {disk.used_pct:.0f} % full, and may be {bound:g} %"
        for disk in facts.disks
        if disk.used_pct > bound
    ]
    findings.condition(facts, "disk_full", facts.today, "; ".join(full) or None)
    left = ", ".join(path.name for path in facts.journals[:3])
    findings.condition(
        facts, "journal_left", facts.today, f"{len(facts.journals)} journals are left: {left}" if left else None
    )
    last = [runs[-1] for step in MAINTENANCE if (runs := facts.runs_of(step))]
    for cause, status in (("maintenance_refused", "refused"), ("maintenance_failed", "failed")):
        bad = [run for run in last if run["status"] == status]
        words = "; ".join(f"{run['step']}: {run['message']}" for run in bad)
        findings.condition(facts, cause, bad[0]["trade_date"] if bad else facts.today, words or None)


def log(facts: Facts, findings: Findings) -> None:
    """What stands in the central error log: errors that nobody expected, and words that are an alarm of their own."""
    unhandled = [line for line in facts.log if line.unhandled]
    words = facts.settings.watch.keywords
    with_keywords = [line for line in facts.log if not line.unhandled and line.words(words)]
    for cause, lines in (("unhandled_error", unhandled), ("log_keyword", with_keywords)):
        if not lines:
            findings.condition(facts, cause, facts.today, None)
            continue
        last = lines[-1]
        hits = ", ".join(last.words(words))
        found = f"{len(lines)} lines in 24 h, the last at {_shown(last.at)}: {last.event[:200]}"
        found += f" ({hits})" if cause == "log_keyword" else ""
        findings.condition(facts, cause, last.at.astimezone(NEW_YORK).date(), found)


def flows(facts: Facts, findings: Findings, troubles: Sequence[FlowTrouble] | None) -> None:
    """What Prefect says. None: it was not asked, and nothing is known to be over either."""
    if troubles is None:
        return
    for incident in facts.open:
        # What the timetable still misses stays among the breaches, whatever Prefect says.
        if incident.cause.partition(":")[0] in (FLOW_FAILED, FLOW_LATE):
            findings.looked_at(incident.cause, [incident.trade_date])
    for trouble in troubles:
        findings.add(trouble.cause, trouble.trade_date, trouble.detail)
