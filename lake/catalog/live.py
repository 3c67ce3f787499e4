"""Tables of models as lists of Parquet files, which DuckDB asks for anew with every query.

``delta_scan`` opens the log of its table for each query, which takes longer than the query itself where a chain of a
day is asked for. These views ask Python instead: a function that DuckDB runs while it plans, and that looks whether the
log has a newer commit than the one whose files it knows. Commits are numbered without gaps, so that is to look for one
file by its name. Only then is the log read again. So a query sees the latest commit, as with ``delta_scan``.

For tables on a disk that dbt writes: whole trade dates, one file each. What capture appends lies in many small files,
of which ``delta_scan`` skips more.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lake import storage
from lake.errors import LakeError
from lake.files import live_files
from lake.store import Lake
from lake.tables import PUBLISHED_SCHEMAS

FILES, DIFFER = "live_files", "live_files_differ"
# On average. A date has one file, or a second where it is larger than the writer makes one.
FILES_A_DAY = 2
# In a name of a file DuckDB takes these for a pattern.
PATTERN = frozenset("*?[")

# Of a table's columns the partition is the one that its files do not hold. DuckDB would put it last, as deltalake does
# in the schema of a table that gets a column (1.6.6); in the models it is first.
SELECT = (
    "SELECT trade_date, * EXCLUDE (trade_date) FROM read_parquet({files}({name}), union_by_name = {differ}({name}), "
    "hive_partitioning = true, hive_types = {{'trade_date': DATE}})"
)

# DuckDB 1.5.5 answers min and max from the statistics of the last file left, and looks there for columns that this file
# does not hold, as is the partition: an INTERNAL error (duckdb/duckdb#25629, and #25690, which mends it for the
# partition after 1.5.5). Files and row groups are skipped without this optimizer too, and as fast.
MIN_MAX_OF_STATISTICS = "statistics_propagation"

# What tells a commit from another one of the same number, as a restored backup has.
Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version of a table: its files, and whether some were written before the table had all of its columns."""

    version: int
    stamp: Stamp | None
    files: tuple[str, ...]
    differ: bool


class LiveFiles:
    """The files of those tables among `names` that models made, in a lake on a disk, each at its latest commit."""

    def __init__(self, lake: Lake, names: Sequence[str]) -> None:
        self._lake, self._lock = lake, threading.Lock()
        by_pattern = storage.is_object_store(lake.root) or not PATTERN.isdisjoint(lake.root)
        made = [] if by_pattern else [name for name in names if name.partition("/")[0] in PUBLISHED_SCHEMAS]
        self._known: dict[str, Snapshot | None] = dict.fromkeys(made)

    def selects(self) -> dict[str, str]:
        """A SELECT for each table that can be read by its files; they need `install`."""
        found = {}
        for name in self._known:
            # What is wrong with a table `delta_scan` says, of which there is a view then.
            with suppress(DeltaError):
                table = self._lake.table(name)
                if table is not None and _has_whole_days(table) and self.snapshot(name).files:
                    found[name] = SELECT.format(files=FILES, differ=DIFFER, name=f"'{name}'")
        return found

    def install(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Give `connection`, and its cursors, the functions that `selects` call, and plans that can read them."""
        connection.create_function(FILES, self.files, ["VARCHAR"], "VARCHAR[]")
        connection.create_function(DIFFER, self.differ, ["VARCHAR"], "BOOLEAN")
        connection.execute(f"SET GLOBAL disabled_optimizers = '{MIN_MAX_OF_STATISTICS}'")

    def files(self, name: str) -> list[str]:
        """Paths of the Parquet files that table `name` consists of. Raises LakeError when it has none."""
        found = self.snapshot(name)
        if not found.files:
            raise LakeError(f"{name} has lost all of its rows since the catalog was opened: open it again")
        return list(found.files)

    def differ(self, name: str) -> bool:
        """Whether some files of table `name` have fewer columns than others."""
        return self.snapshot(name).differ

    def snapshot(self, name: str) -> Snapshot:
        """The latest version of table `name`. Raises LakeError for a table that is not among those asked for."""
        if name not in self._known:
            raise LakeError(f"{name} is none of the tables that are read by their files")
        with self._lock:
            known = self._known[name]
            if known is None or not self._is_latest(name, known):
                known = self._known[name] = self._read(name)
            return known

    def _commit(self, name: str, version: int) -> Path:
        return Path(self._lake.uri(name)) / "_delta_log" / f"{version:020}.json"

    def _is_latest(self, name: str, known: Snapshot) -> bool:
        return (
            known.stamp is not None
            and _stamp(self._commit(name, known.version)) == known.stamp
            and not self._commit(name, known.version + 1).exists()
        )

    def _read(self, name: str) -> Snapshot:
        table = self._lake.table(name)
        if table is None:
            raise LakeError(f"{self._lake.uri(name)} is gone: restore it from a backup")
        actions = pa.table(table.get_add_actions(flatten=True)).select(["path", "modification_time"]).sort_by("path")
        files = [f"{self._lake.uri(name)}/{path}" for path in actions["path"].to_pylist()]
        version = table.version()
        return Snapshot(
            version,
            _stamp(self._commit(name, version)),
            tuple(files),
            _differ(table, files, actions["modification_time"].to_pylist()),
        )


def _stamp(commit: Path) -> Stamp | None:
    try:
        status = commit.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _has_whole_days(table: DeltaTable) -> bool:
    """Whether `table` has a few large files for each trade date; of many small ones `delta_scan` skips more."""
    if table.metadata().partition_columns != ["trade_date"]:
        return False
    files = live_files(table)
    return len(files) <= FILES_A_DAY * len({file.trade_date for file in files})


def _differ(table: DeltaTable, files: Sequence[str], written: Sequence[int]) -> bool:
    """Columns are only ever added: where the oldest file has all of them, each has."""
    if not files:
        return False
    _, oldest = min(zip(written, files, strict=True))
    columns = {field.name for field in table.schema().fields} - set(table.metadata().partition_columns)
    try:
        return not columns <= set(pq.read_schema(oldest).names)
    except (OSError, pa.ArrowInvalid):
        # A file that is gone or was cut short: DuckDB names it when it is read.
        return False
