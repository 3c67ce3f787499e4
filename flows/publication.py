"""Publication: the statement that a trade date's tables belong together, written last, after the tests."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb
import structlog

from ingest.calendar.sessions import next_session
from ingest.runs import new_ingest_id
from lake.catalog.as_of import changed, changes_of
from lake.catalog.connection import write_catalog
from lake.code_version import code_version
from lake.errors import LakeError
from lake.reads import Reader, reader
from lake.store import Lake
from lake.vocabulary import PublicationStatus

log = structlog.get_logger(__name__)

METRICS = "quality/daily_metrics"


@dataclass(frozen=True, slots=True)
class Publication:
    """What one build of trade dates amounts to."""

    dates: tuple[date, ...]
    status: PublicationStatus
    detail: str | None


@dataclass(frozen=True, slots=True)
class BuildOutcome:
    """What is published of a build.

    `versions` are the Delta versions of the tables that it read and wrote; `failures` and `warnings` name the tests
    that did not pass; of the dates `restated` only daily_adjusted was replaced, and the build tested nothing else.
    """

    versions: Mapping[str, int]
    failures: Sequence[str] = ()
    warnings: Sequence[str] = ()
    restated: Sequence[date] = ()


def publish(
    lake: Lake, dates: Sequence[date], outcome: BuildOutcome, actions: Path, published_at: datetime
) -> Publication:
    """Append one row per date to ``ops/published``; `actions` is the file of corporate actions.

    Restated dates keep the verdict of their last publication; one that never was published is not now. A build of
    no date publishes nothing.
    """
    status, detail = _verdict(outcome.failures, outcome.warnings)
    verdicts = _earlier(lake, outcome.restated, outcome.failures) | dict.fromkeys(dates, (status, detail))
    if not verdicts:
        return Publication((), status, detail)
    run_id = new_ingest_id()
    rows = [
        {
            "trade_date": day,
            "published_at": published_at,
            "status": of_day,
            "versions": list(outcome.versions.items()),
            "code_version": code_version(),
            "actions_hash": hashlib.sha256(actions.read_bytes()).hexdigest(),
            "run_id": run_id,
            "detail": why,
        }
        for day, (of_day, why) in sorted(verdicts.items())
    ]
    lake.append("ops/published", rows, run_id, 1)
    _refresh_catalog(lake)
    return Publication(tuple(sorted(verdicts)), status, detail)


def dates_to_judge_again(lake: Lake, dates: Sequence[date]) -> list[date]:
    """Published sessions whose metrics were made without open interest of the session before that is there now.

    Looked at are the sessions after `dates`: the plausibility of their open interest is that of a change. One that is
    among `dates`, or whose quotes are gone, is none of them.
    """
    following = {next_session(day).trade_date: day for day in dates}
    with reader(lake) as reads:
        found = [day for day in sorted(following.keys() - set(dates)) if _has_more(lake, reads, day, following[day])]
        gone = set(reads.retired(found))
    return [day for day in found if day not in gone]


def _has_more(lake: Lake, reads: Reader, day: date, before: date) -> bool:
    """Whether there is more open interest of the session `before` than the metrics of a published `day` knew."""
    rows = reads.rows("ops/published", f"trade_date = date '{day}' order by published_at, run_id", "versions")
    named = [row["versions"] for row in rows if METRICS in row["versions"]]
    if not named:
        return False
    # A restatement names the versions of its own time, and judges nothing: the build before it did.
    changes, stands = changes_of(lake, METRICS), named[-1][METRICS]
    judged = next(versions for versions in named if not changed(changes, day, versions[METRICS], stands))
    known = judged.get("raw/open_interest")
    try:
        return reads.settled_count(before) > (0 if known is None else reads.settled_count(before, known))
    except duckdb.Error:
        # That version is gone: judging once more is right in any case.
        return True


def _refresh_catalog(lake: Lake) -> None:
    """Let the catalog file show tables that are new. The day is published, whether this works or not."""
    try:
        write_catalog(lake.root)
    except (LakeError, duckdb.Error, OSError) as error:
        log.warning("catalog_not_written", lake=lake.root, error=str(error))


def _verdict(failures: Sequence[str], warnings: Sequence[str]) -> tuple[PublicationStatus, str | None]:
    return ("failed" if failures else "warned" if warnings else "passed"), "; ".join([*failures, *warnings]) or None


def _earlier(
    lake: Lake, dates: Sequence[date], failures: Sequence[str]
) -> dict[date, tuple[PublicationStatus, str | None]]:
    """The last verdict on each date; failed where a test of the table that was replaced failed now."""
    if not dates:
        return {}
    listed = ", ".join(f"date '{day}'" for day in dates)
    with reader(lake) as reads:
        rows = reads.rows("ops/published", f"trade_date in ({listed}) order by published_at")
    now = [name for name in failures if "daily_adjusted" in name]
    return {
        row["trade_date"]: ("failed" if now else row["status"], "; ".join(filter(None, [row["detail"], *now])) or None)
        for row in rows
    }
