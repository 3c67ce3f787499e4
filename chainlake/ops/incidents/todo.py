"""``<state>/TODO.now.md``: what is open now, for the operator. Written whole, never edited."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from chainlake.ops.incidents.causes import OpenIncident, cause_of, runbook, with_next_step
from ingest.calendar.sessions import NEW_YORK
from lake.storage import write_object

FILE = "TODO.now.md"


def write(state: Path, incidents: Sequence[OpenIncident]) -> None:
    """Replace the file: whoever reads it has the old list or the new one."""
    write_object(str(state), FILE, text(incidents).encode())


def text(incidents: Sequence[OpenIncident]) -> str:
    """The list as markdown."""
    if not incidents:
        return "# To do now\n\nNothing to do.\n"
    return "\n".join(["# To do now", "", *(line for incident in incidents for line in _item(incident))]) + "\n"


def _item(incident: OpenIncident) -> Iterator[str]:
    mark = "x" if incident.acknowledged_at else " "
    since = f"{incident.opened_at.astimezone(NEW_YORK):%Y-%m-%d %H:%M}"
    yield f"- [{mark}] **{incident.severity}** `{incident.cause}` of {incident.trade_date}, since {since} New York"
    if incident.acknowledged_at:
        taken = f"{incident.acknowledged_at.astimezone(NEW_YORK):%Y-%m-%d %H:%M}"
        yield f"  - acknowledged by {incident.acknowledged_by} at {taken}"
    detail = with_next_step(incident.detail, incident.cause, incident.trade_date)
    yield f"  - {cause_of(incident.cause).meaning}: {detail}"
    yield f"  - see {runbook(incident.cause)}; `chainlake ops ack {incident.incident_id[-12:]}` once you have it"
