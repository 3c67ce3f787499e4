"""Reading the central error log, ``<state>/run_logs/errors/errors_YYYYMMDD.log`` (flows/logs.py writes it)."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from ingest.calendar.sessions import NEW_YORK, UTC

SEVERE = frozenset({"error", "critical"})
# The watchdog's own words about a finding are no finding.
OURS = ("chainlake.ops.monitoring", "chainlake.ops.incidents")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One record of a log: its instant (UTC), level, event, and the whole line as it stands."""

    at: datetime
    level: str
    event: str
    text: str
    unhandled: bool

    def words(self, keywords: Sequence[str]) -> list[str]:
        """Which of `keywords` stand in the line, whatever their case."""
        line = self.text.casefold()
        return [word for word in keywords if word.casefold() in line]


def folder(state: Path) -> Path:
    """Where the central error log is."""
    return state / "run_logs" / "errors"


def error_log(state: Path, day: date) -> Path:
    """The central error log of a New York day."""
    return folder(state) / f"errors_{day:%Y%m%d}.log"


def lines_since(state: Path, since: datetime, now: datetime) -> Iterator[LogLine]:
    """Lines of the central error log after `since`, up to `now` (both aware)."""
    day, last = since.astimezone(NEW_YORK).date(), now.astimezone(NEW_YORK).date()
    while day <= last:
        yield from (line for line in lines_of(error_log(state, day)) if since < line.at <= now)
        day += timedelta(days=1)


def lines_of(path: Path) -> Iterator[LogLine]:
    """The records of a file of JSON lines; none when it is missing. A line that is no JSON is skipped."""
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if found := parsed(line):
                    yield found
    except FileNotFoundError:
        return


def parsed(line: str) -> LogLine | None:
    """One JSON line as a record; None for anything else, and for what the watchdog itself has logged."""
    try:
        record = json.loads(line)
        at = datetime.fromisoformat(record["timestamp"])
    except (ValueError, KeyError, TypeError):
        return None
    if str(record.get("logger", "")).startswith(OURS):
        return None
    level = str(record.get("level", "")).lower()
    # A traceback that somebody logged as a warning was expected; an error with one was not.
    unhandled = level == "critical" or (level in SEVERE and "exception" in record)
    return LogLine(at if at.tzinfo else at.replace(tzinfo=UTC), level, str(record.get("event", "")), line, unhandled)
