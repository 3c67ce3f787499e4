"""What is published, how good it is, and which incidents are open."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from typing import get_args

from chainlake.metrics.families import Value
from chainlake.metrics.sources import Sources
from chainlake.ops.incidents.incidents import open_changes
from ingest.calendar.sessions import session_on
from lake.vocabulary import PublicationStatus


def publications(sources: Sources) -> Iterator[Value]:
    """The latest published date with its status, and the sessions that wait to be published."""
    published = sources.reads.rows(
        "ops/published",
        "published_at <= $now group by trade_date",
        "trade_date, max(published_at) as published_at, arg_max(status, (published_at, run_id)) as status",
        now=sources.now,
    )
    yield Value("chainlake_unpublished_dates", len(_recorded(sources) - {row["trade_date"] for row in published}))
    if not published:
        return
    latest = max(published, key=lambda row: row["trade_date"])
    for status in get_args(PublicationStatus):
        yield Value("chainlake_publication_status", float(latest["status"] == status), (status,))
    last = max(row["published_at"] for row in published)
    yield Value("chainlake_last_publication_timestamp_seconds", last.timestamp())
    midnight = datetime.combine(latest["trade_date"], time(), UTC)
    yield Value("chainlake_published_date_timestamp_seconds", midnight.timestamp())
    yield from _quality(sources, latest["trade_date"])


def _recorded(sources: Sources) -> set[date]:
    """The sessions that were recorded, and whose close deadline is over."""
    days = sources.reads.rows(
        "ops/runs", f"{sources.lately()} and step in ('discover', 'snapshot')", "distinct trade_date"
    )
    sessions = [session_on(row["trade_date"]) for row in days]
    deadline = sources.settings.close.deadline
    return {session.trade_date for session in sessions if session and session.at(deadline) <= sources.now}


def _quality(sources: Sources, day: date) -> Iterator[Value]:
    columns = "trade_date, metric, value, threshold, passed, pending"
    for row in sources.reads.rows("quality/daily_metrics", f"trade_date = date '{day}' order by metric", columns):
        label = (row["metric"],)
        for name in ("value", "threshold"):
            if row[name] is not None:
                yield Value(f"chainlake_quality_{name}", row[name], label)
        yield Value("chainlake_quality_breached", float(not row["passed"] and not row["pending"]), label)
    filled = sources.reads.rows(
        "quality/daily_metrics",
        f"{sources.lately()} and metric = 'oi_filled' and not pending and value is not null "
        "order by trade_date desc limit 1",
        "value",
    )
    for row in filled:
        yield Value("chainlake_open_interest_filled_ratio", row["value"])


def incidents(sources: Sources) -> Iterator[Value]:
    """Open incidents by cause; a flow's name is no part of it."""
    still_open = open_changes(sources.reads)
    counted = Counter(
        (each.cause.partition(":")[0], each.severity, str(each.acknowledged_at is not None).lower())
        for each in still_open
    )
    for labels, count in sorted(counted.items()):
        yield Value("chainlake_open_incidents", count, labels)
    if still_open:
        oldest = min(each.opened_at for each in still_open)
        yield Value("chainlake_oldest_open_incident_timestamp_seconds", oldest.timestamp())
