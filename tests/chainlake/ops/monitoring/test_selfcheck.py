"""The verdict on a session: a whole day passes, and each thing that is wrong fails it for its own reason."""

from collections.abc import Callable
from datetime import date, datetime, timedelta

import pytest

from chainlake.ops.incidents.causes import breach
from chainlake.ops.incidents.incidents import acknowledge, open_incidents
from chainlake.ops.monitoring.selfcheck import Selfcheck, selfcheck
from chainlake.ops.monitoring.thresholds import thresholds
from chainlake.ops.monitoring.watchdog import Look
from ingest.errors import UsageError
from tests.chainlake.ops.monitoring.conftest import DAY, WatchedLake, at, session

MONDAY = date(2026, 11, 23)
NEXT_MORNING = at(MONDAY, "10:00")


def record(watched: WatchedLake, without: tuple[int, ...] = ()) -> None:
    """A whole day, but for some slots and what a test adds."""
    for slot in session(DAY).slots:
        if slot.slot_30m not in without:
            watched.run("snapshot", slot.sample_time, slot_30m=slot.slot_30m, view="intraday")


def check(watched: WatchedLake, now: datetime = NEXT_MORNING) -> Selfcheck:
    """The verdict on the day."""
    return selfcheck(watched.settings, watched.lake, DAY, now)


def finish(watched: WatchedLake) -> None:
    """The end of the day."""
    watched.run("close-snapshot", at(DAY, "17:00"), view="close")
    watched.metrics(DAY, **dict.fromkeys(thresholds(), True))
    watched.publish(DAY, at(DAY, "17:10"))


def failed(result: Selfcheck) -> list[str]:
    """The checks that failed."""
    return result.as_dict()["failed"]  # type: ignore[no-any-return]


def test_a_whole_day_passes(watched: WatchedLake) -> None:
    record(watched)
    finish(watched)
    result = check(watched)
    assert (result.passed, failed(result), result.as_dict()["pending"]) == (True, [], [])
    assert {each.check for each in result.checks} == {
        *thresholds(),
        "slots",
        "close view",
        "publication",
        "incidents",
        "logs",
    }


def no_metric(watched: WatchedLake) -> None:
    watched.metrics(DAY, **dict.fromkeys(set(thresholds()) - {"fallback"}, True))


def one_breach(watched: WatchedLake) -> None:
    watched.metrics(DAY, **{**dict.fromkeys(thresholds(), True), "stale_quote": False})


def failed_again(watched: WatchedLake) -> None:
    watched.publish(DAY, at(DAY, "18:00"), "failed")


def open_incident(watched: WatchedLake) -> None:
    found = breach("disk_full", DAY, "95 %")
    watched.settle(Look((found,), frozenset()), at(DAY, "18:00"))


def failed_run(watched: WatchedLake) -> None:
    watched.run("enrichment", at(MONDAY, "04:00"), day=DAY, status="failed", captured=0, message="lost")


@pytest.mark.parametrize(
    ("wrong", "check_"),
    [
        (no_metric, "fallback"),
        (one_breach, "stale_quote"),
        (failed_again, "publication"),
        (open_incident, "incidents"),
        (failed_run, "logs"),
    ],
)
def test_each_thing_that_is_wrong_fails_the_day_by_itself(
    watched: WatchedLake, wrong: Callable[[WatchedLake], None], check_: str
) -> None:
    record(watched)
    finish(watched)
    wrong(watched)
    assert failed(check(watched)) == [check_]


def test_a_missed_slot_and_a_missing_close_view_are_named(watched: WatchedLake) -> None:
    record(watched, without=(3,))
    watched.metrics(DAY, **dict.fromkeys(thresholds(), True))
    watched.publish(DAY, at(DAY, "17:10"))
    result = check(watched)
    assert failed(result) == ["slots", "close view"]
    assert next(each.found for each in result.checks if each.check == "slots") == "13 captured, missed 11:00"


def test_an_incident_that_somebody_has_taken_does_not_fail_the_day(watched: WatchedLake) -> None:
    record(watched)
    finish(watched)
    open_incident(watched)
    (incident,) = open_incidents(watched.lake)
    acknowledge(watched.lake, watched.state, incident.incident_id, "kim", at(DAY, "18:05"))
    assert check(watched).passed


def test_what_is_not_due_is_pending_and_fails_nothing(watched: WatchedLake) -> None:
    record(watched, without=tuple(range(4, 14)))
    result = check(watched, at(DAY, "11:20"))
    assert result.passed
    assert {"slots", "close view", "publication", "slot_coverage"} <= set(result.as_dict()["pending"])
    # Two slots later nothing more has come.
    assert failed(check(watched, at(DAY, "12:35"))) == ["slots"]


def test_open_interest_is_pending_until_it_is_due(watched: WatchedLake) -> None:
    record(watched)
    finish(watched)
    watched.metrics(DAY, **{**dict.fromkeys(thresholds(), True), "oi_filled": None})
    result = check(watched, at(DAY, "19:00"))
    assert result.passed
    assert result.as_dict()["pending"] == ["oi_filled"]


@pytest.mark.parametrize("day", [date(2026, 11, 21), date(2026, 11, 26), date(2026, 11, 24)])
def test_a_day_without_a_session_or_in_the_future_is_wrong_usage(watched: WatchedLake, day: date) -> None:
    with pytest.raises(UsageError):
        selfcheck(watched.settings, watched.lake, day, NEXT_MORNING + timedelta(hours=1))
