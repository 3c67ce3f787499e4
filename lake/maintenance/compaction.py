"""Compaction: few files of a good size, old days sorted and packed tightly, and not a row more or less.

A partition (one trade date of one table) is worked on in one commit of its own. That commit is found by its metadata,
and the rows of every date are compared with those of the version just before it; appends of others in between do no
harm. If they differ the table is restored. What reads the table in the end counts once more, through ``delta_scan``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import groupby
from typing import Any
from uuid import uuid4

import duckdb
import pyarrow as pa
import structlog
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import DeltaError

from lake import storage
from lake.duck import connect, delta_scan, literal
from lake.errors import LakeError
from lake.files import HOT_FILES, ROW_GROUP, File, cold_files, daily_files, live_files
from lake.maintenance.lock import Hold
from lake.store import Lake, retry_conflicts
from lake.tables import PUBLISHED_SCHEMAS

log = structlog.get_logger(__name__)

TARGET_BYTES = 256 << 20
# Files of at least this size are left alone until their day is cold.
SMALL_BYTES = 128 << 20
ZORDER = ("underlying", "conid")
# Key of a Delta commit that tells which compaction made it.
COMPACTED = "chainlake.compacted"
# Key of one that took the rows of the compaction at that version back.
UNDONE = "chainlake.compaction_undone"
# How far back the last compaction is sought: a week of a busy table.
COMMITS = 1000


class RowsDiffer(LakeError):
    """A compaction changed the number of rows."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One partition that compaction would work on. `rewrite`: z-order and zstd, as its day is cold."""

    table: str
    trade_date: str
    files: int
    size: int
    rows: int
    rewrite: bool


@dataclass(frozen=True, slots=True)
class Compacted:
    """A partition that was worked on, and the Delta version that did it."""

    candidates: Candidate
    version: int
    files: int
    size: int


def rows_by_date(files: Iterable[File]) -> dict[str, int]:
    """Rows of every trade date, by the statistics of the log."""
    counted: dict[str, int] = {}
    for file in files:
        counted[file.trade_date] = counted.get(file.trade_date, 0) + file.rows
    return {day: rows for day, rows in counted.items() if rows}


# -- what is due -------------------------------------------------------------------------------------------------------


def candidates(lake: Lake, today: date, hot_from: date, same_day: bool = False) -> list[Candidate]:
    """The partitions that compaction would work on, by table and date.

    Dates from `hot_from` on are hot: they are due when they have more than one small file. Older ones, of what was
    captured, are due until they lie sorted and in zstd, which their Parquet footers tell. Days of models are written
    sorted and encoded (`lake.files.daily_files`), and stay so: see ADR 0014. The day that is `today` (New York) is
    left alone unless `same_day`.
    """
    hot: list[Candidate] = []
    cold: dict[tuple[str, str], list[File]] = {}
    for name in lake.table_names():
        table = lake.table(name)
        if table is None or table.metadata().partition_columns != ["trade_date"]:
            continue
        sorted_when_cold = not _of_models(name) and _can_be_sorted(table)
        for day, files in _by_date(live_files(table)):
            if day == str(today) and not same_day:
                continue
            if sorted_when_cold and day < str(hot_from):
                cold[name, day] = files
            elif sum(file.size < SMALL_BYTES for file in files) > 1:
                hot.append(_candidate(name, day, files, rewrite=False))
    packed = _packed(lake, [f"{name}/{file.path}" for (name, _), files in cold.items() for file in files])
    old = [
        _candidate(name, day, files, rewrite=True)
        for (name, day), files in cold.items()
        if not all(f"{name}/{file.path}" in packed for file in files)
    ]
    return sorted([*hot, *old], key=lambda each: (each.table, each.trade_date))


def _candidate(name: str, day: str, files: Sequence[File], rewrite: bool) -> Candidate:
    return Candidate(name, day, len(files), sum(file.size for file in files), sum(file.rows for file in files), rewrite)


def _by_date(files: Iterable[File]) -> Iterator[tuple[str, list[File]]]:
    ordered = sorted(files, key=lambda file: file.trade_date)
    for day, group in groupby(ordered, key=lambda file: file.trade_date):
        yield day, list(group)


def _of_models(name: str) -> bool:
    return name.partition("/")[0] in PUBLISHED_SCHEMAS


def _can_be_sorted(table: DeltaTable) -> bool:
    return {field.name for field in table.schema().fields} >= set(ZORDER)


