"""The reports of a slot and a day, against what was put into the lake."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.reports.markdown import share, table
from flows.reports.reports import daily_report, slot_report
from ingest.calendar.sessions import session_on
from ingest.settings import load
from lake.store import Lake
from tests.small_lake import CONTRACTS_A_DAY, FAILED, PASSED, slots_of, small_lake

SETTINGS = load(ib={"lines": 100})
NOW = datetime(2026, 11, 21, tzinfo=UTC)
DAY = session_on(FAILED)
assert DAY is not None


def run(slot: int, number: int, **changes: Any) -> dict[str, Any]:
    started = slots_of(FAILED)[slot].sample_time + timedelta(minutes=number)
    return {
        "trade_date": FAILED,
        "step": "snapshot",
        "view": "intraday",
        "slot_30m": slot,
        "batch": "all",
        "ingest_id": f"run-{slot}-{number}",
        "status": "partial",
        "asked": 30,
        "captured": 24,
        "failed": 6,
        "messages": 60,
        "pacing_errors": 1,
        "delayed": 3,
        "skew_p99_s": 9.5,
        "latency_p50_ms": 400.0,
        "elapsed_s": 2.0,
        "started_at": started,
        "ended_at": started,
        "trigger": "schedule",
        "host": "here",
        "gateway": "127.0.0.1:4002",
        "message": "6 contracts were not asked",
    } | changes


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = small_lake(tmp_path_factory.mktemp("reports") / "lake")
    made.append("ops/runs", [run(2, 1), run(2, 2, asked=6, captured=6, failed=0, elapsed_s=1.0)], "runs", 1)
    errors = [
        {
            "trade_date": FAILED,
            "step": "snapshot",
            "ingest_id": "run-2-1",
            "conid": 1000 + number,
            "code": code,
            "error_type": kind,
            "message": "m",
            "observed_at": NOW,
        }
        for number, (kind, code) in enumerate([("timeout", None)] * 4 + [("ib_error", 200)] * 2)
    ]
    made.append("ops/errors", errors, "errors", 1)
    incident = {"trade_date": FAILED, "incident_id": "1", "cause": "slot_coverage", "severity": "severe"}
    states = [
        {**incident, "state": state, "detail": "0.85 | 0.9", "changed_at": NOW + timedelta(minutes=minutes)}
        for minutes, state in enumerate(("opened", "acknowledged"))
    ]
    made.append("ops/incidents", states, "incident", 1)
    return made


def rows(markdown: str) -> dict[str, list[str]]:
    """The rows of all tables by their first cell."""
    cells = [[cell.strip() for cell in line.strip("|").split(" |")] for line in markdown.splitlines() if "|" in line]
    return {row[0]: row[1:] for row in cells}


def test_a_slots_report_counts_requests_failures_and_the_rate_against_the_bound(lake: Lake) -> None:
    assert DAY is not None
    found = rows(slot_report(SETTINGS, lake, DAY, DAY.slots[2]))
    assert found["contracts captured"] == [f"{CONTRACTS_A_DAY} of {CONTRACTS_A_DAY} (100 %)"]
    assert found["requests"] == ["36, of which 6 failed"]
    # 36 contracts in 3 s; 50 messages a second, of which 98 % are used, and two a contract.
    assert found["rate"] == ["12.0/s of 24.5/s (48.97 %), bound by messages"]
    assert (found["messages"], found["pacing errors"], found["delayed rows"]) == (["120"], ["2"], ["6"])
    assert (found["timeout"], found["ib_error 200"]) == (["4"], ["2"])


def test_lines_that_answer_slowly_are_the_bound(lake: Lake) -> None:
    assert DAY is not None
    slow = load(ib={"lines": 10, "messages_per_second": 50})
    assert "20.0/s" in rows(slot_report(slow, lake, DAY, DAY.slots[2]))["rate"][0]


def test_a_slot_of_which_nothing_is_there_is_said_to_be_empty(tmp_path: Path) -> None:
    empty = Lake.create(tmp_path / "lake", "simulated", NOW)
    assert DAY is not None
    assert "Nothing was captured" in slot_report(SETTINGS, empty, DAY, DAY.slots[0])
    day = rows(daily_report(SETTINGS, empty, FAILED, DAY.slots[3].sample_time))
    assert [day[slot.label][0] for slot in DAY.slots[2:5]] == ["**missing**", "**missing**", "not due yet"]


def test_a_days_report_has_its_slots_strategies_metrics_publication_and_incidents(lake: Lake) -> None:
    text = daily_report(SETTINGS, lake, FAILED, NOW)
    found = rows(text)
    assert "**Published as failed**" in text
    assert "publication number 2" in text
    assert found["10:30"][:5] == [str(CONTRACTS_A_DAY), "100 %", "AAPL 100 %", "36", "6"]
    assert found["close"] == [str(CONTRACTS_A_DAY - 1)]
    assert found["unresolved: only_errors"] == ["1"]
    assert rows(text.partition("## Incidents")[0])["slot_coverage"][:3] == ["0.85", "0.9", "**FAILED**"]
    assert "| slot_coverage | severe | acknowledged |" in text
    # A bar in a message does not end its cell.
    assert "0.85 \\| 0.9" in text
    assert "**Published as passed**" in daily_report(SETTINGS, lake, PASSED, NOW)


def test_a_day_without_a_session_has_nothing_to_report(lake: Lake) -> None:
    assert "Not a session" in daily_report(SETTINGS, lake, date(2026, 11, 26), NOW)


def test_a_share_is_never_rounded_up_over_a_limit() -> None:
    assert [share(value) for value in (0.899999, 0.9, 1, 0, None)] == ["89.99 %", "90 %", "100 %", "0 %", "–"]
    assert table(("a", "b"), [(None, "x\ny")]).splitlines()[-1] == "| – | x y |"
