"""Checks of the lake: that it is there, that each table opens, what it was last published, and whose data it holds."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import duckdb

from chainlake.ops.doctor.check import Check, fail, guarded, ok, one_line, warn
from chainlake.ops.rollout.gates import last_reported
from ingest.settings import Settings
from lake import storage
from lake.errors import LakeError, LakeMissing
from lake.links import outside
from lake.maintenance.evolution import changed_types
from lake.reads import Reader, reader
from lake.store import Lake


def open_lake(settings: Settings) -> tuple[Lake | None, list[Check]]:
    """The lake of the settings, None where there is none or it cannot be opened, and what is to say about that."""
    root = settings.lake.root
    try:
        return Lake.open(root), []
    except LakeMissing:
        return None, [warn("lake", f"no lake at {root}", "chainlake discover begins one; chainlake demo shows one")]
    except LakeError as error:
        return None, [fail("lake", one_line(error), "see docs/maintenance.md and docs/backup.md")]


def table_checks(settings: Settings, lake: Lake, now: datetime) -> list[Check]:
    """Every table opens, has the columns of this version, and the last session is published."""
    return [
        *guarded("tables", lambda: _tables(lake)),
        *guarded("schema", lambda: _schema(lake)),
        *guarded("published", lambda: _published(settings, lake, now)),
    ]


def _tables(lake: Lake) -> Iterator[Check]:
    names, broken = lake.table_names(), False
    for name in lake.missing():
        broken = True
        yield fail(
            f"table {name}",
            f"{lake.uri(name)} is gone, and lake.json names it",
            "have it back from a backup (docs/backup.md)",
        )
    with reader(lake) as reads:
        for name in names:
            if problem := _unreadable(reads, name):
                broken = True
                yield fail(
                    f"table {name}",
                    problem,
                    "have it back from a backup (docs/backup.md); the other tables are not touched",
                )
            if link := outside(lake.root, name):
                yield warn(
                    f"table {name}",
                    f"{link} is a link that leads out of {lake.root}",
                    "vacuum leaves this table alone: move its files into the lake, or make the whole root the link",
                )
    if not broken:
        yield ok("tables", f"{len(names)} tables of {lake.root} open")


def _unreadable(reads: Reader, name: str) -> str | None:
    """Why a table cannot be read by deltalake or by DuckDB, None when it can."""
    if damage := storage.log_damage(reads.lake.root, name):
        return damage
    try:
        reads.rows(name, "true limit 1")
    except duckdb.Error as error:
        return one_line(error).partition(" LINE ")[0]
    except Exception as error:  # deltalake's own: a log that cannot be read
        return one_line(error)
    return None


def _schema(lake: Lake) -> Iterator[Check]:
    changes = changed_types(lake)
    if changes:
        yield fail("schema", f"{changes[0]} (of {len(changes)})", "chainlake migrate writes such tables again")
    else:
        yield ok("schema", "as in this version")


def _published(settings: Settings, lake: Lake, now: datetime) -> Iterator[Check]:
    with reader(lake) as reads:
        rows = reads.rows("ops/published", "true order by trade_date desc, published_at desc limit 1")
    if not rows:
        yield warn("published", "no day is published yet", "chainlake rollup publishes a day, once it is recorded")
        return
    last = rows[0]
    found = f"{last['trade_date']}, {last['status']}"
    expected = last_reported(now, settings)
    if lake.origin.startswith("ibkr") and last["trade_date"] < expected:
        yield warn("published", f"{found}; {expected} is not", f"chainlake rollup --date {expected}")
    elif last["status"] == "failed":
        yield warn("published", found, f"chainlake qa --date {last['trade_date']}")
    else:
        yield ok("published", found)


def origin_check(lake: Lake, origin: str) -> Check:
    """Whether the gateway's data may go into this lake."""
    if lake.origin == origin:
        return ok("origin", f"lake and gateway are {origin}")
    return fail(
        "origin",
        f"the lake {Path(lake.root).name} holds {lake.origin} data and the gateway is {origin}",
        "use another lake.root for this account, or log in to the other one",
    )
