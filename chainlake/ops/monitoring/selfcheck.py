"""The verdict on one session: every metric, every slot, the close view, the publication, incidents, and the logs."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

from chainlake.ops.incidents.incidents import open_changes
from chainlake.ops.monitoring.logscan import scan
from chainlake.ops.monitoring.thresholds import thresholds
from flows.lake_frames import daily_metrics
from flows.steps import trading_session
from ingest.calendar.sessions import NEW_YORK, Session
from ingest.errors import UsageError
from ingest.settings import Settings
from lake.reads import Reader, reader
from lake.store import Lake
from lake.text import number_text

Verdict = Literal["passed", "pending", "FAILED"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked: what was found, what it must be, and the verdict."""

    check: str
    found: str
    must_be: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Selfcheck:
    """All checks of a session."""

    trade_date: date
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed. What is pending has not failed."""
        return all(check.verdict != "FAILED" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """The check as plain values."""
        return {
            "trade_date": self.trade_date,
            "passed": self.passed,
            "pending": [check.check for check in self.checks if check.verdict == "pending"],
            "failed": [check.check for check in self.checks if check.verdict == "FAILED"],
            "checks": [asdict(check) for check in self.checks],
        }


def selfcheck(settings: Settings, lake: Lake, day: date, now: datetime) -> Selfcheck:
    """Check a session as of `now`. Raises UsageError for a date without a session, or in the future."""
    session = trading_session(day)
    if session.open > now:
        raise UsageError(f"{day} has not begun: it is {now.astimezone(NEW_YORK):%Y-%m-%d %H:%M} in New York")
    with reader(lake) as reads:
        checks = [
            *_metrics(lake, session, now),
            _slots(reads, session, now),
            _close_view(reads, session, settings, now),
            _publication(reads, session, settings, now),
            _incidents(reads, day),
        ]
    severe = scan(lake, Path(settings.state.dir), day, settings.watch.keywords, now).severe
    checks.append(_check("logs", "; ".join(severe) or "nothing severe", "nothing severe", not severe))
    return Selfcheck(day, tuple(checks))


def _check(name: str, found: str, must_be: str, passed: bool, pending: bool = False) -> Check:
    return Check(name, found, must_be, "passed" if passed else "pending" if pending else "FAILED")


def _metrics(lake: Lake, session: Session, now: datetime) -> Iterator[Check]:
    rows = {row["metric"]: row for row in daily_metrics(lake, session.trade_date).to_dicts()}
    for metric, limit in thresholds().items():
        row = rows.get(metric)
        if row is None:
            # Before the close there is nothing to roll up.
            yield _check(metric, "no data", str(limit), False, pending=now < session.close_slot.window_end)
        else:
            value = "no data" if row["value"] is None else number_text(row["value"])
            yield _check(metric, value, str(limit), row["passed"], row["pending"])


def _slots(reads: Reader, session: Session, now: datetime) -> Check:
    captured = reads.captured_slots(session.trade_date) | _slots_of_runs(reads, session.trade_date)
    empty = [slot for slot in session.slots if slot.slot_30m not in captured]
    missed = [slot.label for slot in empty if slot.window_end <= now]
    found = f"{len(session.slots) - len(empty)} captured" + (f", missed {', '.join(missed)}" if missed else "")
    return _check("slots", found, f"{len(session.slots)}", not empty, pending=not missed)


def _slots_of_runs(reads: Reader, day: date) -> set[int]:
    """Slots that runs captured: raw quotes leave after their retention, runs stay."""
    where = f"trade_date = date '{day}' and step = 'snapshot' and captured > 0 and slot_30m is not null"
    return {row["slot_30m"] for row in reads.rows("ops/runs", where, "distinct slot_30m")}


def _close_view(reads: Reader, session: Session, settings: Settings, now: datetime) -> Check:
    where = f"trade_date = date '{session.trade_date}' and step = 'close-snapshot'"
    captured = sum(row["captured"] or 0 for row in reads.rows("ops/runs", where, "captured"))
    pending = now < session.at(settings.close.deadline)
    return _check("close view", f"{captured:,} captured", "at least 1", captured > 0, pending)


def _publication(reads: Reader, session: Session, settings: Settings, now: datetime) -> Check:
    where = f"trade_date = date '{session.trade_date}' order by published_at desc limit 1"
    last = reads.rows("ops/published", where, "status, detail")
    found = "never published" if not last else " ".join(filter(None, [last[0]["status"], last[0]["detail"]]))
    pending = not last and now < session.at(settings.close.deadline)
    return _check("publication", found, "passed or warned", bool(last) and last[0]["status"] != "failed", pending)


def _incidents(reads: Reader, day: date) -> Check:
    left = [each.cause for each in open_changes(reads) if each.trade_date == day and each.acknowledged_at is None]
    return _check("incidents", ", ".join(left) or "none open", "none open", not left)
