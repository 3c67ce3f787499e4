"""The lake as it was known at an instant, which ``ops/published`` makes answerable.

Tables of ``clean`` and ``quality`` show each trade date as its latest publication by then left it: at the Delta version
which that publication names, or at a later one that still has the same rows. A date that was not published by then has
no rows. Raw and ops tables show the rows that had been recorded by then; ``raw/sessions``, a calendar, is shown whole.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
from deltalake.exceptions import DeltaError

from lake import storage
from lake.catalog.connection import DEFAULT_LIMITS, Limits, Relations, open_catalog, read
from lake.duck import delta_scan
from lake.errors import LakeError, QueryRefused
from lake.maintenance.compaction import UNDONE
from lake.maintenance.retention import RETIRED
from lake.reads import Reader, reader
from lake.store import REPLACED_DATES, Lake
from lake.tables import PUBLISHED_SCHEMAS

NEW_YORK = ZoneInfo("America/New_York")
AS_OF_DAYS = 60
# Lakes of these origins were recorded by a market clock, which can be years from the host's.
ON_MARKET_CLOCK = ("simulated", "replay")
# When a row was recorded. A failed attempt has no quote that could have arrived: it counts from when it was asked.
RECORDED = {
    "raw/contracts": "frozen_at",
    "raw/option_quotes": "coalesce(asof_ts, requested_at)",
    "raw/underlying_quotes": "coalesce(asof_ts, sample_time)",
    "raw/open_interest": "observed_at",
    "ops/runs": "ended_at",
    "ops/errors": "observed_at",
    "ops/incidents": "changed_at",
    "ops/published": "published_at",
    "ops/contract_lookups": "asked_at",
}
# Makes the minute in which an instant falls the next whole one, so that it can be asked for when it is named.
ROUNDING_UP = timedelta(seconds=59, microseconds=999_999)
# Commits of these operations leave the rows of a table as they are.
WITHOUT_ROWS = frozenset(
    {"ADD COLUMN", "CREATE TABLE", "OPTIMIZE", "SET TBLPROPERTIES", "VACUUM START", "VACUUM END", "FSCK"}
)
# A data file that VACUUM has taken, in the words of DuckDB.
FILE_GONE = re.compile(r"trade_date=(\d{4}-\d\d-\d\d)/.*(?:No such file|404|not found)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Piece:
    """Trade dates (ascending) of a table that are read at one Delta version of it."""

    version: int
    dates: tuple[date, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A commit that changed rows of `dates` (None: of any)."""

    version: int
    dates: frozenset[date] | None


