"""Incidents: each breach is opened once, alerted once, closed once, and stands in ``TODO.now.md`` in between.

``ops/incidents`` holds one row a change (opened, acknowledged, closed), appended exactly once under the application id
``incident/<cause>/<trade_date>``, so that of two looks at once one opens. Where the lake cannot be written, a breach
waits in the state folder until it can be.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import structlog

from chainlake.ops.incidents import todo
from chainlake.ops.incidents.alerts import Channel
from chainlake.ops.incidents.causes import Breach, Key, OpenIncident, runbook, with_next_step
from chainlake.ops.incidents.outbox import Outbox
from ingest.calendar.sessions import NEW_YORK
from ingest.errors import UsageError
from ingest.runs import new_ingest_id
from lake.maintenance.evolution import upgrade
from lake.reads import Reader, reader
from lake.storage import write_object
from lake.store import Lake
from lake.vocabulary import IncidentState

__all__ = [
    "Breach",
    "IncidentContext",
    "OpenIncident",
    "Settled",
    "acknowledge",
    "close",
    "history",
    "open_changes",
    "open_incidents",
    "report",
    "settle",
]

log = structlog.get_logger(__name__)

TABLE = "ops/incidents"
IN_ORDER = "true order by changed_at, incident_id, position(state in 'opened acknowledged closed')"


@dataclass(frozen=True, slots=True)
class Settled:
    """What a look came to: incidents opened and closed by it, all that are open now, alerts that still wait."""

    opened: tuple[OpenIncident, ...]
    closed: tuple[OpenIncident, ...]
    still_open: tuple[OpenIncident, ...]
    undelivered: int


@dataclass(frozen=True, slots=True)
class IncidentContext:
    """The lake that records incidents, the state folder of the host, where alerts go, and the instant (aware)."""

    lake: Lake
    state: Path
    channel: Channel
    now: datetime

    @property
    def outbox(self) -> Outbox:
        """The alerts of the state folder."""
        return Outbox(self.state)


def settle(context: IncidentContext, found: Sequence[Breach], examined: Collection[Key]) -> Settled:
    """Open what was found, close what was examined and not found, alert of both, and write ``TODO.now.md`` again.

    Waits for another process of this host that does the same. Raises LakeError when ops/incidents cannot be read.
    """
    state, now, box = context.state, context.now, context.outbox
    with box.locked(), reader(context.lake) as reads:
        late = _unrecorded(state)
        breaches = {breach.key: breach for breach in (*late, *found)}
        past = reads.rows(TABLE, IN_ORDER)
        known = {incident.key: incident for incident in _open(past)}
        # A lake of before schema 3 does not say who closed an incident.
        closed_by_hand = {_key(row) for row in past if row["state"] == "closed" and row.get("changed_by")}
        opened, unwritten = [], []
        for breach in breaches.values():
            if breach.key not in known and breach.key not in closed_by_hand:
                fresh = _opened(breach, now)
                try:
                    if _open_one(context, past, fresh):
                        opened.append(fresh)
                except Exception as error:  # whatever keeps the lake from being written, people are to be alerted
                    log.error("incident_not_recorded", cause=breach.cause, error=str(error))
                    _alert(context, fresh)
                    unwritten.append(breach)
        _keep_unrecorded(state, unwritten)
        wanted = {breach.key for breach in found}
        closed = [
            incident
            for key, incident in known.items()
            if key in set(examined) - wanted and _close_one(context, past, incident)
        ]
        left = open_changes(reads)
        shown = [_refreshed(incident, breaches.get(incident.key)) for incident in left]
        todo.write(state, [*shown, *(_opened(breach, now) for breach in unwritten)])
        undelivered = box.deliver(context.channel, now)
    return Settled(tuple(opened), tuple(closed), tuple(left), undelivered)


def report(lake_root: str | Path, state: Path, breach: Breach, now: datetime, channel: Channel) -> Settled:
    """Open an incident for one breach, from where nothing else may fail: a failure hook.

    Without a lake, or when it cannot be read or written, the breach is alerted, stands in ``TODO.now.md``, and is put
    into the lake by the next look. It never raises for the lake's sake.
    """
    try:
        return settle(IncidentContext(Lake.open(lake_root), state, channel, now), [breach], ())
    except Exception as error:  # the lake may be missing, damaged or out of reach: no reason to keep silent
        log.warning("incident_without_lake", cause=breach.cause, error=" ".join(str(error).split()))
    box = Outbox(state)
    with box.locked():
        waiting = {each.key: each for each in (*_unrecorded(state), breach)}
        _keep_unrecorded(state, list(waiting.values()))
        fresh = _opened(breach, now)
        _post_alert(box, channel, fresh)
        todo.write(state, [_opened(each, now) for each in waiting.values()])
        return Settled((fresh,), (), (fresh,), box.deliver(channel, now))


def open_changes(reads: Reader) -> list[OpenIncident]:
    """What is open, as `open_incidents`, over a connection that is there."""
    return _open(reads.rows(TABLE, IN_ORDER))


def open_incidents(lake: Lake) -> list[OpenIncident]:
    """What is open, severe ones first, then the oldest."""
    return _open(_changes(lake))


def history(lake: Lake) -> list[dict[str, Any]]:
    """Every change of every incident in the columns of ops/incidents, oldest first."""
    return _changes(lake)


def acknowledge(lake: Lake, state: Path, incident_id: str, who: str, now: datetime) -> OpenIncident:
    """Note that `who` has taken an incident. It stays in ``TODO.now.md``, marked. Raises UsageError for no such one.

    `incident_id` may be cut short as long as it names one open incident.
    """
    with Outbox(state).locked():
        past = _changes(lake)
        incident = _named(_open(past), incident_id)
        # False: another host has changed it meanwhile, and it is looked at anew.
        change = _Change("acknowledged", now, f"by {who}", who)
        while incident.acknowledged_at is None and not _append(lake, past, incident, change):
            past = _changes(lake)
            incident = _named(_open(past), incident_id)
        left = _open(_changes(lake))
        todo.write(state, left)
        return next((each for each in left if each.incident_id == incident.incident_id), incident)


def close(context: IncidentContext, incident_id: str, who: str, why: str) -> OpenIncident:
    """Close an incident that no look will ever find mended, such as a missed slot; `why` is kept, and alerted.

    It is not opened again for its trade date, whatever a look finds. Raises UsageError for no such incident.
    """
    box = context.outbox
    with box.locked():
        past = _changes(context.lake)
        incident = _named(_open(past), incident_id)
        _close_one(context, past, incident, f"closed by {who}: {why}", who)
        todo.write(context.state, _open(_changes(context.lake)))
        box.deliver(context.channel, context.now)
        return incident


# -- ops/incidents -----------------------------------------------------------------------------------------------------


def _changes(lake: Lake) -> list[dict[str, Any]]:
    with reader(lake) as reads:
        return reads.rows(TABLE, IN_ORDER)


def _open(changes: Sequence[dict[str, Any]]) -> list[OpenIncident]:
    found: dict[str, OpenIncident] = {}
    over = {row["incident_id"] for row in changes if row["state"] == "closed"}
    for row in changes:
        if row["state"] == "opened" and row["incident_id"] not in over:
            found[row["incident_id"]] = OpenIncident(
                row["incident_id"], row["cause"], row["trade_date"], row["severity"], row["detail"], row["changed_at"]
            )
    for row in changes:
        if row["state"] == "acknowledged" and (incident := found.get(row["incident_id"])):
            taken = {"acknowledged_at": row["changed_at"], "acknowledged_by": row.get("changed_by") or row["detail"]}
            found[row["incident_id"]] = OpenIncident(**{**asdict(incident), **taken})
    return sorted(found.values(), key=lambda each: (each.severity != "severe", each.opened_at, each.cause))


@dataclass(frozen=True, slots=True)
class _Change:
    """What becomes of an incident, and the person who made it so; None: a look."""

    state: IncidentState
    at: datetime
    detail: str
    who: str | None = None


def _append(lake: Lake, past: Sequence[dict[str, Any]], incident: OpenIncident, change: _Change) -> bool:
    """Append one change; False when another process has made one first."""
    row = {
        "trade_date": incident.trade_date,
        "incident_id": incident.incident_id,
        "state": change.state,
        "cause": incident.cause,
        "severity": incident.severity,
        "detail": change.detail,
        "changed_at": change.at,
        "changed_by": change.who,
    }
    # A watchdog may be the first of this version to write: the column `changed_by` is new.
    upgrade(lake)
    so_far = sum(_key(row) == incident.key for row in past)
    return lake.append(TABLE, [row], f"incident/{incident.cause}/{incident.trade_date}", so_far + 1)


def _open_one(context: IncidentContext, past: Sequence[dict[str, Any]], incident: OpenIncident) -> bool:
    # The alert is written down first: a crash after it loses nothing, and the alert of another host is withdrawn.
    posted = not _was_opened(past, incident.key) and _alert(context, incident)
    if _append(context.lake, past, incident, _Change("opened", incident.opened_at, incident.detail)):
        return True
    if posted:
        context.outbox.withdraw(_message_id(incident.key, "opened"))
    return False


def _close_one(
    context: IncidentContext,
    past: Sequence[dict[str, Any]],
    incident: OpenIncident,
    why: str = "it is over",
    who: str | None = None,
) -> bool:
    posted = context.outbox.post(
        context.channel,
        _message_id(incident.key, "closed"),
        context.now,
        f"Chainlake: over: {incident.cause} of {incident.trade_date}",
        f"{why}; it was open since {incident.opened_at.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York.\n"
        f"It was: {incident.detail}",
        None,
    )
    try:
        # False: another host was faster. Unless it has closed the incident, that is still to do.
        while not _append(context.lake, past, incident, _Change("closed", context.now, why, who)):
            past = _changes(context.lake)
            if all(each.incident_id != incident.incident_id for each in _open(past)):
                break
        else:
            return True
    except Exception as error:  # it stays open, and the next look closes it
        log.error("incident_not_closed", cause=incident.cause, error=str(error))
        return False
    if posted:
        context.outbox.withdraw(_message_id(incident.key, "closed"))
    return False


def _key(row: dict[str, Any]) -> Key:
    return row["cause"], row["trade_date"]


def _was_opened(past: Sequence[dict[str, Any]], key: Key) -> bool:
    return any(_key(row) == key for row in past)


def _alert(context: IncidentContext, incident: OpenIncident) -> bool:
    return _post_alert(context.outbox, context.channel, incident)


def _post_alert(box: Outbox, channel: Channel, incident: OpenIncident) -> bool:
    """Post the alert of an incident, unless one of its cause and trade date was posted here before."""
    day = incident.trade_date
    return box.post(
        channel,
        _message_id(incident.key, "opened"),
        incident.opened_at,
        f"Chainlake: {incident.severity}: {incident.cause} of {day}",
        f"{with_next_step(incident.detail, incident.cause, day)}\nMore: {runbook(incident.cause)}",
        incident.severity,
    )


def _message_id(key: Key, what: str) -> str:
    return f"{key[1]}/{key[0]}/{what}"


def _opened(breach: Breach, now: datetime) -> OpenIncident:
    return OpenIncident(new_ingest_id(), breach.cause, breach.trade_date, breach.severity, breach.detail, now)


def _refreshed(incident: OpenIncident, breach: Breach | None) -> OpenIncident:
    """The incident with what was found of it just now."""
    if breach is None:
        return incident
    return OpenIncident(**{**asdict(incident), "detail": breach.detail, "severity": breach.severity})


def _named(incidents: Sequence[OpenIncident], incident_id: str) -> OpenIncident:
    found = [each for each in incidents if incident_id and each.incident_id.endswith(incident_id)]
    if len(found) != 1:
        raise UsageError(
            f"{len(found) or 'no'} open incidents are named {incident_id!r}: see `chainlake ops incidents`"
        )
    return found[0]


# -- what the lake could not take --------------------------------------------------------------------------------------


def _unrecorded(state: Path) -> list[Breach]:
    try:
        rows = json.loads((state / "alerts" / "unrecorded.json").read_text())
        return [Breach(**{**row, "trade_date": date.fromisoformat(row["trade_date"])}) for row in rows]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        log.error("unrecorded_breaches_unreadable", error=str(error))
        return []


def _keep_unrecorded(state: Path, breaches: Sequence[Breach]) -> None:
    path = state / "alerts" / "unrecorded.json"
    if breaches:
        rows = [asdict(breach) for breach in breaches]
        write_object(str(path.parent), path.name, json.dumps(rows, default=str).encode())
    else:
        path.unlink(missing_ok=True)
