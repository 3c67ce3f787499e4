"""Publication: the statement that a trade date's tables belong together, written last, after the tests."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from ingest.runs import new_ingest_id
from lake.store import Lake

PublicationStatus = Literal["passed", "warned", "failed"]


@dataclass(frozen=True, slots=True)
class Publication:
    """What one build of trade dates amounts to."""

    dates: tuple[date, ...]
    status: PublicationStatus
    detail: str | None


def publish(
    lake: Lake,
    dates: Sequence[date],
    versions: Mapping[str, int],
    failures: Sequence[str],
    warnings: Sequence[str],
    actions: Path,
    published_at: datetime,
) -> Publication:
    """Append one row per date to ``ops/published``.

    `versions` are the Delta versions of the tables that the build read and wrote; `failures` and `warnings` name the
    tests that did not pass.
    """
    status: PublicationStatus = "failed" if failures else "warned" if warnings else "passed"
    detail = "; ".join([*failures, *warnings]) or None
    run_id = new_ingest_id()
    rows = [
        {
            "trade_date": day,
            "published_at": published_at,
            "status": status,
            "versions": list(versions.items()),
            "code_version": version("chainlake"),
            "actions_hash": hashlib.sha256(actions.read_bytes()).hexdigest(),
            "run_id": run_id,
            "detail": detail,
        }
        for day in sorted(set(dates))
    ]
    lake.append("ops/published", rows, run_id, 1)
    return Publication(tuple(sorted(set(dates))), status, detail)
