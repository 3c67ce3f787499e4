"""Every cause at once, to a webhook and to a mailbox: one alert each however often one looks, and one all-clear."""

import json
from collections import Counter
from datetime import date, datetime
from pathlib import Path

import pytest

from chainlake.ops.incidents.alerts import Channel
from chainlake.ops.incidents.causes import FlowTrouble, causes
from chainlake.ops.incidents.incidents import history
from chainlake.ops.monitoring.errorlog import error_log
from chainlake.ops.monitoring.thresholds import thresholds
from ingest.journal import Journal
from tests.chainlake.ops.monitoring.conftest import DAY, Mailbox, WatchedLake, Webhook, at, session, settings_of

BEFORE, SATURDAY = date(2026, 11, 19), date(2026, 11, 21)
NOW = at(DAY, "14:12")
TROUBLES = [
    FlowTrouble("snapshot", "crashed", "run a: killed", DAY),
    FlowTrouble("close-snapshot", "late", "run b: nobody started it", DAY),
]
# What is wrong below, by hand.
WRONG = {
    **{(metric, BEFORE): "severe" if rule.severity == "error" else "warning" for metric, rule in thresholds().items()},
    ("slot_late", DAY): "warning",
    ("slot_missed", DAY): "severe",
    ("slot_coverage", DAY): "severe",
    ("delayed", DAY): "severe",
    ("pacing_errors", DAY): "warning",
    ("close_missed", BEFORE): "warning",
    ("not_published", BEFORE): "severe",
    ("competing_session", DAY): "severe",
    ("no_permission", DAY): "severe",
    ("gateway_unreachable", DAY): "severe",
    ("clock_skew", DAY): "warning",
    ("discovery_stale", DAY): "warning",
    ("lake_damaged", DAY): "severe",
    ("journal_left", DAY): "severe",
    ("disk_full", DAY): "severe",
    ("maintenance_refused", DAY): "warning",
    ("maintenance_failed", DAY): "severe",
    ("log_keyword", DAY): "warning",
    ("unhandled_error", DAY): "severe",
    ("flow_failed:snapshot", DAY): "severe",
    ("flow_late:close-snapshot", DAY): "severe",
    ("flow_late:discover", DAY): "severe",
    ("flow_late:enrichment", BEFORE): "severe",
}


@pytest.fixture
def alerted(watched: WatchedLake, webhook: Webhook, mailbox: Mailbox) -> WatchedLake:
    """The lake, with both receivers."""
    watched.channel = Channel.of([webhook.url, mailbox.url])
    return watched


def test_every_cause_is_told_once_and_once_when_it_is_over(
    alerted: WatchedLake, webhook: Webhook, mailbox: Mailbox, tmp_path: Path
) -> None:
    for number in range(14):
        alerted.slot(BEFORE, number)
    break_everything(alerted)
    alerted.settings = settings_of(tmp_path, maintenance={"disk_used_pct": 0.0001})
    for _ in range(3):
        alerted.look(NOW, clock_skew_s=-9.5, gateway_error="127.0.0.1:4002 refuses", flows=TROUBLES)
    opened = Counter(f"Chainlake: {severity}: {cause} of {day}" for (cause, day), severity in WRONG.items())
    assert Counter(webhook.titles) == opened
    assert {key.partition(":")[0] for key, _ in WRONG} == set(causes()), "a cause is not tested"

    mend_everything(alerted)
    alerted.settings = settings_of(tmp_path, maintenance={"disk_used_pct": 100})
    for _ in range(3):
        settled = alerted.look(at(SATURDAY, "15:00"), clock_skew_s=0.3, flows=[])
    assert settled.still_open == ()
    over = Counter(f"Chainlake: over: {cause} of {day}" for cause, day in WRONG)
    assert Counter(webhook.titles) == opened + over
    assert Counter(mailbox.titles) == Counter(webhook.titles), "the mailbox has the same"
    assert Counter((row["state"]) for row in history(alerted.lake)) == {"opened": len(WRONG), "closed": len(WRONG)}
    assert alerted.todo == "# To do now\n\nNothing to do.\n"


def break_everything(watched: WatchedLake) -> None:
    """Friday until 14:12, of a lake whose Thursday came out bad."""
    watched.metrics(BEFORE, **dict.fromkeys(thresholds(), False))
    watched.freeze(DAY)
    # The slots of 11:00 and 14:00 have nothing, the others half of the contracts, all of them delayed.
    for slot in session(DAY).slots[:9]:
        if slot.label not in ("11:00", "14:00"):
            watched.quotes(DAY, [slot.slot_30m], share=0.5)
            delayed = {"captured": 12, "delayed": 12, "pacing_errors": 1, "status": "partial"}
            watched.run("snapshot", slot.sample_time, slot_30m=slot.slot_30m, view="intraday", **delayed)
    watched.error("ib_error", at(DAY, "13:31"), code=10197, message="No market data during competing live session")
    watched.error("delayed_fallback", at(DAY, "13:31"), message="no permission for live data")
    watched.error("discovery_stale", at(DAY, "09:26"), step="discover", message="the last frozen set is used again")
    watched.error("lake_damaged", at(DAY, "13:31"), message="part-0.parquet is too small to be a Parquet file")
    watched.run("compact", at(DAY, "10:00"), status="refused", message="somebody maintains the lake", captured=0)
    watched.run("vacuum", at(DAY, "10:00"), status="failed", message="it broke", captured=0)
    Journal(watched.state / "journal" / "interrupted.journal", {}).close()
    log_line(watched, at(DAY, "14:05"), level="warning", event="the index is CORRUPT")
    log_line(watched, at(DAY, "14:06"), level="error", event="oops", exception="Traceback (most recent call last): …")


def mend_everything(watched: WatchedLake) -> None:
    """The rest of Friday goes well, and Thursday is made good."""
    watched.metrics(BEFORE, **dict.fromkeys(thresholds(), True))
    watched.metrics(DAY, **dict.fromkeys(thresholds(), True))
    watched.run("discover", at(DAY, "14:15"))
    for slot in session(DAY).slots:
        if slot.label in ("11:00",) or slot.sample_time >= at(DAY, "14:00"):
            watched.slot(DAY, slot.slot_30m, delayed=0)
    watched.run("close-snapshot", at(DAY, "17:00"), view="close")
    watched.run("enrichment", at(DAY, "17:10"), day=BEFORE)
    watched.publish(BEFORE, at(DAY, "17:20"))
    watched.publish(DAY, at(DAY, "17:20"))
    watched.run("compact", at(DAY, "18:00"))
    watched.run("vacuum", at(DAY, "18:00"))
    (watched.state / "journal" / "interrupted.journal").unlink()


def log_line(watched: WatchedLake, when: datetime, **record: str) -> None:
    """Write a line into the central error log."""
    path = error_log(watched.state, when.date())
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lines:
        lines.write(json.dumps({"timestamp": when.isoformat(), "logger": "ingest.x", **record}) + "\n")
