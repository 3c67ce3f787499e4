"""``chainlake schedule``: the plan on paper for any date, and executed against a simulated gateway."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from chainlake.ops.simulation import plan_of, run_plan, with_last_morning
from flows.simulated_gateway import free_port
from flows.steps import PipelineContext, connect_broker
from ingest.errors import UsageError
from ingest.settings import load
from tests.commands import SMALL, Chainlake, run_chainlake
from tests.ingest import storm

Plan = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Plan:
    """The days of ``chainlake schedule --simulate --json`` with some arguments."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> list[dict[str, Any]]:
        done = run_chainlake("schedule", "--simulate", "--json", *arguments, place=tmp_path)
        assert done.returncode == 0, done.stderr
        days: list[dict[str, Any]] = json.loads(done.stdout)["days"]
        return days

    return call


def times(day: dict[str, Any], step: str, clock: str = "utc") -> list[str]:
    return [run[clock].split()[1] for run in day["runs"] if run["step"] == step]


def test_a_full_day_has_fourteen_slots_in_new_york_time_and_utc(plan: Plan) -> None:
    (day,) = plan("--date", "2026-11-20")
    slots = times(day, "snapshot", "new_york")
    assert (slots[0], slots[-1], len(slots)) == ("09:30", "16:00", 14)
    assert times(day, "snapshot")[0] == "14:30"
    assert times(day, "discover", "new_york") == ["09:25"]
    assert times(day, "close-snapshot", "new_york") == ["17:00"]
    assert times(day, "enrichment", "new_york") == ["04:00", "07:30", "09:00"]
    assert {run["trade_date"] for run in day["runs"] if run["step"] == "enrichment"} == {"2026-11-19"}
    assert day["runs"] == sorted(day["runs"], key=lambda run: run["utc"])


def test_the_day_after_thanksgiving_ends_at_13_00_and_the_holiday_has_nothing(plan: Plan) -> None:
    holiday, short, saturday, sunday = plan("--date", "2026-11-26", "--days", "4")
    assert (holiday["session"], holiday["runs"]) == (False, [])
    assert holiday["note"] == "nothing: not a session of XNYS"
    assert times(short, "snapshot", "new_york")[-1] == "13:00"
    assert len(times(short, "snapshot")) == 8
    assert "short day" in short["note"]
    # The close view is at 17:00 on early closes too.
    assert times(short, "close-snapshot", "new_york") == ["17:00"]
    assert {run["trade_date"] for run in short["runs"] if run["step"] == "enrichment"} == {"2026-11-25"}
    assert saturday["runs"] == []
    assert [run["step"] for run in sunday["runs"]] == ["maintain", "weekly-report"]


@pytest.mark.parametrize(
    ("before", "after", "utc"),
    [
        # US clocks go forward on 2026-03-08 and back on 2026-11-01.
        ("2026-03-06", "2026-03-09", ("14:30", "13:30")),
        ("2026-10-30", "2026-11-02", ("13:30", "14:30")),
    ],
)
def test_over_a_change_of_clocks_new_york_keeps_its_times_and_utc_does_not(
    plan: Plan, before: str, after: str, utc: tuple[str, str]
) -> None:
    days = {day["date"]: day for day in plan("--date", before, "--days", "4")}
    for text, opening in zip((before, after), utc, strict=True):
        assert times(days[text], "snapshot")[0] == opening
        assert times(days[text], "snapshot", "new_york")[0] == "09:30"


@pytest.mark.parametrize("day", ["1993-11-26", "2014-06-09", "2049-12-31"])
def test_a_date_far_away_is_fine_for_a_plan(plan: Plan, day: str) -> None:
    (only,) = plan("--date", day)
    assert only["date"] == day
    assert only["session"]


def test_the_mornings_after_the_last_session_are_executed_too() -> None:
    settings = load()
    runs = with_last_morning(plan_of(date(2026, 11, 25), 1, settings), settings)
    # Thanksgiving lies between: it is Friday morning.
    last = [(str(run.at.date()), run.step, str(run.trade_date)) for run in runs[-3:]]
    assert last == [("2026-11-27", "enrichment", "2026-11-25")] * 3
    assert with_last_morning(plan_of(date(2026, 11, 26), 1, settings), settings) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--date", "1889-12-02"), 2, "1990"),
        (("--date", "soon"), 2, "no date"),
        (("--run", "--date", "2026-11-20", "--port", "1"), 3, "127.0.0.1:1"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = run_chainlake("schedule", *arguments, place=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert said in done.stderr


async def test_a_gateway_whose_clock_cannot_be_stepped_is_refused(tmp_path: Path) -> None:

    async with storm.gateway(control_port=None, speed=1) as gateway:
        settings = load(lake={"root": str(tmp_path / "lake")}, ib={"port": gateway.port})
        async with connect_broker(PipelineContext.prepare(settings, ["AAPL"])) as broker:
            with pytest.raises(UsageError, match="control port"):
                await run_plan(broker, plan_of(date(2026, 11, 20), 1, settings)[date(2026, 11, 20)])


@pytest.mark.long
def test_a_planned_short_day_and_its_neighbours_run_whole_against_a_gateway_of_its_own(
    chainlake: Chainlake, tmp_path: Path
) -> None:
    """A full day, a holiday, a short day, a Saturday and a Sunday, and Monday morning's open interest."""
    done = chainlake(
        *("schedule", "--simulate", "--run", "--date", "2026-11-25", "--days", "5", "--symbols", "AAPL", "--json"),
        *("--lake", str(tmp_path / "lake")),
        **SMALL,
        CHAINLAKE_SCHEDULE__MIDDAY_REFRESH="true",
        CHAINLAKE_STATE__DIR=str(tmp_path / "state"),
        IB_PORT=str(free_port()),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    counts = Counter((run["step"], run["outcome"]) for run in report["results"])
    assert counts["snapshot", "ok"] == 14 + 8
    assert counts["midday-refresh", "ok"] == counts["close-snapshot", "ok"] == counts["daily-report", "ok"] == 2
    assert counts["maintain", "ok"] == counts["weekly-report", "ok"] == 1
    assert not [run for run in report["results"] if run["outcome"] == "failed"]
    # Each session's next morning fills it.
    filled = [(run["new_york"], run["trade_date"]) for run in report["results"] if run["step"] == "enrichment"]
    assert ("2026-11-27 04:00", "2026-11-25") in filled
    assert ("2026-11-30 04:00", "2026-11-27") in filled
    assert [(check["trade_date"], check["passed"], check["pending"]) for check in report["selfcheck"]] == [
        ("2026-11-25", True, []),
        ("2026-11-27", True, []),
    ]
    state = tmp_path / "state" / "simulation" / "reports"
    assert {file.name for file in state.iterdir()} >= {"daily_20261125.md", "daily_20261127.md", "weekly_20261127.md"}