def as_of(
    root: str | Path,
    at: str | datetime,
    *,
    days: int = AS_OF_DAYS,
    now: datetime | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> duckdb.DuckDBPyConnection:
    """The catalog of the lake at `root` (see `open_catalog`) with its tables as they were known at `at`.

    `at` is New York time unless it has an offset. `days` is the horizon, counted back from `now` (default: the host's
    clock; a simulated or replayed lake has its own, which stands at its last publication).

    Raises QueryRefused for an instant in the future or before the horizon, and for what is no instant; LakeError when a
    version that is needed is gone; LakeMissing when there is no lake.
    """
    moment = instant(at)
    lake = Lake.open(storage.absolute(root))
    with reader(lake) as reads:
        _require_answerable(lake, reads, moment, timedelta(days=days), now or datetime.now(UTC))
        published = publications(reads, moment)
    return open_catalog(root, limits, known_at(moment, published))


def query_as_of(
    root: str | Path,
    sql: str,
    at: str | datetime,
    *,
    days: int = AS_OF_DAYS,
    now: datetime | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> pa.Table:
    """Run one reading statement on the tables as they were known at `at`. Raises as `as_of` and `read`."""
    with as_of(root, at, days=days, now=now, limits=limits) as connection:
        return read_as_of(connection, sql, at, limits.seconds, limits.rows)


def read_as_of(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    at: str | datetime,
    seconds: float = DEFAULT_LIMITS.seconds,
    rows: int | None = None,
) -> pa.Table:
    """Run one reading statement on the catalog of `as_of` at `at`; `rows` as for `lake.catalog.connection.read`.

    Raises as `lake.catalog.connection.read` does, and LakeError when files that the answer needs are gone.
    """
    try:
        return read(connection, sql, seconds, rows)
    except QueryRefused as error:
        if gone := FILE_GONE.search(str(error)):
            raise LakeError(
                f"the files of {gone[1]} as known at {_text(instant(at))} are gone (vacuumed): "
                "leave that date out, or ask for a later instant"
            ) from None
        raise


def instant(at: str | datetime) -> datetime:
    """`at` in UTC: ``2026-11-20 17:30`` is New York time, unless an offset follows. Raises QueryRefused."""
    try:
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    except ValueError:
        moment = None
    if moment is None or (isinstance(at, str) and len(at.strip()) <= len("2026-11-20")):
        raise QueryRefused(
            f"{str(at)!r} is no instant: write it as '2026-11-20 17:30' (New York time) or '2026-11-20T22:30Z'"
        )
    return (moment if moment.tzinfo else moment.replace(tzinfo=NEW_YORK)).astimezone(UTC)


def _require_answerable(lake: Lake, reads: Reader, moment: datetime, horizon: timedelta, now: datetime) -> None:
    clock = last_instant(lake, reads, now)
    if moment > max(now, clock):
        raise QueryRefused(f"{_text(moment)} lies in the future: an as-of query answers what was known")
    earliest = clock - horizon
    if moment < earliest:
        raise QueryRefused(
            f"{_text(moment)} is beyond the as-of horizon of {horizon.days} days (maintenance.as_of_days): "
            f"the earliest instant that can be answered is {_text(earliest + ROUNDING_UP)}"
        )


def last_instant(lake: Lake, reads: Reader, now: datetime) -> datetime:
    """The instant from which the horizon counts back: `now`, or the last publication of a lake on a market clock."""
    (found,) = reads.rows("ops/published", columns="max(published_at) as last") or [{"last": None}]
    return found["last"] if found["last"] and lake.origin in ON_MARKET_CLOCK else now


def publications(reads: Reader, moment: datetime) -> dict[date, dict[str, int]]:
    """Versions by table of the latest publication of each trade date by `moment`."""
    rows = reads.rows(
        "ops/published",
        "published_at <= $moment "
        "qualify row_number() over (partition by trade_date order by published_at desc, run_id desc) = 1",
        "trade_date, versions",
        moment=moment,
    )
    return {row["trade_date"]: row["versions"] for row in rows}


def known_at(moment: datetime, published: Mapping[date, Mapping[str, int]]) -> Relations:
    """What `open_catalog` asks for: a SELECT of what was known at `moment` for each of the tables that it names.

    `published` holds the versions by table that each trade date had then.
    """

    def relations(lake: Lake, names: Sequence[str]) -> dict[str, str]:
        return {
            name: _published(
                lake, name, {day: versions[name] for day, versions in published.items() if name in versions}
            )
            if name.partition("/")[0] in PUBLISHED_SCHEMAS
            else _recorded(lake, name, moment)
            for name in names
        }

    return relations


def pieces(published: Mapping[date, int], changes: Sequence[Change]) -> list[Piece]:
    """The fewest versions of a table that show each date as it was at its own, latest first.

    `published` holds the version of each date. A date shares a later version when nothing changed its rows up to it.
    """
    left, found = dict(published), []
    while left:
        version = max(left.values())
        held = sorted(day for day, own in left.items() if not changed(changes, day, own, version))
        found.append(Piece(version, tuple(held)))
        left = {day: own for day, own in left.items() if day not in held}
    return found


def changed(changes: Sequence[Change], day: date, since: int, until: int) -> bool:
    """Whether rows of `day` changed after version `since`, up to `until`."""
    return any(since < change.version <= until and (change.dates is None or day in change.dates) for change in changes)


def changes_of(lake: Lake, name: str) -> list[Change]:
    """The commits that changed rows of a table of models, as far back as its log goes.

    What is older has been published since, or never changed: a build is published when it ends. Compaction changes no
    row; what retention took was gone from every later version, and as of then.
    """
    found = []
    for commit in _commits(lake, name):
        if listed := commit.get(REPLACED_DATES):
            dates = frozenset(date.fromisoformat(day) for day in str(listed).split(","))
            found.append(Change(int(str(commit["version"])), dates))
        elif commit.get("operation") not in WITHOUT_ROWS and RETIRED not in commit and UNDONE not in commit:
            found.append(Change(int(str(commit["version"])), None))
    return found


def _commits(lake: Lake, name: str) -> list[dict[str, object]]:
    # `history` numbers the commits from the version of its handle, also when others have committed since.
    while (table := lake.table(name)) is not None:
        with storage.explained(lake.root):
            commits = table.history()
        if lake.version(name) == table.version():
            return commits
    return []


def _published(lake: Lake, name: str, versions: Mapping[date, int]) -> str:
    uri = lake.uri(name)
    if not versions:
        return f"SELECT * FROM {delta_scan(uri)} WHERE false"
    found = pieces(versions, changes_of(lake, name))
    for piece in found:
        _require_version(lake, name, piece)
    return " UNION ALL BY NAME ".join(
        f"SELECT * FROM {delta_scan(uri, piece.version)} WHERE {_of_dates(piece.dates)}" for piece in found
    )


def _require_version(lake: Lake, name: str, piece: Piece) -> None:
    table = lake.table(name)
    try:
        with storage.explained(lake.root):
            if table is not None:
                table.load_as_version(piece.version)
    except DeltaError:
        raise LakeError(
            f"{name} of {piece.dates[-1]} as known then is gone: version {piece.version} is no longer in the table's "
            "log; ask for a later instant"
        ) from None


def _of_dates(dates: Sequence[date]) -> str:
    # A range prunes files, a list alone does not.
    listed = ", ".join(f"DATE '{day}'" for day in dates)
    return f"trade_date BETWEEN DATE '{dates[0]}' AND DATE '{dates[-1]}' AND trade_date IN ({listed})"


def _recorded(lake: Lake, name: str, moment: datetime) -> str:
    rows = f"SELECT * FROM {delta_scan(lake.uri(name))}"
    return f"{rows} WHERE {RECORDED[name]} <= TIMESTAMPTZ '{moment.isoformat()}'" if name in RECORDED else rows


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York"