def _packed(lake: Lake, paths: Sequence[str]) -> set[str]:
    """Those of the data files (paths below the root) whose columns are all compressed by zstd."""
    if not paths:
        return set()
    prefix = f"{lake.root.rstrip('/')}/"
    listed = ", ".join(literal(f"{prefix}{path}") for path in paths)
    found = _asked(
        lake, f"select file_name from parquet_metadata([{listed}]) group by 1 having bool_and(compression = 'ZSTD')"
    )
    return {str(file).removeprefix(prefix) for (file,) in found}


# -- doing it ----------------------------------------------------------------------------------------------------------


def compact(lake: Lake, partitions: Sequence[Candidate], hold: Hold) -> Iterator[Compacted]:
    """Compact `partitions`, one commit each, and yield each when its rows are proven.

    A partition that somebody else replaced or compacted meanwhile is passed over. Raises RowsDiffer when a commit did
    change the number of rows: the table is restored, or the message says how to do it.
    """
    for name, group in groupby(partitions, key=lambda each: each.table):
        prove_last(lake, name)
        dates = []
        for each in group:
            hold.require()
            if done := _compact(lake, each):
                dates.append(each.trade_date)
                yield done
        if dates:
            prove_by_reading(lake, name, dates)


@retry_conflicts
def _compact(lake: Lake, candidates: Candidate) -> Compacted | None:
    table = lake.table(candidates.table)
    if table is None:
        return None
    start, note = table.version(), uuid4().hex
    filters = [("trade_date", "=", candidates.trade_date)]
    noted = CommitProperties(custom_metadata={COMPACTED: note}, max_commit_retries=30)
    columns = [field.name for field in table.schema().fields]
    with storage.explained(lake.root):
        if candidates.rewrite:
            table.optimize.z_order(
                ZORDER,
                partition_filters=filters,
                target_size=TARGET_BYTES,
                writer_properties=cold_files(columns),
                commit_properties=noted,
            )
        else:
            table.optimize.compact(
                partition_filters=filters,
                target_size=TARGET_BYTES,
                writer_properties=daily_files(columns) if _of_models(candidates.table) else HOT_FILES,
                commit_properties=noted,
            )
    version = _version_noted(lake, candidates.table, note, start + 1)
    if version is None:
        return None
    prove(lake, candidates.table, version)
    files = [
        file
        for file in live_files(at_version(lake, candidates.table, version))
        if file.trade_date == candidates.trade_date
    ]
    return Compacted(candidates, version, len(files), sum(file.size for file in files))


def at_version(lake: Lake, name: str, version: int) -> DeltaTable:
    """The table as of a Delta version."""
    table = lake.table(name)
    if table is None:
        raise LakeError(f"{lake.uri(name)} is gone: restore it from a backup")
    with storage.explained(lake.root):
        table.load_as_version(version)
    return table


def _version_noted(lake: Lake, name: str, note: str, first: int) -> int | None:
    """The version at or after `first` whose commit has `note`."""
    return next((version for version, commit in lake.commits_from(name, first) if commit.get(COMPACTED) == note), None)


# -- the proof ---------------------------------------------------------------------------------------------------------


def prove_last(lake: Lake, name: str) -> None:
    """Prove the table's last compaction: a maintainer that died may have left it unproven."""
    table = lake.table(name)
    commits = [] if table is None else table.history(COMMITS)
    last = next((commit for commit in commits if COMPACTED in commit), None)
    version = _version_noted(lake, name, last[COMPACTED], last["version"]) if last else None
    if version:
        prove(lake, name, version)


def prove(lake: Lake, name: str, version: int) -> None:
    """Compare the rows of every date at a compaction's `version` with those just before. Raises RowsDiffer."""
    try:
        before = rows_by_date(live_files(at_version(lake, name, version - 1)))
    except DeltaError:
        # Clean-up of the log has taken the version away: the compaction was proven long ago.
        log.info("compaction_too_old_to_prove", table=name, version=version)
        return
    after = rows_by_date(live_files(at_version(lake, name, version)))
    if before != after and not _undone(lake, name, version):
        _restore(lake, name, version, before, after)


def _undone(lake: Lake, name: str, version: int) -> bool:
    table = lake.table(name)
    later = [] if table is None or table.version() == version else table.history(table.version() - version)
    return any(commit.get("operation") == "RESTORE" or commit.get(UNDONE) == str(version) for commit in later)


