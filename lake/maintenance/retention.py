"""Retention: whole trade dates leave a table when their time is over, and old logs the state folder.

A date leaves in one commit that only names its files; the files themselves go at a VACUUM, a week later at least.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from deltalake import CommitProperties

from lake import storage
from lake.files import live_files
from lake.maintenance.lock import Hold
from lake.reads import reader
from lake.store import Lake, retry_conflicts

# What the intraday retention takes, of published dates only; daily tables, contracts and sessions stay.
INTRADAY = ("raw/option_quotes", "raw/underlying_quotes", "clean/intraday")
LOOKUPS = "ops/contract_lookups"
ERRORS = "ops/errors"
RETIRED = "chainlake.retired"
# The record of deletions and rewrites outlives all logs.
AUDIT = "retention*.jsonl"


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """The first trade date that stays, by kind of table."""

    intraday: date
    lookups: date
    errors: date


@dataclass(frozen=True, slots=True)
class Expired:
    """One trade date of one table whose time is over."""

    table: str
    trade_date: str
    files: int
    size: int
    rows: int


def expired(lake: Lake, cutoffs: Cutoffs) -> list[Expired]:
    """What is to leave, by table and date. An intraday date that was never published stays, however old."""
    with reader(lake) as reads:
        published = {str(row["trade_date"]) for row in reads.rows("ops/published", columns="distinct trade_date")}
    found = [
        each for name in INTRADAY for each in _before(lake, name, cutoffs.intraday) if each.trade_date in published
    ]
    return [*found, *_before(lake, LOOKUPS, cutoffs.lookups), *_before(lake, ERRORS, cutoffs.errors)]


def _before(lake: Lake, name: str, cutoff: date) -> list[Expired]:
    table = lake.table(name)
    if table is None:
        return []
    of_date: dict[str, Expired] = {}
    for file in live_files(table):
        if file.trade_date < str(cutoff):
            known = of_date.get(file.trade_date, Expired(name, file.trade_date, 0, 0, 0))
            of_date[file.trade_date] = Expired(
                name, file.trade_date, known.files + 1, known.size + file.size, known.rows + file.rows
            )
    return [of_date[day] for day in sorted(of_date)]


def remove_expired(lake: Lake, dates: Sequence[Expired], hold: Hold) -> Iterator[Expired]:
    """Take `dates` out, one commit each, and yield each when it is done."""
    for each in dates:
        hold.require()
        _retire(lake, each)
        yield each


@retry_conflicts
def _retire(lake: Lake, each: Expired) -> None:
    table = lake.table(each.table)
    if table is not None:
        with storage.explained(lake.root):
            table.delete(
                f"trade_date = '{each.trade_date}'",
                commit_properties=CommitProperties(custom_metadata={RETIRED: each.trade_date}, max_commit_retries=0),
            )


def expired_logs(state: Path, before: datetime) -> list[Path]:
    """Files under ``<state>/run_logs`` that were last written before `before`; the record of deletions stays."""
    files = [path for path in (state / "run_logs").rglob("*") if path.is_file() and not path.match(AUDIT)]
    return sorted(path for path in files if path.stat().st_mtime < before.timestamp())
