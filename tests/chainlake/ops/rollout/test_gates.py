"""Each gate on stored histories: the whole passes, and each rule fails for its own reason."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from chainlake.ops.rollout import gates
from chainlake.ops.rollout.gates import Verdict
from chainlake.ops.rollout.journal import Journal, explained
from chainlake.ops.rollout.rules import PROMOTION_DAYS
from lake.reads import Reader, reader
from lake.store import Lake
from tests.chainlake.ops.rollout.histories import Change, Stored, sessions_of, write


def breach(metric: str, value: float | None) -> Change:
    return lambda stored: stored.breach(metric, value)


def run(step: str, slot: int | None = None, **changes: object) -> Change:
    return lambda stored: stored.run(step, slot, **changes)


def incident(cause: str) -> Change:
    return lambda stored: stored.incidents.append(cause)


def lose_publication(stored: Stored) -> None:
    stored.published = None


def fail_publication(stored: Stored) -> None:
    stored.published = "failed"


def forget_metrics(stored: Stored) -> None:
    stored.metrics = None


def drop(metric: str) -> Change:
    def change(stored: Stored) -> None:
        assert stored.metrics is not None
        del stored.metrics[metric]

    return change


def pending(metric: str, value: float | None) -> Change:
    def change(stored: Stored) -> None:
        assert stored.metrics is not None
        stored.metrics[metric] |= {"value": value, "passed": False, "pending": True}

    return change


def both(*changes: Change) -> Change:
    def change(stored: Stored) -> None:
        for one in changes:
            one(stored)

    return change


PACING = {"slot_30m": 2, "pacing_errors": 1}
# Name, stage, {session of the window: what happened in it}, the rules that fail, words that say why.
CASES: list[tuple[str, int, dict[int, Change], set[str], str]] = [
    ("all is well", 1, {}, set(), ""),
    ("coverage of 89.9 %", 1, {0: breach("slot_coverage", 0.899)}, {"slot_coverage"}, "0.899"),
    ("fallback of 6 %", 1, {1: breach("fallback", 0.06)}, {"fallback"}, "0.06"),
    ("delayed 10 %", 1, {1: breach("delayed", 0.10)}, {"delayed"}, "0.1"),
    ("open interest 94 %", 1, {0: breach("oi_filled", 0.94)}, {"oi_filled"}, "0.94"),
    ("open interest pending", 1, {1: pending("oi_filled", 0.4)}, {"oi_filled"}, "pending"),
    ("open interest not looked at yet", 1, {1: pending("oi_filled", None)}, {"oi_filled"}, "pending"),
    ("coverage unknown", 1, {1: breach("slot_coverage", None)}, {"slot_coverage"}, "no slot_coverage"),
    ("a metric that is not there", 1, {0: drop("fallback")}, {"fallback"}, "no fallback"),
    ("one pacing error, not explained", 1, {0: run("snapshot", **PACING)}, {"pacing_violations"}, "--explain-pacing"),
    ("two pacing errors", 1, {0: run("snapshot", 2, pacing_errors=2)}, {"pacing_violations"}, ": 2"),
    ("a failed slot", 1, {1: run("snapshot", 3, status="failed")}, {"unhandled_errors"}, "snapshot 11:00"),
    (
        "a failed slot, made good",
        1,
        {1: both(run("snapshot", 3, status="failed"), run("snapshot", 3, status="ok"))},
        set(),
        "",
    ),
    ("an unhandled error", 1, {0: incident("unhandled_error")}, {"unhandled_errors"}, "unhandled_error"),
    (
        "a failed flow",
        1,
        {0: incident("flow_failed:close-snapshot")},
        {"unhandled_errors"},
        "flow_failed:close-snapshot",
    ),
    ("an incident of another kind", 1, {0: incident("clock_skew")}, set(), ""),
    ("not published", 1, {1: lose_publication}, {"days"}, "not published"),
    ("by hand is no matter yet", 1, {0: run("snapshot", 2, trigger="manual")}, set(), ""),
    ("seven good days", 2, {}, set(), ""),
    ("a snapshot by hand", 2, {6: run("snapshot", 2, trigger="manual")}, {"interventions"}, "snapshot 10:30 (manual)"),
    ("a repair", 2, {0: run("snapshot", 2, trigger="repair")}, {"interventions"}, "(repair)"),
    ("a look at the disk", 2, {0: run("disk", None, trigger="manual")}, set(), ""),
    ("a threshold not met", 2, {3: breach("duplicates", 1)}, {"thresholds"}, "duplicates 1"),
    ("a warning", 2, {3: breach("stale_quote", 0.03)}, set(), ""),
    ("open interest still to come", 2, {6: pending("oi_filled", 0.0)}, {"thresholds"}, "oi_filled pending"),
    ("ten quiet days", 3, {}, set(), ""),
    ("retries exceeded", 3, {9: breach("slot_retry_exceeded", 1)}, {"slot_retry_exceeded"}, ": 1"),
    (
        "three alerts in each of the two weeks",
        3,
        {k: run("snapshot", **PACING) for k in (0, 1, 2, 7, 8, 9)},
        set(),
        "",
    ),
    (
        "four alerts in five sessions of two weeks",
        3,
        {k: run("snapshot", **PACING) for k in (3, 4, 5, 6)},
        {"pacing_alerts"},
        ": 4",
    ),
    ("many errors of one slot are one alert", 3, {0: run("snapshot", 2, pacing_errors=50)}, set(), ""),
    ("four alerts of incidents", 3, {2: both(*[incident("pacing_errors")] * 4)}, {"pacing_alerts"}, ": 4"),
]
NAMES = [case[0] for case in CASES]


@pytest.fixture(scope="module")
def windows() -> dict[str, list[date]]:
    """For each case sessions of its own, one window after the other."""
    days = sessions_of(date(2025, 1, 2), date(2026, 6, 30))
    found = {}
    for name, stage, *_ in CASES:
        found[name], days = days[: PROMOTION_DAYS[stage]], days[PROMOTION_DAYS[stage] :]
    return found


@pytest.fixture(scope="module")
def lake(windows: dict[str, list[date]], tmp_path_factory: pytest.TempPathFactory) -> Lake:
    stored = {}
    for name, _, changes, *_ in CASES:
        for index, day in enumerate(windows[name]):
            stored[day] = Stored()
            if index in changes:
                changes[index](stored[day])
    return write(tmp_path_factory.mktemp("histories") / "lake", stored)


@pytest.fixture(scope="module")
def reads(lake: Lake) -> Iterator[Reader]:
    with reader(lake) as opened:
        yield opened


NO_DECISION = Journal(Path("none"))


def judge(lake: Lake, stage: int, day: date) -> Verdict:
    with reader(lake) as opened:
        return gates.promotion(opened, NO_DECISION, stage, day)


@pytest.mark.parametrize(("name", "stage", "changes", "failed", "words"), CASES, ids=NAMES)
def test_a_gate_fails_by_the_rule_that_is_broken_and_by_no_other(
    reads: Reader,
    windows: dict[str, list[date]],
    name: str,
    stage: int,
    changes: dict[int, Change],
    failed: set[str],
    words: str,
) -> None:
    verdict = gates.promotion(reads, NO_DECISION, stage, windows[name][-1])
    assert set(verdict.failed) == failed
    assert verdict.holds == (not failed)
    assert list(verdict.days) == windows[name]
    for index in changes if failed and stage == 1 else ():
        (reason,) = (result.reason for result in verdict.results if not result.passed)
        assert str(windows[name][index]) in reason
    assert words in "; ".join(result.reason for result in verdict.results)


def test_one_pacing_error_passes_once_its_cause_is_recorded_and_two_never_do(
    reads: Reader, windows: dict[str, list[date]]
) -> None:
    for name, holds in (("one pacing error, not explained", True), ("two pacing errors", False)):
        day = windows[name][0]
        entry = explained(NO_DECISION, day, "a second TWS window", datetime(2026, 7, 1, tzinfo=UTC))
        journal = Journal(NO_DECISION.path, (entry,))
        assert gates.promotion(reads, journal, 1, windows[name][-1]).holds == holds


def test_a_day_that_is_missing_never_passes(tmp_path: Path) -> None:
    first, hole, last = sessions_of(date(2026, 11, 18), date(2026, 11, 20))
    lake = write(tmp_path / "lake", {first: Stored(), last: Stored()})
    verdict = judge(lake, 1, last)
    assert verdict.days == (hole, last)
    assert "days" in verdict.failed
    assert verdict.results[0].reason == f"{hole} was not recorded"
    # Nothing is known of the day: no rule may take it for a good one.
    assert not any(result.passed for result in verdict.results)


def test_a_day_without_metrics_or_in_an_empty_lake_never_passes(tmp_path: Path) -> None:
    days = sessions_of(date(2026, 11, 19), date(2026, 11, 20))
    unmeasured = Stored()
    forget_metrics(unmeasured)
    lake = write(tmp_path / "lake", {days[0]: Stored(), days[1]: unmeasured})
    assert {"days", "slot_coverage", "fallback", "delayed", "oi_filled"} <= set(judge(lake, 1, days[1]).failed)
    for stage in PROMOTION_DAYS:
        empty = Lake.create(tmp_path / f"empty-{stage}", "simulated", datetime(2026, 11, 19, tzinfo=UTC))
        verdict = judge(empty, stage, days[1])
        assert not any(result.passed for result in verdict.results)


def test_a_failed_publication_is_on_record_and_judged_by_its_metrics(tmp_path: Path) -> None:
    days = sessions_of(date(2026, 11, 19), date(2026, 11, 20))
    failed = Stored()
    fail_publication(failed)
    assert judge(write(tmp_path / "lake", {days[0]: Stored(), days[1]: failed}), 1, days[1]).holds
