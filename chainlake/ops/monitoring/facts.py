"""What the watchdog knows of the last sessions: read from the lake by SQL, from the disk, and from the error log."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from json import loads
from pathlib import Path
from typing import Any

from chainlake.ops.incidents.causes import OpenIncident
from chainlake.ops.incidents.incidents import open_changes
from chainlake.ops.monitoring.errorlog import LogLine, lines_since
from flows.active_steps import active_steps, step_key
from flows.reports.slot_facts import SlotFacts, slot_facts
from ingest.calendar.sessions import NEW_YORK, Session, session_on, sessions_back, sessions_between
from ingest.recovery import left_behind
from ingest.settings import Settings
from lake.maintenance.disk import DiskUsage, usage
from lake.reads import Reader, reader
from lake.storage import read_object
from lake.store import MANIFEST, Lake

# Sessions before today's that are looked at: a long week-end without a look is made up for.
SESSIONS_BACK = 5
# What was captured at the very end of a window is committed seconds after it.
COMMITTED_AFTER = timedelta(seconds=60)
# A finding in the log is over when it has not been seen again for so long: a person has had a day to see it.
QUIET = timedelta(hours=24)
RUN_COLUMNS = (
    "trade_date, step, slot_30m, status, captured, delayed, pacing_errors, started_at, ended_at, trigger, message"
)


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Errors of one kind on one date: how many, when the last was met, and what it said."""

    trade_date: date
    error_type: str
    code: int | None
    count: int
    last_at: datetime
    message: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the rules of a look need; `now` and all instants are aware, in pipeline time."""

    now: datetime
    settings: Settings
    created_at: datetime
    sessions: tuple[Session, ...]
    runs: tuple[dict[str, Any], ...] = ()
    errors: tuple[ErrorGroup, ...] = ()
    metrics: tuple[dict[str, Any], ...] = ()
    slots: dict[int, SlotFacts] = field(default_factory=dict)
    in_raw: dict[date, frozenset[int]] = field(default_factory=dict)
    published: frozenset[date] = frozenset()
    disks: tuple[DiskUsage, ...] = ()
    log: tuple[LogLine, ...] = ()
    open: tuple[OpenIncident, ...] = ()
    active_steps: frozenset[str] = frozenset()
    journals: tuple[Path, ...] = ()

    @property
    def today(self) -> date:
        """The New York date."""
        return self.now.astimezone(NEW_YORK).date()

    def runs_of(self, *steps: str, day: date | None = None) -> list[dict[str, Any]]:
        """The runs of steps in the order of their start, of one date or all."""
        return [run for run in self.runs if run["step"] in steps and day in (None, run["trade_date"])]

    def captured(self, day: date, slot: int) -> bool:
        """Whether anything of a slot was captured in its window."""
        runs = self.runs_of("snapshot", day=day)
        return any(run["slot_30m"] == slot and run["captured"] for run in runs) or slot in self.in_raw.get(day, ())

    def open_dates(self, cause: str) -> list[date]:
        """The dates of the open incidents of a cause, oldest first."""
        return sorted(incident.trade_date for incident in self.open if incident.cause == cause)


def gather(settings: Settings, lake: Lake, now: datetime) -> Facts:
    """Read the facts of the last sessions, and of the dates of open incidents."""
    state = Path(settings.state.dir)
    today = now.astimezone(NEW_YORK).date()
    at_work = frozenset(active_steps(state))
    with reader(lake) as reads:
        still_open = open_changes(reads)
        first = min([sessions_back(today, SESSIONS_BACK), *(incident.trade_date for incident in still_open)])
        sessions = sessions_between(first, today)
        since = f"trade_date >= date '{first}'"
        runs = reads.rows("ops/runs", f"{since} order by started_at", RUN_COLUMNS)
        return Facts(
            now,
            settings,
            created_at(lake),
            tuple(sessions),
            runs=tuple(runs),
            errors=_errors(reads, since),
            metrics=tuple(
                reads.rows(
                    "quality/daily_metrics",
                    f"{since} order by trade_date, metric",
                    "trade_date, metric, value, threshold, passed, pending",
                )
            ),
            slots=_slots_so_far(reads, today, now, at_work),
            in_raw=_slots_in_raw(reads, sessions, runs, now),
            published=frozenset(row["trade_date"] for row in reads.rows("ops/published", since, "distinct trade_date")),
            disks=tuple(usage([lake.root, str(state)])),
            log=tuple(lines_since(state, now - QUIET, now)),
            open=tuple(still_open),
            active_steps=at_work,
            journals=tuple(left_behind(state)),
        )


def created_at(lake: Lake) -> datetime:
    """When the lake was made: it owes nothing from before."""
    return datetime.fromisoformat(loads(read_object(lake.root, MANIFEST))["created_at"])


def _errors(reads: Reader, since: str) -> tuple[ErrorGroup, ...]:
    rows = reads.rows(
        "ops/errors",
        f"{since} group by all",
        "trade_date, error_type, code, count(*) as n, max(observed_at) as last_at, "
        "arg_max(message, observed_at) as message",
    )
    return tuple(ErrorGroup(*row.values()) for row in rows)


def _slots_so_far(reads: Reader, today: date, now: datetime, at_work: frozenset[str]) -> dict[int, SlotFacts]:
    """The facts of today's slots whose windows are over, and which nobody is about to commit."""
    session = session_on(today)
    over = [
        slot.slot_30m
        for slot in (session.slots if session else ())
        if slot.window_end + COMMITTED_AFTER <= now and step_key("snapshot", today, slot.slot_30m) not in at_work
    ]
    return {number: found for (_, number), found in slot_facts(reads, today, [("intraday", k) for k in over]).items()}


def _slots_in_raw(
    reads: Reader, sessions: Sequence[Session], runs: Sequence[dict[str, Any]], now: datetime
) -> dict[date, frozenset[int]]:
    """What raw knows of slots that no run records: a capture that was killed between its rows and its record."""
    recorded = {(run["trade_date"], run["slot_30m"]) for run in runs if run["step"] == "snapshot" and run["captured"]}
    unrecorded = [
        session.trade_date
        for session in sessions
        if any(slot.sample_time <= now and (slot.trade_date, slot.slot_30m) not in recorded for slot in session.slots)
    ]
    return {day: frozenset(reads.captured_slots(day)) for day in unrecorded}
