"""What the errors tables and the log files say of one New York day, counted: kinds, levels, words, tracebacks.

The summary is kept as ``<state>/run_logs/errors/summary_YYYYMMDD.json``. Error rows are data and no alarm by
themselves; severe are errors that no code expected, alarming words, and runs that failed and were not made good.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from chainlake.ops.monitoring.errorlog import SEVERE, LogLine, error_log, folder, lines_of
from ingest.calendar.sessions import NEW_YORK
from lake.reads import Reader, reader
from lake.storage import write_object
from lake.store import Lake

# A line of dbt.log: a time without a date, and a level.
DBT_LINE = re.compile(r"(?:\x1b\[0m)?(\d\d):(\d\d):(\d\d)\.\d+ \[(\w+) *\] \[[^\]]*\]: ?(.*)")
TRACEBACK = "Traceback (most recent call last)"
MOST_EXAMPLES = 5
GOOD = ("ok", "partial")


@dataclass(slots=True)
class FileScan:
    """What one log file says of a day: lines by level, keywords by number, tracebacks, and the first severe events."""

    file: str
    lines: int = 0
    levels: Counter[str] = field(default_factory=Counter)
    keywords: Counter[str] = field(default_factory=Counter)
    tracebacks: int = 0
    unhandled: int = 0
    examples: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The counts as plain values."""
        # Of a Counter, `asdict` makes one that counts the pairs (Python 3.11).
        plain = replace(self, levels=Counter(), keywords=Counter())
        return {**asdict(plain), "levels": dict(self.levels), "keywords": dict(self.keywords)}

    def take(self, line: LogLine, keywords: Sequence[str]) -> None:
        """Count a line."""
        self.lines += 1
        self.levels[line.level] += 1
        found = line.words(keywords)
        self.keywords.update(found)
        self.tracebacks += TRACEBACK in line.text
        self.unhandled += line.unhandled
        if (found or line.unhandled) and len(self.examples) < MOST_EXAMPLES:
            self.examples.append(line.event[:300])


@dataclass(frozen=True, slots=True)
class Scan:
    """One day: rows of ops/errors by kind, runs that did not end well, log files, and what of it is severe."""

    date: date
    scanned_at: datetime
    errors: tuple[dict[str, Any], ...]
    runs: tuple[dict[str, Any], ...]
    files: tuple[FileScan, ...]

    @property
    def severe(self) -> list[str]:
        """One line for each severe finding."""
        found = [
            f"{run['step']} of {run['trade_date']} failed and was not made good: {run['message'] or 'no message'}"
            for run in self.runs
            if run["status"] == "failed" and not run["made_good"]
        ]
        for file in self.files:
            if file.unhandled:
                found.append(f"{file.file}: {file.unhandled} errors that nothing expected: {'; '.join(file.examples)}")
            elif file.keywords:
                words = ", ".join(f"{word} ({count})" for word, count in file.keywords.most_common())
                found.append(f"{file.file}: alarming words: {words}: {'; '.join(file.examples)}")
        return found

    def as_dict(self) -> dict[str, Any]:
        """The scan as plain values, with its verdict."""
        files = [file.as_dict() for file in self.files]
        return {**asdict(replace(self, files=())), "files": files, "severe": self.severe, "passed": not self.severe}


def scan(lake: Lake | None, state: Path, day: date, keywords: Sequence[str], now: datetime) -> Scan:
    """Count what the lake and the files of a New York day say; without a lake (None) only the files."""
    errors: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    if lake is not None:
        with reader(lake) as reads:
            errors, runs = _errors(reads, day), _bad_runs(reads, day)
    files = [_file(state, path, lines, keywords) for path, lines in _sources(state, day)]
    return Scan(day, now, tuple(errors), tuple(runs), tuple(file for file in files if file.lines))


