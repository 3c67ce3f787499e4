"""The lake's root and its writes: one origin, exactly-once appends, replacement of whole trade dates."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import structlog
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from lake import storage
from lake.commits import empty_commit
from lake.errors import Damaged, LakeError, LakeMissing, NewerSchema, OriginMismatch
from lake.files import HOT_FILES, daily_files
from lake.origin import Origin
from lake.rows import to_arrow
from lake.tables import BY_NAME, RUNS, SCHEMA_VERSION, SESSIONS, TABLES, Table

log = structlog.get_logger(__name__)

ORIGINS = get_args(Origin)
MANIFEST = "lake.json"
# Key of the manifest under which it names the tables that exist.
KNOWN_TABLES = "tables"
# Key of the first commit of raw/sessions that tells what the manifest says.
CLAIM = "chainlake.lake"
# Ids of finished appends are dropped from the log after this long; a run is never repeated so late.
# A query reads the commits since the last checkpoint: 56 of them took 39 ms, 12 took 13.
TABLE_CONFIGURATION = {
    "delta.setTransactionRetentionDuration": "interval 30 days",
    "delta.checkpointInterval": "10",
    # Dates, slots, underlyings and conids are what queries skip files by, and stand first in every table. Statistics of
    # all columns made a commit three times as long, and opening a table of 700 files half as slow again.
    "delta.dataSkippingNumIndexedCols": "6",
    # Eight days longer than `as_of_days`: at the horizon the publication before it answers.
    "delta.logRetentionDuration": "interval 68 days",
}
# After each commit deltalake lists the whole log, to see what of it is too old: 7 ms for a thousand commits. `compact`
# cleans up instead (lake.maintenance.vacuum.tidy_log).
AFTER_COMMIT = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
# Key of a Delta commit that tells which trade dates it replaced.
REPLACED_DATES = "chainlake.trade_dates"
# Key that tells, as a JSON object, the underlyings by earlier date that corporate actions restated in it.
RESTATED = "chainlake.restated"

# An append loses against a replacement of the same snapshot; a fresh handle wins the next time.
retry_conflicts = retry(
    retry=retry_if_exception_type(CommitFailedError),
    wait=wait_random_exponential(multiplier=0.05, max=2),
    stop=stop_after_attempt(30),
    reraise=True,
)


@dataclass(frozen=True, slots=True)
class Lake:
    """A lake at a folder or an ``s3://`` root. Create one with `create` or open it with `open`."""

    root: str
    origin: Origin

    # -- the root ------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, root: str | Path, origin: Origin, created_at: datetime) -> "Lake":
        """Open the lake at `root`, first making it and its empty raw and ops tables when there is none.

        Raises OriginMismatch when the root is bound to another origin, also by a process that made it meanwhile;
        Damaged when a table that the manifest names is gone; ObjectStoreError when an ``s3://`` root cannot be reached.
        """
        try:
            lake = cls.open(root)
        except LakeMissing:
            lake = cls(storage.checked(root), origin)
            storage.require_links(lake.root)
            manifest = {"origin": origin, "created_at": created_at.isoformat(), "schema_version": SCHEMA_VERSION}
            claimed = lake._claim(json.dumps(manifest, indent=2) + "\n")
            storage.write_object(lake.root, MANIFEST, claimed.encode())
            lake = cls.open(root)
        lake.require_origin(origin)
        for table in TABLES:
            lake._ensure(table)
        # A lake of an earlier version did not name its tables.
        lake._record(lake.table_names())
        return lake

    @classmethod
    def open(cls, root: str | Path) -> "Lake":
        """Open the lake at `root`.

        Raises LakeMissing, NewerSchema, ObjectStoreError, or LakeError when its manifest is unreadable.
        """
        place = storage.checked(root)
        manifest = f"{place}/{MANIFEST}"
        try:
            content = json.loads(storage.read_object(place, MANIFEST))
            origin, version = content["origin"], int(content["schema_version"])
        except FileNotFoundError:
            raise LakeMissing(
                f"no lake at {place}: run `chainlake demo`, or `chainlake discover` to begin one"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise LakeError(f"{manifest} is not readable ({error}): restore it from a backup") from error
        if version > SCHEMA_VERSION:
            raise NewerSchema(
                f"the lake at {place} has schema {version}, newer than {SCHEMA_VERSION}: upgrade Chainlake"
            )
        if origin not in ORIGINS:
            raise LakeError(f"{manifest} names the unknown origin {origin!r}: expected one of {', '.join(ORIGINS)}")
        return cls(place, origin)

    @property
    def created_at(self) -> str:
        """When the lake was made, as its manifest says: another one at the same root has another instant."""
        return str(self._manifest().get("created_at", ""))

    def _manifest(self) -> dict[str, Any]:
        """The manifest; empty where there is none, as of a lake that is being made."""
        try:
            content = json.loads(storage.read_object(self.root, MANIFEST))
        except FileNotFoundError:
            return {}
        return content if isinstance(content, dict) else {}

    def _record(self, names: Sequence[str]) -> None:
        """Note in the manifest that the tables `names` exist."""
        manifest = self._manifest()
        if manifest and not set(names) <= set(known := manifest.get(KNOWN_TABLES, [])):
            manifest[KNOWN_TABLES] = sorted({*known, *names})
            storage.write_object(self.root, MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())

    def _claim(self, manifest: str) -> str:
        """The manifest of whoever was first to make raw/sessions here, which is `manifest` if that was us.

        A first commit is for one process only, on a local disk as in an object store; putting a file is not.
        """
        self._ensure(SESSIONS, **{CLAIM: manifest})
        table = self.table(SESSIONS.name)
        first = table.history()[-1] if table else {}
        if CLAIM not in first:
            raise LakeError(f"{self.root} has tables but no {MANIFEST}: restore that file from a backup")
        return str(first[CLAIM])

    def require_origin(self, origin: str) -> None:
        """Raise OriginMismatch unless rows of `origin` belong into this lake."""
        if origin != self.origin:
            raise OriginMismatch(
                f"the lake at {self.root} holds {self.origin} data and does not take {origin} rows: use another --lake"
            )

    # -- tables --------------------------------------------------------------------------------------------------

    def uri(self, name: str) -> str:
        """Where the table `name` (``schema/table``) lives."""
        return f"{self.root.rstrip('/')}/{name}"

    def table(self, name: str) -> DeltaTable | None:
        """A fresh handle on the table, or None when it does not exist yet."""
        try:
            return self._handle(name)
        except TableNotFoundError:
            return None

    def version(self, name: str) -> int | None:
        """The current Delta version of the table, or None when it does not exist yet."""
        table = self.table(name)
        return None if table is None else table.version()

    def last_commit_at(self, name: str) -> datetime | None:
        """When the table was last written to, by its writer's clock (UTC); None when it does not exist yet."""
        table = self.table(name)
        if table is None:
            return None
        with storage.explained(self.root):
            (last,) = table.history(1)
        return datetime.fromtimestamp(last["timestamp"] / 1000, UTC)

    def table_names(self) -> list[str]:
        """Names of the tables that exist, sorted."""
        return storage.table_names(self.root)

    def missing(self) -> list[str]:
        """Names of the tables that the manifest names and that are gone, sorted."""
        return sorted(name for name in self._manifest().get(KNOWN_TABLES, []) if self._is_gone(name))

    def _is_gone(self, name: str) -> bool:
        try:
            return self.table(name) is None
        except (Damaged, DeltaError):
            return False

    def _handle(self, name: str) -> DeltaTable:
        with storage.explained(self.root):
            table = DeltaTable(self.uri(name), storage_options=storage.delta_options(self.root))
        # Of an object store an object is there as a whole or not at all.
        if not storage.is_object_store(self.root) and (found := empty_commit(Path(self.uri(name)), table.version())):
            raise Damaged(found)
        return table

    def _ensure(self, table: Table, **note: str) -> None:
        self._make(table.name, table.schema, table.partition_by, table.grain, **note)

    def _make(
        self, name: str, schema: pa.Schema, partition_by: str, description: str | None = None, **note: str
    ) -> None:
        """Create an empty table unless there is one; `note` is kept with the commit.

        Raises Damaged where a table has been whose log is gone: begun anew it would hide what is left of its rows, and
        `vacuum` would delete them. Tables of ``ops`` of which nothing is left are begun anew.
        """
        if self.table(name) is not None:
            return
        place = self.uri(name)
        if storage.data_files(self.root, name):
            raise Damaged(
                f"{place} has data files and no log (_delta_log): have its log back from a backup (docs/backup.md), or "
                "move the folder away"
            )
        if not name.startswith("ops/") and name in self._manifest().get(KNOWN_TABLES, []):
            raise Damaged(
                f"{place} is gone, and {MANIFEST} says that it exists: have it back from a backup (docs/backup.md); to "
                f"begin it anew without its rows, take its name out of {self.uri(MANIFEST)}"
            )
        try:
            with storage.explained(self.root):
                DeltaTable.create(
                    self.uri(name),
                    schema=schema,
                    mode="ignore",
                    partition_by=[partition_by],
                    configuration=TABLE_CONFIGURATION,
                    description=description,
                    storage_options=storage.delta_options(self.root),
                    # Retried, a creation that was overtaken becomes a second commit to the table (deltalake 1.6.6).
                    commit_properties=CommitProperties(custom_metadata=note, max_commit_retries=0),
                )
        except CommitFailedError:
            if self.table(name) is None:
                raise

    def _writable(self, name: str) -> DeltaTable:
        """A handle for writing to a raw or ops table; one of ops that is missing is made again."""
        try:
            return self._handle(name)
        except TableNotFoundError:
            self._ensure(BY_NAME[name])
            return self._handle(name)

    # -- writes --------------------------------------------------------------------------------------------------

    def last_attempt(self, name: str, app_id: str) -> int:
        """The last attempt of the step `app_id` that was committed to the table, 0 when there was none."""
        table = self.table(name)
        return 0 if table is None else table.transaction_version(app_id) or 0

    @retry_conflicts
    def claim(self, app_id: str) -> int:
        """Take the next attempt of the step `app_id`, from 1, for the caller alone (docs/adr/0015).

        The claim is a commit without rows in the log of ``ops/runs``. The attempt of a caller that dies stays unused.
        """
        storage.require_writable(self.root, RUNS.name)
        table = self._writable(RUNS.name)
        attempt = 1 + (table.transaction_version(app_id) or 0)
        with storage.explained(self.root):
            # Whoever claims the same attempt meanwhile makes this commit a conflict.
            table.create_write_transaction(
                [],
                "append",
                table.schema(),
                partition_by=[RUNS.partition_by],
                post_commithook_properties=AFTER_COMMIT,
                commit_properties=_once(app_id, attempt),
            )
        return attempt

    @retry_conflicts
    def append(self, name: str, rows: Sequence[dict[str, Any]], app_id: str, attempt: int) -> bool:
        """Append `rows` to a raw or ops table exactly once for (`app_id`, `attempt`).

        Returns False, and writes nothing, when that attempt or a later one is already there: a caller whose id others
        may use too still has its rows then, and has to write them under another attempt. A row may leave out columns
        that are not required; a value that its column cannot hold costs that row alone (`lake.rows`). Conflicts with
        concurrent writers are retried on a fresh handle. Raises LakeError when the table's folder may not be written.
        """
        spec = BY_NAME[name]
        table = self._writable(name)
        # deltalake refuses a concurrent duplicate, but not a later one: it has to be asked for.
        if (table.transaction_version(app_id) or 0) >= attempt:
            log.info("append_skipped", table=name, app_id=app_id, attempt=attempt)
            return False
        if not rows:
            return True
        storage.require_writable(self.root, name)
        with storage.explained(self.root):
            write_deltalake(
                table,
                to_arrow(rows, spec),
                mode="append",
                # A table of an older version gets the columns that it lacks.
                schema_mode="merge",
                writer_properties=HOT_FILES,
                post_commithook_properties=AFTER_COMMIT,
                commit_properties=_once(app_id, attempt),
            )
        return True

    @retry_conflicts
    def replace_dates(
        self, name: str, rows: Callable[[], pa.RecordBatchReader], dates: Sequence[date], **note: str
    ) -> None:
        """Replace exactly the trade dates `dates` of a table by `rows`, creating the table if need be.

        One commit: readers see either the old rows of all dates or the new ones; a date without rows is emptied. The
        rows are streamed, and asked for again after a lost commit; `note` is kept with the commit. Raises DeltaError,
        and writes nothing, for a row of another date or a null in a required column; LakeError for a column of no type.
        """
        if not dates:
            return
        reader = rows()
        untyped = [field.name for field in reader.schema if pa.types.is_null(field.type)]
        if untyped:
            raise LakeError(f"{name}: columns {', '.join(untyped)} have no type; engines cannot read such a table")
        self._make(name, reader.schema, "trade_date")
        self._record([name])
        listed = [day.isoformat() for day in sorted(set(dates))]
        table = self._handle(name)
        storage.require_writable(self.root, name)
        with storage.explained(self.root):
            write_deltalake(
                table,
                reader,
                mode="overwrite",
                predicate=f"trade_date IN ({', '.join(repr(day) for day in listed)})",
                schema_mode="merge",
                writer_properties=daily_files(reader.schema.names),
                post_commithook_properties=AFTER_COMMIT,
                commit_properties=CommitProperties(custom_metadata={REPLACED_DATES: ",".join(listed), **note}),
            )

    def replaced_dates(self, name: str, since: int | None) -> set[date]:
        """Trade dates of a table that were replaced after its Delta version `since` (None: ever)."""
        return {
            date.fromisoformat(day) for listed in self.notes(name, REPLACED_DATES, since) for day in listed.split(",")
        }

    def notes(self, name: str, key: str, since: int | None) -> list[str]:
        """What the commits of a table after its Delta version `since` (None: all) say under `key`, latest first."""
        if since is None:
            table = self.table(name)
            return [commit[key] for commit in (table.history() if table else []) if key in commit]
        return [commit[key] for _, commit in self.commits_from(name, since + 1) if key in commit][::-1]

    def commits_from(self, name: str, first: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Version and information of each commit of a table from `first` on, in order.

        `DeltaTable.history` counts back from the version of its handle, and is wrong by as many commits as others have
        made meanwhile (deltalake 1.6.6): the name of the log file is what says the version.
        """
        for version in count(max(first, 0)):
            try:
                log_file = storage.read_object(self.root, f"{name}/_delta_log/{version:020}.json")
            except FileNotFoundError:
                return
            actions = (json.loads(line) for line in log_file.splitlines())
            yield version, next((action["commitInfo"] for action in actions if "commitInfo" in action), {})


def _once(app_id: str, attempt: int) -> CommitProperties:
    """What makes a commit be there once for (`app_id`, `attempt`)."""
    return CommitProperties(
        app_transactions=[Transaction(app_id, attempt)], max_commit_retries=30, custom_metadata={"app_id": app_id}
    )


def is_table_name(name: str) -> bool:
    """Whether `name` has the form ``schema/table``."""
    return re.fullmatch(r"[a-z_]+/[a-z_]+", name) is not None