def _restore(lake: Lake, name: str, version: int, before: dict[str, int], after: dict[str, int]) -> None:
    day = next(day for day in sorted({*before, *after}) if before.get(day) != after.get(day))
    changed = f"{after.get(day, 0):,} rows of {before.get(day, 0):,}"
    what = f"compaction made {changed} in {name} of {day} (version {version}; is another program optimizing it?)"
    log.error("compaction_changed_rows", table=name, trade_date=day, version=version)
    table = lake.table(name)
    if table is not None and table.version() == version:
        try:
            table.restore(version - 1, commit_properties=CommitProperties(custom_metadata={UNDONE: str(version)}))
        except DeltaError as error:
            # It makes the next version or none: a commit of somebody else came first.
            log.warning("restore_refused", table=name, error=str(error).splitlines()[0])
        else:
            raise RowsDiffer(f"{what}: the table is restored to version {version - 1}; nothing is lost")
    raise RowsDiffer(
        f"{what}, and others have committed since: run `chainlake compact --lake {lake.root} --undo {name}@{version}`, "
        "which keeps what they wrote"
    )


def prove_by_reading(lake: Lake, name: str, dates: Sequence[str]) -> None:
    """Count the rows of `dates` through ``delta_scan``, against the log of the same version. Raises RowsDiffer."""
    table = lake.table(name)
    assert table is not None
    column = next(field.name for field in table.schema().fields if field.name != "trade_date")
    listed = ", ".join(f"date '{day}'" for day in dates)
    # Both halves read the column: a bare count could be answered by the log.
    found = _asked(
        lake,
        f'select trade_date, count("{column}") + count(*) filter ("{column}" is null) '
        f"from {delta_scan(lake.uri(name), table.version())} where trade_date in ({listed}) group by 1",
    )
    told = {day: rows for day, rows in rows_by_date(live_files(table)).items() if day in dates}
    read = {str(day): int(rows) for day, rows in found}
    if read != told:
        raise RowsDiffer(
            f"{name} at version {table.version()}: the log tells of {sum(told.values()):,} rows, and its files hold "
            f"{sum(read.values()):,}: restore the table from a backup, and report this"
        )


# -- undoing one that others have built on -----------------------------------------------------------------------------


def undo(lake: Lake, name: str, version: int, hold: Hold) -> list[str]:
    """Take the rows that a compaction at `version` made back, and keep what was committed after it; says which dates.

    A date whose rows differ is replaced by its files of the version before and those that were added since. Raises
    LakeError when some of the compaction's own files were replaced meanwhile, as its rows are then no longer apart.
    """
    before, after = live_files(at_version(lake, name, version - 1)), live_files(at_version(lake, name, version))
    rows_before, rows_after = rows_by_date(before), rows_by_date(after)
    made = {file.path for file in after} - {file.path for file in before}
    repaired = []
    for day in sorted({*rows_before, *rows_after}):
        if rows_before.get(day) == rows_after.get(day):
            continue
        of_day = {file.path for file in after if file.trade_date == day}
        kept = [file.path for file in before if file.trade_date == day]
        hold.require()
        if _live(lake, name, day) & made & of_day:
            replay = partial(_as_it_should_be, lake, name, day, kept, of_day)
            lake.replace_dates(name, replay, [date.fromisoformat(day)], **{UNDONE: str(version)})
        repaired.append(day)
    return repaired


def _live(lake: Lake, name: str, day: str) -> set[str]:
    table = lake.table(name)
    assert table is not None
    return {file.path for file in live_files(table) if file.trade_date == day}


def _as_it_should_be(
    lake: Lake, name: str, day: str, kept: Sequence[str], at_compaction: set[str]
) -> pa.RecordBatchReader:
    table = lake.table(name)
    assert table is not None
    live = _live(lake, name, day)
    if not live >= at_compaction:
        raise LakeError(f"{name} of {day} was replaced in part since then: build the date again, or restore a backup")
    schema = pa.schema(table.schema().to_arrow())
    fields = ", ".join(f'"{field.name}"' for field in schema if field.name != "trade_date")
    listed = ", ".join(literal(f"{lake.uri(name)}/{path}") for path in [*kept, *sorted(live - at_compaction)])
    query = (
        f"select date '{day}' as trade_date, {fields} "
        f"from read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
    )
    rows = connect(root=lake.root).execute(query).to_arrow_reader(ROW_GROUP).cast(_nullable(schema))
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in rows))


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in schema])


def _asked(lake: Lake, query: str) -> list[tuple[Any, ...]]:
    connection = connect(root=lake.root)
    try:
        with storage.explained(lake.root):
            return connection.execute(query).fetchall()
    except duckdb.Error as error:
        raise LakeError(
            f"a file of the lake cannot be read: {str(error).splitlines()[0]}; restore it from a backup"
        ) from None
    finally:
        connection.close()