def keep(result: Scan, state: Path) -> Path:
    """Write the summary, and return where."""
    name = f"summary_{result.date:%Y%m%d}.json"
    content = json.dumps(result.as_dict(), default=str, indent=2) + "\n"
    write_object(str(folder(state)), name, content.encode())
    return folder(state) / name


def _errors(reads: Reader, day: date) -> list[dict[str, Any]]:
    return reads.rows(
        "ops/errors",
        f"trade_date = date '{day}' group by all order by count desc, step, error_type, code",
        "step, error_type, code, count(*) as count, max(observed_at) as last_at, "
        "arg_max(message, observed_at) as message",
    )


def _bad_runs(reads: Reader, day: date) -> list[dict[str, Any]]:
    """Runs of a date that failed or were refused; `made_good` when a later one of the same work ended well."""
    columns = "trade_date, step, view, slot_30m, batch, status, message, started_at"
    runs = reads.rows("ops/runs", f"trade_date = date '{day}' order by started_at", columns)

    def work(run: dict[str, Any]) -> tuple[Any, ...]:
        return run["step"], run["view"], run["slot_30m"], run["batch"]

    return [
        run | {"made_good": any(work(later) == work(run) and later["status"] in GOOD for later in runs[number:])}
        for number, run in enumerate(runs)
        if run["status"] not in GOOD
    ]


# -- files -------------------------------------------------------------------------------------------------------------


def _sources(state: Path, day: date) -> Iterator[tuple[Path, Iterable[LogLine]]]:
    """The log files that may tell of a day, with their lines of it."""
    morning = datetime.combine(day, datetime.min.time(), NEW_YORK)
    logs = sorted(path for path in (state / "run_logs").glob("*.jsonl") if path.stat().st_mtime >= morning.timestamp())
    whole = state / "run_logs" / f"chainlake_{day:%Y%m%d}.jsonl"
    # The central error log repeats the warnings of the whole one.
    for path in logs if whole in logs else [*logs, error_log(state, day)]:
        yield path, (line for line in lines_of(path) if _is_of(line, day))
    dbt = state / "dbt" / "logs" / "dbt.log"
    if dbt.exists() and dbt.stat().st_mtime >= morning.timestamp():
        yield dbt, (line for line in _dbt_lines(dbt) if _is_of(line, day))


def _is_of(line: LogLine, day: date) -> bool:
    return line.at.astimezone(NEW_YORK).date() == day


def _file(state: Path, path: Path, lines: Iterable[LogLine], keywords: Sequence[str]) -> FileScan:
    found = FileScan(str(path.relative_to(state)))
    for line in lines:
        found.take(line, keywords)
    return found


def _dbt_lines(path: Path) -> Iterator[LogLine]:
    """Warnings and worse of dbt's log. It tells times (UTC) without dates: they are counted back from the last change.

    A test that fails is an error to dbt, and a number to us; only a traceback is unexpected.
    """
    at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    with path.open(encoding="utf-8", errors="replace") as file:
        records = list(_dbt_records(file))
    for clock, level, text in reversed(records):
        then = at.replace(hour=clock[0], minute=clock[1], second=clock[2], microsecond=0)
        at = then if then <= at else then - timedelta(days=1)
        if level in SEVERE or level.startswith("warn") or TRACEBACK in text:
            yield LogLine(at, level, text.splitlines()[0], text, TRACEBACK in text)


def _dbt_records(lines: Iterable[str]) -> Iterator[tuple[tuple[int, int, int], str, str]]:
    """Time, level and text of the records; what follows a record without a time belongs to it."""
    current: tuple[tuple[int, int, int], str, list[str]] | None = None
    for line in lines:
        if found := DBT_LINE.match(line):
            if current:
                yield current[0], current[1], "\n".join(current[2])
            current = ((int(found[1]), int(found[2]), int(found[3])), found[4], [found[5]])
        elif current and TRACEBACK in line:
            current[2].append(line.rstrip())
    if current:
        yield current[0], current[1], "\n".join(current[2])
