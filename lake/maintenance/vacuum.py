"""VACUUM and the clean-up of logs: what no version needs any more is deleted, except what the as-of horizon names."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lake import storage
from lake.errors import LakeError
from lake.links import outside
from lake.maintenance.lock import Hold
from lake.reads import reader
from lake.store import Lake

# Readers and writers that began before a file was replaced may still need it for a week.
LEAST_HOURS = 168
LOG_RETENTION = "delta.logRetentionDuration"


@dataclass(frozen=True, slots=True)
class Unneeded:
    """What a VACUUM of one table deletes, or would delete.

    `lost`: versions that publications name and are gone; `link`: what leads out of the lake, hence nothing goes.
    """

    table: str
    files: int
    size: int
    kept_versions: int
    lost: tuple[int, ...]
    link: str | None = None


def kept_versions(lake: Lake, since: datetime) -> dict[str, list[int]]:
    """The versions of each table, ascending, that answer for instants from `since` on: the as-of horizon.

    Those named by publications since then, and by the last one before: it answers until the next.
    """
    with reader(lake) as reads:
        (before,) = reads.rows("ops/published", "published_at <= $since", "max(published_at) as last", since=since) or [
            {"last": None}
        ]
        rows = reads.rows("ops/published", "published_at >= $since", "versions", since=before["last"] or since)
    named: dict[str, set[int]] = {}
    for row in rows:
        for table, version in row["versions"].items():
            named.setdefault(table, set()).add(version)
    return {table: sorted(versions) for table, versions in named.items()}


def vacuum(
    lake: Lake, since: datetime, hold: Hold | None, hours: int = LEAST_HOURS, *, enforced: bool = True
) -> Iterator[Unneeded]:
    """Delete the files that no version of the last `hours` needs, nor one that a publication since `since` names.

    Yields each table that had such files, and each that a symbolic link leads out of the lake: that one is left alone.
    Without `hold` nothing is deleted: a dry run. The folders are listed, so that files of a writer that was killed
    before its commit go as well. Raises LakeError for less than 168 hours, unless `enforced` is switched off, which
    only tests may do: it deletes under the hands of readers and writers.
    """
    if enforced and hours < LEAST_HOURS:
        raise LakeError(f"vacuum keeps at least {LEAST_HOURS} hours: readers and writers may need files of a week ago")
    named = kept_versions(lake, since)
    for name in lake.table_names():
        table = lake.table(name)
        if table is None:
            continue
        if link := outside(lake.root, name):
            # deltalake follows symbolic links when it lists a table, and deletes what is behind them (1.6.6).
            yield Unneeded(name, 0, 0, 0, (), link)
            continue
        kept, lost = _openable(lake, name, [each for each in named.get(name, []) if each <= table.version()])
        with storage.explained(lake.root):
            files = _vacuum(table, hours, kept, dry_run=True, enforced=enforced)
            size = storage.total_size(lake.root, [f"{name}/{file}" for file in files])
            if files and hold is not None:
                hold.require()
                _vacuum(table, hours, kept, dry_run=False, enforced=enforced)
        if files or lost:
            yield Unneeded(name, len(files), size, len(kept), tuple(lost))


def _vacuum(table: DeltaTable, hours: int, kept: list[int], *, dry_run: bool, enforced: bool) -> list[str]:
    return table.vacuum(
        hours, dry_run=dry_run, enforce_retention_duration=enforced, full=True, keep_versions=kept or None
    )


def _openable(lake: Lake, name: str, versions: Sequence[int]) -> tuple[list[int], list[int]]:
    """`versions` (ascending) that the log can still make, and those that are older than it."""

    def opens(version: int) -> bool:
        table = lake.table(name)
        try:
            if table is not None:
                table.load_as_version(version)
        except DeltaError:
            return False
        return True

    # A log begins at one version and has all after it.
    first = bisect_left(versions, True, key=opens)
    return list(versions[first:]), list(versions[:first])


def tidy_log(lake: Lake, name: str, keep_days: int, *, checkpoint: bool) -> None:
    """Keep the log of a table for `keep_days`, write a checkpoint when asked to, and drop older log files."""
    table = lake.table(name)
    if table is None or outside(lake.root, name):
        return
    kept = f"interval {keep_days} days"
    with storage.explained(lake.root):
        if table.metadata().configuration.get(LOG_RETENTION) != kept:
            table.alter.set_table_properties({LOG_RETENTION: kept})
            table = lake.table(name) or table
        if checkpoint:
            table.create_checkpoint()
        table.cleanup_metadata()
