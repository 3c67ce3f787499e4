"""Maintenance of a lake as steps that leave their records: compact, retention, vacuum and disk.

The first three hold the lake's one maintainer lock while they work. Each leaves a row in ``ops/runs``, its errors in
``ops/errors``, and a line for every rewrite and deletion in ``<state>/run_logs/retention_YYYYMM.jsonl``.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from flows.clock_evidence import newest_session, require_evidence
from ingest.calendar.clock import HostClock
from ingest.calendar.sessions import NEW_YORK, sessions_back
from ingest.runs import Run, Trigger
from ingest.settings import Settings
from lake.catalog.as_of import ON_MARKET_CLOCK, last_instant
from lake.maintenance import compaction, disk, retention, vacuum
from lake.maintenance.lock import MaintainerBusy, maintainer
from lake.reads import reader
from lake.store import Lake
from lake.vocabulary import ErrorType, Step

# At the horizon the publication before it answers: it may be older by a long week-end.
SPARE_DAYS = 8


@dataclass(frozen=True, slots=True)
class Report:
    """What a step did, or would do: one row (of plain values) for each thing, and one sentence."""

    step: str
    rows: tuple[dict[str, Any], ...]
    sentence: str
    passed: bool = True


@dataclass(frozen=True, slots=True)
class MaintenanceContext:
    """A lake with its settings, who started the step, and the instant at which it did (aware).

    `clock_is_right`: a person vouches for that instant, however long ago the lake has recorded anything.
    """

    lake: Lake
    settings: Settings
    now: datetime
    trigger: Trigger = "manual"
    clock_is_right: bool = False

    @property
    def state(self) -> Path:
        """The folder of logs and working files."""
        return Path(self.settings.state.dir)

    @property
    def horizon(self) -> datetime:
        """The earliest instant of as-of queries."""
        with reader(self.lake) as reads:
            return last_instant(self.lake, reads, self.now) - timedelta(days=self.settings.maintenance.as_of_days)


def compact(context: MaintenanceContext, dry_run: bool = False) -> Report:
    """Compact what is due, prove the rows, and tidy the logs. Raises MaintainerBusy, RowsDiffer."""
    given, lake = context.settings.maintenance, context.lake
    today = context.now.astimezone(NEW_YORK).date()

    def candidates() -> list[compaction.Candidate]:
        return compaction.candidates(lake, today, today - timedelta(days=given.hot_days), given.same_day)

    if dry_run:
        return _compaction_report([_candidate_row(each) for each in candidates()], "would compact")
    with _recorded(context, "compact") as run, maintainer(lake, "compact") as hold:
        partitions = candidates()
        run.asked = len(partitions)
        rows = []
        for done in compaction.compact(lake, partitions, hold):
            rows.append(_candidate_row(done.candidates) | {"files_after": done.files, "bytes_after": done.size})
            _note(context, run, "compact", rows[-1] | {"version": done.version})
        worked_on = {row["table"] for row in rows}
        for name in lake.table_names():
            hold.require()
            vacuum.tidy_log(lake, name, given.as_of_days + SPARE_DAYS, checkpoint=name in worked_on)
        run.captured = len(rows)
        report = _compaction_report(rows, "compacted")
        run.message = report.sentence
    return report


def undo_compaction(context: MaintenanceContext, table: str, version: int) -> Report:
    """Take back the rows that a compaction doubled or lost, and keep what was committed after it."""
    with _recorded(context, "compact") as run, maintainer(context.lake, "compact --undo") as hold:
        days = compaction.undo(context.lake, table, version, hold)
        run.asked = run.captured = len(days)
        rows = tuple({"table": table, "trade_date": day, "undone_version": version} for day in days)
        for row in rows:
            _note(context, run, "undo", row)
        run.message = f"took back compaction {table}@{version} for {len(days)} dates"
    return Report("compact", rows, run.message)


def run_retention(context: MaintenanceContext, dry_run: bool = False) -> Report:
    """Take out what is older than its retention. Raises MaintainerBusy.

    Raises ClockRefused, before anything is written, when something is due by a clock that the lake contradicts.
    """
    given, lake = context.settings.maintenance, context.lake
    today = context.now.astimezone(NEW_YORK).date()
    cutoffs = retention.Cutoffs(
        intraday=today - timedelta(days=given.intraday_retain_days),
        lookups=sessions_back(today, context.settings.discovery.unlisted_sessions),
        errors=today - timedelta(days=given.log_retain_days),
    )
    logs = retention.expired_logs(context.state, context.now - timedelta(days=given.log_retain_days))
    expired = retention.expired(lake, cutoffs)
    if expired or logs:
        _require_clock(context, "retention")
    if dry_run:
        return _retention_report([asdict(each) for each in expired], len(logs), "would retire")
    with _recorded(context, "retention") as run, maintainer(lake, "retention") as hold:
        dates = retention.expired(lake, cutoffs)
        run.asked = len(dates)
        rows = []
        for each in retention.remove_expired(lake, dates, hold):
            rows.append(asdict(each))
            _note(context, run, "retire", rows[-1])
        for path in logs:
            _note(context, run, "delete", {"file": path.name, "size": path.stat().st_size})
            path.unlink()
        run.captured = len(rows)
        report = _retention_report(rows, len(logs), "retired")
        run.message = report.sentence
    return report


def run_vacuum(context: MaintenanceContext, dry_run: bool = False) -> Report:
    """Delete the files that nothing needs any more. Raises MaintainerBusy, and ClockRefused as `run_retention` does."""
    hours = context.settings.maintenance.vacuum_hours
    if context.lake.origin not in ON_MARKET_CLOCK:
        # The as-of horizon of a market clock's lake counts from its last publication, whatever the host's clock says.
        _require_clock(context, "vacuum")
    if dry_run:
        found = [asdict(each) for each in vacuum.vacuum(context.lake, context.horizon, None, hours)]
        return _vacuum_report(found, "would delete")
    with _recorded(context, "vacuum") as run, maintainer(context.lake, "vacuum") as hold:
        rows = []
        for each in vacuum.vacuum(context.lake, context.horizon, hold, hours):
            rows.append(asdict(each))
            _note(context, run, "vacuum", rows[-1])
        run.asked = run.captured = sum(row["files"] for row in rows)
        report = _vacuum_report(rows, "deleted")
        run.message = report.sentence
    return report


def check_disk(context: MaintenanceContext, dry_run: bool = False) -> Report:
    """Compare how full the file systems of lake and state are with the bound; a breach is recorded as an error."""
    bound = context.settings.maintenance.disk_used_pct
    found = disk.usage([context.lake.root, str(context.state)])
    rows = tuple(
        {"path": each.path, "used_bytes": each.used, "free_bytes": each.free, "used_pct": round(each.used_pct, 1)}
        for each in found
    )
    full = [each for each in found if each.used_pct > bound]
    sentence = (
        "; ".join(f"the file system of {each.path} is {each.used_pct:.0f} % full, over {bound:g} %" for each in full)
        + ": run `chainlake retention` and `chainlake vacuum`, or give it more room"
        if full
        else f"no file system is fuller than {bound:g} %"
    )
    if not dry_run:
        with _recorded(context, "disk") as run:
            run.asked, run.failed, run.message = len(found), len(full), sentence
            run.captured = run.asked - run.failed
            if full:
                run.status = "failed"
                run.error("disk_full", sentence, context.now)
    return Report("disk", rows, sentence, passed=not full)


def _require_clock(context: MaintenanceContext, command: str) -> None:
    if not context.clock_is_right:
        require_evidence(context.lake, context.now, newest_session(context.lake), command)


# -- records -----------------------------------------------------------------------------------------------------------


# What a week's maintenance does, in this order.
WEEKLY: tuple[Callable[[MaintenanceContext], Report], ...] = (compact, run_retention, run_vacuum, check_disk)


@contextmanager
def _recorded(context: MaintenanceContext, step: Step) -> Iterator[Run]:
    """A run that leaves its record however it ends: refused when somebody else maintains the lake."""
    run = Run(step, context.now.astimezone(NEW_YORK).date(), context.trigger, context.now)
    try:
        yield run
    except Exception as error:
        refused = isinstance(error, MaintainerBusy)
        run.status = "refused" if refused else "failed"
        run.message = " ".join(str(error).split())
        kind: ErrorType = "maintenance_refused" if refused else "maintenance_failed"
        run.error(kind, run.message, context.now)
        raise
    finally:
        run.record(context.lake, HostClock(), context.state)


def _note(context: MaintenanceContext, run: Run, action: str, row: dict[str, Any]) -> None:
    folder = context.state / "run_logs"
    folder.mkdir(parents=True, exist_ok=True)
    line = {"at": HostClock().now(), "run": run.ingest_id, "lake": context.lake.root, "action": action, **row}
    with (folder / f"retention_{context.now:%Y%m}.jsonl").open("a") as lines:
        lines.write(json.dumps(line, default=str) + "\n")


def _candidate_row(candidates: compaction.Candidate) -> dict[str, Any]:
    return {
        "table": candidates.table,
        "trade_date": candidates.trade_date,
        "how": "sort, zstd" if candidates.rewrite else "merge",
        "rows": candidates.rows,
        "files": candidates.files,
        "bytes": candidates.size,
    }


def _compaction_report(rows: Sequence[dict[str, Any]], did: str) -> Report:
    files, size = _sum(rows, "files"), _sum(rows, "bytes")
    sentence = f"{did} {len(rows)} partitions: {files} files of {megabytes(size)}"
    if any("files_after" in row for row in rows):
        sentence += f" became {_sum(rows, 'files_after')} of {megabytes(_sum(rows, 'bytes_after'))}; all rows are there"
    return Report("compact", tuple(rows), sentence)


def _retention_report(rows: Sequence[dict[str, Any]], logs: int, did: str) -> Report:
    counted = f"{_sum(rows, 'rows'):,} rows, {megabytes(_sum(rows, 'size'))}"
    return Report("retention", tuple(rows), f"{did} {len(rows)} dates of tables ({counted}) and {logs} log files")


def _vacuum_report(rows: Sequence[dict[str, Any]], did: str) -> Report:
    lost = sum(len(row["lost"]) for row in rows)
    sentence = f"{did} {_sum(rows, 'files'):,} files, {megabytes(_sum(rows, 'size'))}"
    if lost:
        sentence += f"; {lost} versions that publications name were gone before: as-of queries refuse them"
    for row in rows:
        if row["link"]:
            sentence += f"; {row['table']} is left alone, as {row['link']} is a link that leads out of the lake"
    return Report("vacuum", tuple(rows), sentence)


def _sum(rows: Sequence[dict[str, Any]], key: str) -> int:
    return sum(int(row[key]) for row in rows)


def megabytes(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 1e6:,.1f} MB"
