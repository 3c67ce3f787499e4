"""``chainlake gate``: what it prints, records and refuses, as a user calls it."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from chainlake.ops.rollout import gates
from chainlake.ops.rollout.journal import FILE, decided, read_journal
from chainlake.ops.rollout.report import weekly_report
from ingest.settings import load
from lake.reads import reader
from tests.chainlake.ops.rollout.histories import Stored, sessions_of, write
from tests.commands import Result, run_chainlake

DAYS = sessions_of(date(2026, 11, 2), date(2026, 11, 20))


Gate = Callable[..., Result]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake whose days are all good; nothing writes to it."""
    root = tmp_path_factory.mktemp("good") / "lake"
    write(root, {day: Stored() for day in DAYS})
    return root


@pytest.fixture
def gate(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Runs ``chainlake gate`` in a folder of its own: on the lake there, else on the good one."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Result:
        root = tmp_path / "lake" if (tmp_path / "lake").exists() else good
        return run_chainlake("gate", "--lake", str(root), *arguments)

    return call


def test_decisions_in_the_file_of_an_earlier_version_still_count(gate: Gate, tmp_path: Path) -> None:
    assert gate("--stage", "1", "--approve", "Ann: two good days").returncode == 0
    state = tmp_path / "state"
    (state / FILE).rename(state / "ladder.jsonl")
    assert read_journal(state).stage == 1
    assert gate("--stage", "1", "--roll-back", "Bob: too many gaps").returncode == 0
    assert [(entry.by, entry.stage) for entry in read_journal(state).entries] == [("Ann", 1), ("Bob", 0)]
    assert len((state / FILE).read_text().splitlines()) == 1


def test_a_gate_that_holds_can_be_approved_and_then_is_watched(gate: Gate, tmp_path: Path) -> None:
    verdict = json.loads(gate("--stage", "1", "--json").stdout)
    assert (verdict["holds"], verdict["days"]) == (True, [str(DAYS[-2]), str(DAYS[-1])])
    assert {rule["rule"]: rule["passed"] for rule in verdict["rules"]} == dict.fromkeys(
        ["days", "slot_coverage", "fallback", "delayed", "oi_filled", "pacing_violations", "unhandled_errors"], True
    )
    approved = gate("--stage", "1", "--approve", "Ann: two good days", "--deviation", "30/min, 14 at once")
    assert approved.returncode == 0, approved.stderr
    (entry,) = read_journal(tmp_path / "state").entries
    assert (entry.stage, entry.by, entry.deviation) == (1, "Ann", "30/min, 14 at once")
    assert entry.window == (DAYS[-2], DAYS[-1])
    assert all(rule.passed for rule in entry.rules)
    assert len(entry.rules) == 7
    # Its question is now whether to stay, and no session has been at stage 1 yet.
    watched = json.loads(gate("--stage", "1", "--json").stdout)
    assert (watched["kind"], watched["holds"], watched["days"]) == ("watch", True, [])
    place = json.loads(gate("--json").stdout)
    assert (place["stage"], place["gate"]["stage"], place["gate"]["holds"]) == (1, 2, False)


def test_a_gate_that_does_not_hold_exits_1_and_is_approved_only_with_a_deviation(gate: Gate, tmp_path: Path) -> None:
    days = {day: Stored() for day in DAYS}
    days[DAYS[-1]].breach("fallback", 0.2)
    write(tmp_path / "lake", days)
    assert gate("--stage", "1").returncode == 1
    refused = gate("--stage", "1", "--approve", "Ann: never mind")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "fallback" in refused.stderr
    assert not (tmp_path / "state" / FILE).exists()
    assert (
        gate("--stage", "1", "--approve", "Ann: never mind", "--deviation", "the close farm was down").returncode == 0
    )
    (entry,) = read_journal(tmp_path / "state").entries
    assert [rule.rule for rule in entry.rules if not rule.passed] == ["fallback"]


def test_stages_are_climbed_one_by_one_and_left_by_one(gate: Gate, tmp_path: Path) -> None:
    skipped = gate("--stage", "2", "--approve", "Ann: in a hurry")
    assert skipped.returncode == 1
    assert "stage" in skipped.stderr
    assert gate("--stage", "1", "--approve", "Ann: fine").returncode == 0
    assert gate("--stage", "1", "--approve", "Ann: again").returncode == 2
    assert gate("--stage", "2", "--roll-back", "Bob: wrong stage").returncode == 2
    assert gate("--roll-back", "Bob: coverage fell").returncode == 0
    assert json.loads(gate("--json").stdout)["stage"] == 0
    assert gate("--roll-back", "Bob: lower still").returncode == 2


def test_a_dry_run_records_nothing(gate: Gate, tmp_path: Path) -> None:
    assert "would record" in gate("--stage", "1", "--approve", "Ann: fine", "--dry-run").stdout
    assert not (tmp_path / "state" / FILE).exists()
    assert gate("--weekly", "--date", "2026-11-18", "--dry-run").returncode == 0
    assert not (tmp_path / "state" / "reports").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--stage", "1", "--approve", "fine"), "name: reason"),
        (("--approve", "Ann: fine"), "--stage"),
        (("--stage", "1", "--approve", "A: b", "--roll-back", "A: b"), "one decision"),
        (("--stage", "1", "--deviation", "slower"), "--approve"),
        (("--stage", "2", "--after"), "--after"),
        (("--after",), "stands at stage 0"),
        (("--stage", "1", "--date", "2026-11-21"), "not a session"),
        (("--explain-pacing", "2026-11-21", "x"), "not a session"),
        (("--explain-pacing", "2026-11-20", " "), "cause"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    gate: Gate, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    printed = gate(*arguments)
    assert (printed.returncode, printed.stderr.count("\n")) == (2, 1), printed.stderr
    assert said in printed.stderr


@pytest.mark.parametrize("line", ["{", '{"at": "2026-11-20T21:00:00Z"}', "[]", '{"a": 1', "\x00"])
def test_a_damaged_journal_is_named_with_its_line(gate: Gate, tmp_path: Path, line: str) -> None:
    assert gate("--explain-pacing", "2026-11-20", "a second window").returncode == 0
    journal = tmp_path / "state" / FILE
    with journal.open("a") as file:
        file.write(line + "\n")
    for arguments in ((), ("--stage", "1"), ("--explain-pacing", "2026-11-20", "again")):
        printed = gate(*arguments)
        assert (printed.returncode, printed.stderr.count("\n")) == (2, 1)
        assert f"{FILE}, line 2" in printed.stderr
        assert "backup" in printed.stderr
    assert journal.read_text().endswith(line + "\n")


def test_a_torn_last_line_is_named(gate: Gate, tmp_path: Path) -> None:
    gate("--explain-pacing", "2026-11-20", "a second window")
    journal = tmp_path / "state" / FILE
    journal.write_text(journal.read_text().rstrip("\n"))
    assert "line 1" in gate().stderr


def approve_at(state: Path, instant: datetime, stage: int = 1) -> None:
    read_journal(state).append(decided("approve", stage, "Ann: fine", None, (), instant))


@pytest.mark.parametrize(
    ("coverage", "alerts", "holds"),
    [([0.9, 0.88, 0.95], 2, True), ([0.9, 0.879, 0.95], 0, False), ([1, 1, 1], 3, False)],
)
def test_the_first_three_sessions_at_stage_1_are_watched(
    gate: Gate, tmp_path: Path, coverage: list[float], alerts: int, holds: bool
) -> None:
    approved_on, *watched = DAYS[-8:-4]
    later = DAYS[-4]
    days = {day: Stored() for day in DAYS}
    for day, value in zip(watched, coverage, strict=True):
        days[day].breach("slot_coverage", value)
    for number in range(alerts):
        days[watched[0]].run("snapshot", 2 + number, pacing_errors=1)
    # The fourth session is not watched any more.
    days[later].breach("slot_coverage", 0.1)
    write(tmp_path / "lake", days)
    # Approved in the evening: the next session is the first at the new stage.
    approve_at(tmp_path / "state", datetime.combine(approved_on, datetime.min.time(), UTC).replace(hour=23))
    for arguments in (("--after",), ("--stage", "1")):
        printed = gate(*arguments, "--json")
        verdict = json.loads(printed.stdout)
        assert (verdict["holds"], printed.returncode) == (holds, 0 if holds else 1)
        assert verdict["days"] == [str(day) for day in watched]
    if not holds:
        assert "--roll-back" in verdict["verdict"]
        assert gate().returncode == 1
    early = json.loads(gate("--after", "--date", str(watched[0]), "--json").stdout)
    assert early["days"] == [str(watched[0])]


def test_only_days_at_the_stage_before_count_for_the_next(gate: Gate, tmp_path: Path) -> None:
    approve_at(tmp_path / "state", datetime(2026, 11, 12, 23, tzinfo=UTC))
    verdict = json.loads(gate("--stage", "2", "--json").stdout)
    days = [str(day) for day in DAYS if day > date(2026, 11, 12)]
    assert (verdict["days"], verdict["holds"]) == (days, False)
    assert "6 of 7" in next(rule["reason"] for rule in verdict["rules"] if rule["rule"] == "days")
    assert "2026-11-23" in json.loads(gate("--json").stdout)["due"]


def test_a_live_lake_is_judged_by_what_is_due_not_by_what_is_there(tmp_path: Path) -> None:
    """A pipeline that has stood still for a week must not pass on what was before."""
    lake = write(tmp_path / "lake", {day: Stored() for day in DAYS}, origin="ibkr-live")
    settings = load()
    for now, expected in (
        (datetime(2026, 11, 20, 23, 30, tzinfo=UTC), date(2026, 11, 19)),
        (datetime(2026, 11, 23, 14, 1, tzinfo=UTC), date(2026, 11, 20)),
        (datetime(2026, 12, 1, 15, 0, tzinfo=UTC), date(2026, 11, 30)),
    ):
        with reader(lake) as reads:
            assert gates.judged_by(lake, reads, now, settings) == expected
    with reader(lake) as reads:
        assert gates.judged_by(lake, reads, datetime(2026, 11, 20, 23, 30, tzinfo=UTC), settings, watching=True) == (
            date(2026, 11, 20)
        )
        read_of = gates.promotion(reads, read_journal(tmp_path), 1, date(2026, 11, 30))
    assert not read_of.holds


def test_the_weekly_report_tells_of_each_session_of_the_week(tmp_path: Path) -> None:
    days: dict[date, Any] = {day: Stored() for day in DAYS}
    monday, tuesday, wednesday, thursday, friday = DAYS[-5:]
    days[tuesday].breach("slot_coverage", 0.8)
    days[wednesday].run("snapshot", 3, trigger="repair")
    days[thursday].run("snapshot", 2, pacing_errors=4)
    days[thursday].incidents.append("pacing_errors")
    del days[friday]
    lake = write(tmp_path / "lake", days)
    settings = load(state={"dir": str(tmp_path / "state")})
    now = datetime(2026, 11, 22, 16, tzinfo=UTC)
    text = weekly_report(settings, lake, date(2026, 11, 22), now)
    assert text == (tmp_path / "state" / "reports" / "weekly_20261120.md").read_text()
    rows = {line.split("|")[1].split()[0]: line for line in text.splitlines() if line.startswith("| 2026-")}
    assert list(rows) == [str(day) for day in (monday, tuesday, wednesday, thursday, friday)]
    assert "**80 %**" in rows[str(tuesday)]
    assert "**not recorded**" in rows[str(friday)]
    cells = [cell.strip() for cell in rows[str(thursday)].split("|")]
    assert cells[7:9] == ["4", "1"]
    assert "snapshot 11:00 (repair)" in text
    assert "its cause is not recorded" in text
    assert "stage 0" in text
