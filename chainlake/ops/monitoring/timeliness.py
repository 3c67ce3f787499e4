"""Rules about time: what should have happened by now and has left no trace. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from chainlake.ops.incidents.causes import FLOW_LATE, Severity
from chainlake.ops.monitoring.facts import COMMITTED_AFTER, Facts
from chainlake.ops.monitoring.findings import Findings
from flows.active_steps import step_key
from flows.timetable import FORMER_NAMES, Planned, plan
from ingest.calendar.sessions import NEW_YORK, Session, Slot, previous_session, session_on
from ingest.open_interest.enrichment import superseded_at

MAINTENANCE_DUE = timedelta(hours=24)
# The step of ops/runs that each planned step leaves. Reports leave files only, and are not watched.
TRACES = {
    "prewarm": "prewarm",
    "discover": "discover",
    "midday-refresh": "refresh",
    "close-snapshot": "close-snapshot",
    "enrichment": "enrichment",
    "maintain": "compact",
}
# The day goes on without the others.
NEEDED = frozenset({"discover", "close-snapshot", "enrichment"})


def slots(facts: Facts, findings: Findings) -> None:
    """Slots whose window is over without anything captured, and those that are late while it is open."""
    grace = timedelta(seconds=facts.settings.watch.slot_late_s)
    for session in facts.sessions:
        day = session.trade_date
        empty = [slot for slot in session.slots if _expected(facts, slot.sample_time) and _is_empty(facts, slot)]
        missed = [slot.label for slot in empty if slot.window_end + COMMITTED_AFTER <= facts.now]
        late = [slot.label for slot in empty if slot.sample_time + grace <= facts.now < slot.window_end]
        findings.looked_at("slot_missed", [day])
        findings.looked_at("slot_late", [day])
        if missed:
            which = f"all {len(missed)} slots" if len(missed) == len(session.slots) else ", ".join(missed)
            findings.add("slot_missed", day, f"nothing was captured in the window of {which}")
        if late:
            findings.add("slot_late", day, f"nothing is recorded of {late[0]} after more than {grace.seconds} s")


def _expected(facts: Facts, at: datetime) -> bool:
    # A lake owes nothing from before it was made.
    return facts.created_at <= at <= facts.now


def _is_empty(facts: Facts, slot: Slot) -> bool:
    at_work = step_key("snapshot", slot.trade_date, slot.slot_30m) in facts.active_steps
    return not at_work and not facts.captured(slot.trade_date, slot.slot_30m)


def steps(facts: Facts, findings: Findings) -> None:
    """The other steps of the timetable that have left no trace, as long as they can still be done."""
    late = timedelta(seconds=facts.settings.watch.slot_late_s)
    first = previous_session(facts.today).trade_date
    for incident in facts.open:
        kind, _, step = incident.cause.partition(":")
        # Nobody looked while it could still be done; or the step has another name since.
        if kind == FLOW_LATE and (step in FORMER_NAMES or incident.trade_date < previous_session(first).trade_date):
            findings.looked_at(incident.cause, [incident.trade_date])
    for planned in _planned(facts):
        if planned.step not in TRACES or not _expected(facts, planned.at):
            continue
        cause = f"{FLOW_LATE}:{planned.step}"
        findings.looked_at(cause, [planned.trade_date])
        if planned.at + late <= facts.now < _useful_until(planned, facts) and not _has_trace(planned, facts):
            at = f"{planned.at.astimezone(NEW_YORK):%Y-%m-%d %H:%M}"
            severity: Severity = "severe" if planned.step in NEEDED else "warning"
            findings.add(cause, planned.trade_date, f"due {at} New York, and nothing of it is recorded", severity)


def _planned(facts: Facts) -> Iterator[Planned]:
    day = previous_session(facts.today).trade_date
    while day <= facts.today:
        yield from plan(day, facts.settings)
        day += timedelta(days=1)


def _useful_until(planned: Planned, facts: Facts) -> datetime:
    settings, session = facts.settings, session_on(planned.trade_date)
    if session is None:
        return planned.at + MAINTENANCE_DUE
    if planned.step == "prewarm":
        return session.at(settings.schedule.freeze_at)
    if planned.step == "close-snapshot":
        return session.at(settings.close.deadline)
    if planned.step == "enrichment":
        return superseded_at(planned.trade_date, settings)
    return session.close if planned.step != "maintain" else planned.at + MAINTENANCE_DUE


def _has_trace(planned: Planned, facts: Facts) -> bool:
    step, day = TRACES[planned.step], planned.trade_date
    key = step_key(step, day)
    if any(active == key or active.startswith(f"{key} ") for active in facts.active_steps):
        return True
    runs = facts.runs_of(step, day=day)
    if planned.step == "enrichment":
        # Done is done; and what was never captured has no open interest to fill.
        whole = any(run["status"] == "ok" for run in runs)
        return whole or any(run["started_at"] >= planned.at for run in runs) or not _was_recorded(facts, day)
    if planned.step == "close-snapshot":
        return any(run["captured"] for run in runs)
    return bool(runs)


def _was_recorded(facts: Facts, day: object) -> bool:
    return any(run["trade_date"] == day and run["step"] in ("discover", "snapshot") for run in facts.runs)


def closing(facts: Facts, findings: Findings) -> None:
    """Sessions past their close deadline without a close view, or without a publication."""
    over = [session for session in facts.sessions if _deadline(session, facts) <= facts.now]
    owed = [session for session in over if _expected(facts, session.at(facts.settings.schedule.close_snapshot_at))]
    viewed = {run["trade_date"] for run in facts.runs_of("close-snapshot") if run["captured"]}
    for session in owed:
        day = session.trade_date
        findings.looked_at("close_missed", [day])
        findings.looked_at("not_published", [day])
        # The day rolls up from its close slot instead: it is over once a later session has its close view.
        if _was_recorded(facts, day) and day not in viewed and not any(later > day for later in viewed):
            findings.add(
                "close_missed", day, f"none by {_deadline(session, facts).astimezone(NEW_YORK):%H:%M} New York"
            )
        if day not in facts.published and _was_recorded(facts, day):
            findings.add("not_published", day, "what was recorded of it has no daily views yet")


def _deadline(session: Session, facts: Facts) -> datetime:
    return session.at(facts.settings.close.deadline)
