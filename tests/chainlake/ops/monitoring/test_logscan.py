"""What a scan counts, held against files and rows whose content is counted here by hand."""

import json
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from chainlake.ops.monitoring.logscan import Scan, keep, scan
from tests.chainlake.ops.monitoring.conftest import DAY, WatchedLake, at

KEYWORDS = ("traceback", "corrupt", "no space left")
EVENING = at(DAY, "20:00")
TRACE = "Traceback (most recent call last):\n  File x\nValueError: no"
DBT = """\
============================== 21:59:00.000001 | 7b2a ==============================
21:59:00.000001 [info ] [MainThread]: Running with dbt
21:59:01.000001 [debug] [Thread-1  ]: select 'corrupt' as words of a query
22:00:00.000001 [error] [MainThread]: Failure in test fallback_holds
22:00:01.000001 [debug] [MainThread]: Encountered an error:
Traceback (most recent call last):
  File "x.py", line 1
22:00:02.000001 [warn ] [MainThread]: something is odd
"""


@pytest.fixture
def logged(watched: WatchedLake) -> WatchedLake:
    """A day's log, with one line of the day before."""
    lines: list[dict[str, Any]] = [
        {"timestamp": at(DAY, "09:30").isoformat(), "level": "info", "event": "fine"},
        {"timestamp": at(DAY, "09:31").isoformat(), "level": "warning", "event": "No Space Left on device"},
        {"timestamp": at(DAY, "09:32").isoformat(), "level": "error", "event": "step_lost"},
        {"timestamp": at(DAY, "09:33").isoformat(), "level": "error", "event": "oops", "exception": TRACE},
        {"timestamp": at(date(2026, 11, 19), "23:59").isoformat(), "level": "error", "event": "yesterday"},
        {
            "timestamp": at(DAY, "09:34").isoformat(),
            "level": "warning",
            "event": "corrupt",
            "logger": "chainlake.ops.incidents.outbox",
        },
    ]
    folder = watched.state / "run_logs"
    folder.mkdir(parents=True)
    text = "".join(json.dumps(line) + "\n" for line in lines) + "no json at all: corrupt\n"
    (folder / f"chainlake_{DAY:%Y%m%d}.jsonl").write_text(text)
    return watched


def scanned(watched: WatchedLake) -> Scan:
    """The scan of the day, in the evening."""
    return scan(watched.lake, watched.state, DAY, KEYWORDS, EVENING)


def test_lines_of_the_day_are_counted_by_level_word_and_traceback(logged: WatchedLake) -> None:
    (file,) = scanned(logged).files
    assert (file.file, file.lines) == ("run_logs/chainlake_20261120.jsonl", 4)
    assert dict(file.levels) == {"info": 1, "warning": 1, "error": 2}
    assert dict(file.keywords) == {"no space left": 1, "traceback": 1}
    assert (file.tracebacks, file.unhandled) == (1, 1)
    assert file.examples == ["No Space Left on device", "oops"]


def test_an_unexpected_error_is_severe_and_an_expected_one_is_not(logged: WatchedLake) -> None:
    assert len(scanned(logged).severe) == 1
    path = logged.state / "run_logs" / f"chainlake_{DAY:%Y%m%d}.jsonl"
    path.write_text(json.dumps({"timestamp": EVENING.isoformat(), "level": "error", "event": "step_lost"}) + "\n")
    assert scanned(logged).severe == []


def test_the_central_error_log_is_read_where_there_is_no_whole_one(logged: WatchedLake) -> None:
    whole = logged.state / "run_logs" / f"chainlake_{DAY:%Y%m%d}.jsonl"
    errors = logged.state / "run_logs" / "errors"
    errors.mkdir()
    (errors / f"errors_{DAY:%Y%m%d}.log").write_text(whole.read_text())
    assert [file.file for file in scanned(logged).files] == ["run_logs/chainlake_20261120.jsonl"]
    whole.unlink()
    assert [file.file for file in scanned(logged).files] == ["run_logs/errors/errors_20261120.log"]


def test_dbts_log_is_dated_by_its_last_change_and_its_queries_are_not_searched(watched: WatchedLake) -> None:
    path = watched.state / "dbt" / "logs" / "dbt.log"
    path.parent.mkdir(parents=True)
    path.write_text("23:30:00.000001 [error] [MainThread]: of the day before\n" + DBT)
    changed = datetime(2026, 11, 20, 22, 0, 3, tzinfo=UTC).timestamp()
    os.utime(path, (changed, changed))
    (file,) = scanned(watched).files
    assert dict(file.levels) == {"error": 1, "warn": 1, "debug": 1}
    assert dict(file.keywords) == {"traceback": 1}
    assert file.tracebacks == 1


def test_errors_are_counted_by_step_kind_and_code(watched: WatchedLake) -> None:
    for minute in ("09:31", "09:32", "09:33"):
        watched.error("ib_error", at(DAY, minute), code=200, message=f"at {minute}")
    watched.error("timeout", at(DAY, "09:34"))
    watched.error("timeout", at(date(2026, 11, 19), "09:34"))
    found = scanned(watched)
    assert [(row["error_type"], row["code"], row["count"]) for row in found.errors] == [
        ("ib_error", 200, 3),
        ("timeout", None, 1),
    ]
    assert found.errors[0]["message"] == "at 09:33"
    assert found.severe == [], "error rows are data"


def test_a_run_that_failed_is_severe_until_it_is_made_good(watched: WatchedLake) -> None:
    failed = {"status": "failed", "captured": 0, "slot_30m": 3, "batch": "all", "message": "the broker is gone"}
    watched.run("snapshot", at(DAY, "11:00"), **failed)
    watched.run("compact", at(DAY, "11:00"), status="refused", message="busy")
    assert scanned(watched).severe == ["snapshot of 2026-11-20 failed and was not made good: the broker is gone"]
    watched.run("snapshot", at(DAY, "11:05"), slot_30m=4, batch="all")
    assert len(scanned(watched).severe) == 1, "another slot makes nothing good"
    watched.run("snapshot", at(DAY, "11:10"), slot_30m=3, batch="all", status="partial")
    assert scanned(watched).severe == []
    assert [run["made_good"] for run in scanned(watched).runs if run["step"] == "snapshot"] == [True]


def test_without_a_lake_the_files_are_scanned(logged: WatchedLake) -> None:
    assert len(scan(None, logged.state, DAY, KEYWORDS, EVENING).files) == 1


def test_the_summary_is_kept_as_json(logged: WatchedLake) -> None:
    path = keep(scanned(logged), logged.state)
    assert path == Path(logged.state) / "run_logs" / "errors" / "summary_20261120.json"
    content = json.loads(path.read_text())
    assert (content["date"], content["passed"], len(content["severe"])) == ("2026-11-20", False, 1)
    assert content["files"][0]["keywords"] == {"no space left": 1, "traceback": 1}
