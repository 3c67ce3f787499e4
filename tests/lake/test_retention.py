"""What is older than its retention leaves, date by date and on record; nothing else does."""

import json
import os
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.clock_evidence import ClockRefused
from flows.maintenance import MaintenanceContext, run_retention
from ingest.settings import load
from lake.maintenance.lock import MaintainerBusy, maintainer
from lake.reads import reader
from lake.store import Lake
from tests.lake.maintained import NOW, TODAY, content, new_lake, publish
from tests.models.rows import Day

EXPIRED, UNPUBLISHED, KEPT = date(2026, 9, 18), date(2026, 9, 17), date(2026, 9, 21)  # 63, 64 and 60 days before


def quote(day: date) -> dict[str, Any]:
    named = {"trade_date": day, "view": "intraday", "slot_30m": 0, "sample_time": NOW, "underlying": "AAPL"}
    return named | {"conid": 1, "ingest_id": "0190", "snapshot_error": False, "source": "simulated"}


def lookup(day: date) -> dict[str, Any]:
    named = {"trade_date": day, "asked_at": NOW, "underlying": "AAPL", "trading_class": "AAPL", "right": "C"}
    return named | {"last_trade_date": day, "strike": 1.0, "multiplier": 100.0, "exchange": "SMART", "ingest_id": "1"}


def error(day: date) -> dict[str, Any]:
    named = {"trade_date": day, "step": "snapshot", "ingest_id": "0190", "error_type": "timeout", "message": ""}
    return named | {"observed_at": NOW}


@pytest.fixture
def context(tmp_path: Path) -> MaintenanceContext:
    lake = new_lake(tmp_path)
    Day(lake, TODAY).open()
    for day in (UNPUBLISHED, EXPIRED, KEPT):
        lake.append("raw/underlying_quotes", [quote(day)] * 2, f"test/{day}", 1)
    for day in (EXPIRED, KEPT):
        publish(lake, day, {})
    # Sessions: the fifth before Friday 2026-11-20 is 2026-11-13.
    for day in (date(2026, 11, 12), date(2026, 11, 13)):
        lake.append("ops/contract_lookups", [lookup(day)], f"test/{day}", 1)
    for day in (TODAY - timedelta(days=91), TODAY - timedelta(days=90)):
        lake.append("ops/errors", [error(day)], f"test/{day}", 1)
    logs = tmp_path / "state" / "run_logs"
    (logs / "metrics").mkdir(parents=True)
    for name, age in (("chainlake_old.jsonl", 91), ("metrics/old.jsonl", 91), ("new.jsonl", 89)):
        (logs / name).write_text("{}\n")
        os.utime(logs / name, (NOW.timestamp() - age * 86400,) * 2)
    (logs / "retention_202001.jsonl").write_text("{}\n")
    os.utime(logs / "retention_202001.jsonl", (0, 0))
    return MaintenanceContext(lake, load(state={"dir": tmp_path / "state"}), NOW)


def days(lake: Lake, table: str) -> list[date]:
    with reader(lake) as reads:
        return sorted(row["trade_date"] for row in reads.rows(table, columns="distinct trade_date"))


def test_published_quotes_lookups_errors_and_logs_leave_when_their_time_is_over(context: MaintenanceContext) -> None:
    report = run_retention(context)
    assert [(row["table"], row["trade_date"], row["rows"]) for row in report.rows] == [
        ("raw/underlying_quotes", "2026-09-18", 2),
        ("ops/contract_lookups", "2026-11-12", 1),
        ("ops/errors", "2026-08-21", 1),
    ]
    assert days(context.lake, "raw/underlying_quotes") == [UNPUBLISHED, KEPT]
    assert days(context.lake, "ops/contract_lookups") == [date(2026, 11, 13)]
    assert days(context.lake, "ops/errors") == [date(2026, 8, 22)]
    left = {path.name for path in (context.state / "run_logs").rglob("*.jsonl")}
    assert left == {"new.jsonl", "retention_202001.jsonl", "retention_202611.jsonl", "2026-11-20.jsonl"}
    assert run_retention(context).rows == ()


def test_every_deletion_is_on_record(context: MaintenanceContext) -> None:
    run_retention(context)
    lines = [
        json.loads(line) for line in (context.state / "run_logs" / "retention_202611.jsonl").read_text().splitlines()
    ]
    assert [(line["action"], line.get("table") or line["file"]) for line in lines] == [
        ("retire", "raw/underlying_quotes"),
        ("retire", "ops/contract_lookups"),
        ("retire", "ops/errors"),
        ("delete", "chainlake_old.jsonl"),
        ("delete", "old.jsonl"),
    ]
    with reader(context.lake) as reads:
        (run,) = reads.rows("ops/runs")
    assert (run["step"], run["status"], run["asked"], run["captured"]) == ("retention", "ok", 3, 3)
    assert {line["run"] for line in lines} == {run["ingest_id"]}


def test_a_dry_run_says_the_same_and_writes_nothing(context: MaintenanceContext) -> None:
    tables = ("raw/underlying_quotes", "ops/errors", "ops/runs")
    before = [content(context.lake, table) for table in tables]
    said = run_retention(context, dry_run=True)
    assert [content(context.lake, table) for table in tables] == before
    assert (context.state / "run_logs" / "chainlake_old.jsonl").exists()
    assert run_retention(context).rows == said.rows


def test_beside_another_maintainer_it_is_refused_and_the_refusal_is_on_record(context: MaintenanceContext) -> None:
    with maintainer(context.lake, "vacuum"), pytest.raises(MaintainerBusy):
        run_retention(context)
    with reader(context.lake) as reads:
        (run,) = reads.rows("ops/runs")
        (found,) = reads.rows("ops/errors", "step = 'retention'")
    assert run["status"] == "refused"
    assert run["message"] == found["message"]
    assert EXPIRED in days(context.lake, "raw/underlying_quotes")


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_clock_that_has_jumped_ahead_takes_nothing(context: MaintenanceContext, dry_run: bool) -> None:
    """400 days ahead every published date is past its retention."""
    before = {name: context.lake.version(name) for name in context.lake.table_names()}
    files = sorted(context.state.rglob("*"))
    with pytest.raises(ClockRefused, match=r"the clock says 2027-12-25, 400 days after the last that .*2026-11-20"):
        run_retention(replace(context, now=NOW + timedelta(days=400)), dry_run)
    assert {name: context.lake.version(name) for name in context.lake.table_names()} == before
    assert sorted(context.state.rglob("*")) == files


def test_a_lake_that_has_stopped_recording_is_retired_when_a_person_says_so(context: MaintenanceContext) -> None:
    late = replace(context, now=NOW + timedelta(days=400))
    taken = run_retention(replace(late, clock_is_right=True)).rows
    assert [row["trade_date"] for row in taken if row["table"] == "raw/underlying_quotes"] == [str(EXPIRED), str(KEPT)]
    assert days(context.lake, "raw/underlying_quotes") == [UNPUBLISHED]
    # Nothing is due any more: there is nothing to refuse.
    for file in (context.state / "run_logs").rglob("*.jsonl"):
        if not file.name.startswith("retention"):
            file.unlink()
    assert run_retention(replace(late, now=NOW + timedelta(days=401)), dry_run=True).rows == ()
