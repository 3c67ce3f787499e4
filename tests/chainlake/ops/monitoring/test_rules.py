"""The rules of a look, one by one, over facts that are written down here: no lake, no clock."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from chainlake.ops.incidents.causes import FlowTrouble, OpenIncident
from chainlake.ops.monitoring.errorlog import LogLine
from chainlake.ops.monitoring.facts import ErrorGroup, Facts
from chainlake.ops.monitoring.watchdog import Look, judge
from flows.active_steps import step_key
from flows.reports.slot_facts import SlotFacts
from ingest.calendar.sessions import sessions_between
from ingest.settings import load
from lake.maintenance.disk import DiskUsage
from tests.chainlake.ops.monitoring.conftest import DAY, at, run_row, session

THURSDAY = date(2026, 11, 19)
EARLY_CLOSE = date(2026, 11, 27)
OLD = datetime(2020, 1, 1, tzinfo=UTC)


def facts(now: datetime, *runs: dict[str, Any], first: date = DAY, **more: Any) -> Facts:
    """Facts of the sessions since `first`, in a lake that was made on the day itself unless `more` says otherwise."""
    filled = [{"pacing_errors": 0, "delayed": 0, "slot_30m": None, "message": None} | run for run in runs]
    given = {"created_at": at(first, "04:30"), "sessions": tuple(sessions_between(first, now.date()))} | more
    return Facts(now, load(None), runs=tuple(filled), **given)


def whole_day(day: date, without: tuple[int, ...] = (), **columns: Any) -> list[dict[str, Any]]:
    """Runs of a day on which everything was done."""
    slots = [slot for slot in session(day).slots if slot.slot_30m not in without]
    return [
        run_row("prewarm", at(day, "05:00")),
        run_row("discover", at(day, "09:25")),
        *(run_row("snapshot", slot.sample_time, slot_30m=slot.slot_30m, **columns) for slot in slots),
        run_row("close-snapshot", at(day, "17:00")),
        run_row("enrichment", at(day, "17:00") + timedelta(hours=11), day=day),
    ]


def opened(cause: str, day: date, detail: str = "") -> OpenIncident:
    """An incident that has been open since the day's noon."""
    return OpenIncident("019a", cause, day, "severe", detail, at(day, "12:00"))


def found(result: Look, cause: str) -> list[date]:
    """The dates for which a look found a cause."""
    return [breach.trade_date for breach in result.breaches if breach.cause == cause]


def detail(result: Look, cause: str) -> str:
    """What a look says of a cause that it found once."""
    (only,) = [breach.detail for breach in result.breaches if breach.cause == cause]
    return only


# -- slots -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("clock", "late"), [("11:04", False), ("11:05", True), ("11:29", True), ("11:30", False)])
def test_a_slot_is_late_five_minutes_after_its_time_until_its_window_is_over(clock: str, late: bool) -> None:
    result = judge(facts(at(DAY, clock), *whole_day(DAY, without=tuple(range(3, 14)))))
    assert found(result, "slot_late") == ([DAY] if late else [])


@pytest.mark.parametrize(("clock", "missed"), [("11:30", False), ("11:31", True), ("23:00", True)])
def test_a_slot_is_missed_once_its_window_is_over_and_stays_so(clock: str, missed: bool) -> None:
    runs = whole_day(DAY, without=(3,))
    result = judge(facts(at(DAY, clock), *runs))
    assert found(result, "slot_missed") == ([DAY] if missed else [])
    if missed:
        assert "11:00" in detail(result, "slot_missed")


def test_a_missed_slot_is_still_missed_the_next_week() -> None:
    result = judge(facts(at(date(2026, 11, 24), "08:00"), *whole_day(DAY, without=(3,))))
    assert DAY in found(result, "slot_missed")


def test_a_slot_that_is_being_captured_is_not_late() -> None:
    runs = whole_day(DAY, without=tuple(range(3, 14)))
    at_work = frozenset({step_key("snapshot", DAY, 3)})
    assert not found(judge(facts(at(DAY, "11:20"), *runs, active_steps=at_work)), "slot_late")


def test_a_run_that_captured_nothing_leaves_its_slot_missed() -> None:
    runs = [*whole_day(DAY, without=(3,)), run_row("snapshot", at(DAY, "11:00"), slot_30m=3, captured=0)]
    assert found(judge(facts(at(DAY, "12:00"), *runs)), "slot_missed") == [DAY]


def test_rows_of_a_capture_that_was_killed_before_its_record_count() -> None:
    runs = whole_day(DAY, without=(3,))
    assert not found(judge(facts(at(DAY, "12:00"), *runs, in_raw={DAY: frozenset({3})})), "slot_missed")


def test_a_lake_owes_nothing_from_before_it_was_made() -> None:
    runs = whole_day(DAY, without=tuple(range(6)))
    made = facts(at(DAY, "13:05"), *runs, created_at=at(DAY, "12:10"))
    assert not found(judge(made), "slot_missed")
    assert not found(judge(made), "flow_late:discover")


def test_an_early_close_has_eight_slots_and_no_more_are_missed() -> None:
    result = judge(facts(at(EARLY_CLOSE, "20:00"), *whole_day(EARLY_CLOSE), first=EARLY_CLOSE))
    assert not found(result, "slot_missed")
    missed = judge(facts(at(EARLY_CLOSE, "16:00"), first=EARLY_CLOSE))
    assert "all 8 slots" in detail(missed, "slot_missed")


# -- steps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clock", "late"),
    [
        ("05:04", []),
        ("05:05", ["prewarm"]),
        ("09:24", ["prewarm"]),
        ("09:29", []),
        ("09:30", ["discover"]),
        ("15:59", ["discover"]),
        ("16:00", []),
        ("17:04", []),
        ("17:05", ["close-snapshot"]),
        ("23:44", ["close-snapshot"]),
        ("23:45", []),
    ],
)
def test_steps_are_late_while_they_can_still_be_done(clock: str, late: list[str]) -> None:
    result = judge(facts(at(DAY, clock)))
    named = [breach.cause.partition(":")[2] for breach in result.breaches if breach.cause.startswith("flow_late:")]
    assert named == late


@pytest.mark.parametrize(
    ("clock", "run", "late"),
    [
        ("04:04", None, False),
        ("04:05", None, True),
        ("07:00", ("04:00", "partial"), False),
        ("07:36", ("04:00", "partial"), True),
        ("07:36", ("04:00", "ok"), False),
        ("12:00", ("09:00", "partial"), False),
    ],
)
def test_open_interest_is_late_unless_it_is_done_or_was_tried_again(
    clock: str, run: tuple[str, str] | None, late: bool
) -> None:
    runs = [each for each in whole_day(THURSDAY) if each["step"] != "enrichment"]
    if run:
        runs.append(run_row("enrichment", at(DAY, run[0]), day=THURSDAY, status=run[1]))
    result = judge(facts(at(DAY, clock), *runs, first=THURSDAY))
    assert found(result, "flow_late:enrichment") == ([THURSDAY] if late else [])


def test_a_step_that_was_late_long_ago_is_not_open_for_ever() -> None:
    long_ago = opened("flow_late:discover", date(2026, 11, 12), "due 09:25 New York, and nothing of it is recorded")
    assert long_ago.key in judge(facts(at(DAY, "10:00"), open=(long_ago,))).examined


def test_maintenance_is_late_on_a_sunday() -> None:
    sunday = date(2026, 11, 22)
    done = run_row("compact", at(sunday, "10:02"))
    assert not found(judge(facts(at(sunday, "10:04"))), "flow_late:maintain")
    assert found(judge(facts(at(sunday, "10:05"))), "flow_late:maintain") == [sunday]
    assert not found(judge(facts(at(sunday, "10:05"), done)), "flow_late:maintain")


def test_a_day_without_its_close_view_is_over_when_a_later_one_has_it() -> None:
    thursday = [run for run in whole_day(THURSDAY) if run["step"] != "close-snapshot"]
    published = frozenset({THURSDAY})
    without = facts(at(DAY, "08:00"), *thursday, first=THURSDAY, published=published)
    assert found(judge(without), "close_missed") == [THURSDAY]
    later = facts(at(DAY, "18:00"), *thursday, *whole_day(DAY), first=THURSDAY, published=published)
    assert not found(judge(later), "close_missed")
    assert ("close_missed", THURSDAY) in judge(later).examined


def test_a_recorded_session_has_to_be_published_by_the_close_deadline() -> None:
    assert not found(judge(facts(at(DAY, "23:44"), *whole_day(DAY))), "not_published")
    assert found(judge(facts(at(DAY, "23:45"), *whole_day(DAY))), "not_published") == [DAY]
    assert not found(judge(facts(at(DAY, "23:45"), *whole_day(DAY), published=frozenset({DAY}))), "not_published")


# -- numbers -----------------------------------------------------------------------------------------------------------


def slot_facts(frozen: int, covered: int) -> SlotFacts:
    """A slot of two underlyings, of which MSFT is whole."""
    given = SlotFacts()
    given.frozen.update({"AAPL": frozen, "MSFT": 10})
    given.covered.update({"AAPL": covered, "MSFT": 10})
    return given


@pytest.mark.parametrize(("covered", "low"), [(9, False), (8, True), (0, True)])
def test_coverage_so_far_is_that_of_the_worst_underlying_over_the_slots_that_are_over(covered: int, low: bool) -> None:
    slots = {0: slot_facts(10, covered), 1: slot_facts(10, 9)}
    result = judge(facts(at(DAY, "10:31"), *whole_day(DAY), slots=slots))
    assert found(result, "slot_coverage") == ([DAY] if low else [])
    if low:
        assert "AAPL" in detail(result, "slot_coverage")


@pytest.mark.parametrize(("delayed", "breached"), [(2, False), (3, True)])
def test_the_delayed_share_so_far_has_to_stay_below_a_tenth(delayed: int, breached: bool) -> None:
    # 2 of 24 are 8.3 %, 3 are 12.5 %.
    result = judge(facts(at(DAY, "16:00"), *whole_day(DAY, delayed=delayed)))
    assert found(result, "delayed") == ([DAY] if breached else [])


def metric(day: date, step_key: str, passed: bool, pending: bool = False) -> dict[str, Any]:
    """A stored metric."""
    return {"trade_date": day, "metric": step_key, "value": 0.5, "threshold": 1, "passed": passed, "pending": pending}


def test_a_stored_metric_takes_the_place_of_the_day_so_far() -> None:
    runs, slots = whole_day(DAY), {0: slot_facts(10, 0)}
    stored = facts(at(DAY, "18:00"), *runs, slots=slots, metrics=(metric(DAY, "slot_coverage", True),))
    assert not found(judge(stored), "slot_coverage")
    early = facts(at(DAY, "18:00"), *runs, slots=slots, metrics=(metric(DAY, "slot_coverage", False, True),))
    assert found(judge(early), "slot_coverage") == [DAY]


def test_what_is_pending_is_neither_found_nor_called_well() -> None:
    result = judge(facts(at(DAY, "18:00"), metrics=(metric(DAY, "oi_filled", False, True),)))
    assert ("oi_filled", DAY) not in result.examined


def test_a_warning_is_over_when_a_later_session_passes_and_an_error_is_not() -> None:
    rows = (
        metric(THURSDAY, "stale_quote", False),
        metric(THURSDAY, "fallback", False),
        metric(DAY, "stale_quote", True),
        metric(DAY, "fallback", True),
    )
    result = judge(facts(at(DAY, "18:00"), first=THURSDAY, metrics=rows))
    assert found(result, "stale_quote") == []
    assert ("stale_quote", THURSDAY) in result.examined
    assert found(result, "fallback") == [THURSDAY]


# -- conditions --------------------------------------------------------------------------------------------------------


def error(kind: str, clock: str, code: int | None = None, message: str = "no") -> ErrorGroup:
    """Errors of the day."""
    return ErrorGroup(DAY, kind, code, 7, at(DAY, clock), message)


@pytest.mark.parametrize(
    ("cause", "one"),
    [
        ("competing_session", error("ib_error", "10:01", 10197)),
        ("competing_session", error("broker_outage", "10:01", 10197, "competing_session out of reach for 9.0 s")),
        ("no_permission", error("ib_error", "10:01", 354)),
        ("no_permission", error("delayed_fallback", "10:01")),
    ],
)
def test_what_errors_tell_of_is_over_when_a_later_run_captures(cause: str, one: ErrorGroup) -> None:
    during = run_row("snapshot", at(DAY, "10:00"), slot_30m=1)
    after = run_row("snapshot", at(DAY, "10:30"), slot_30m=2)
    assert found(judge(facts(at(DAY, "10:40"), during, errors=(one,))), cause) == [DAY]
    assert found(judge(facts(at(DAY, "10:40"), during, after | {"captured": 0}, errors=(one,))), cause) == [DAY]
    result = judge(facts(at(DAY, "10:40"), during, after, errors=(one,)))
    assert found(result, cause) == []
    assert (cause, DAY) in result.examined


def test_delayed_data_do_not_show_that_there_is_permission_again() -> None:
    after = run_row("snapshot", at(DAY, "10:30"), slot_30m=2, delayed=24)
    result = judge(facts(at(DAY, "10:40"), after, errors=(error("delayed_fallback", "10:01"),)))
    assert found(result, "no_permission") == [DAY]


def test_a_condition_that_lasts_stays_the_incident_of_the_day_it_began_on() -> None:
    full = (DiskUsage("lake", 95, 5),)
    begun = (opened("disk_full", THURSDAY),)
    assert found(judge(facts(at(DAY, "10:00"), disks=full, open=begun)), "disk_full") == [THURSDAY]
    result = judge(facts(at(DAY, "10:00"), disks=(DiskUsage("lake", 5, 95),), open=begun))
    assert found(result, "disk_full") == []
    assert ("disk_full", THURSDAY) in result.examined


def test_a_gateway_that_nobody_asked_is_not_called_well() -> None:
    open_one = (opened("gateway_unreachable", DAY),)
    unknown = judge(facts(at(DAY, "12:10"), open=open_one))
    assert ("gateway_unreachable", DAY) not in unknown.examined
    answered = judge(facts(at(DAY, "12:10"), open=open_one), clock_skew_s=0.1)
    assert ("gateway_unreachable", DAY) in answered.examined
    captured = judge(facts(at(DAY, "12:40"), run_row("snapshot", at(DAY, "12:30"), slot_30m=6), open=open_one))
    assert ("gateway_unreachable", DAY) in captured.examined


def test_a_gateway_that_one_step_could_not_reach_is_told_of_until_something_is_captured() -> None:
    lost = (error("gateway_unreachable", "10:00"),)
    assert found(judge(facts(at(DAY, "10:10"), errors=lost)), "gateway_unreachable") == [DAY]
    later = run_row("snapshot", at(DAY, "10:00"), slot_30m=1)
    assert not found(judge(facts(at(DAY, "10:10"), later, errors=lost)), "gateway_unreachable")


@pytest.mark.parametrize(("skew", "breached"), [(None, False), (1.9, False), (2.1, True), (-2.1, True)])
def test_clocks_may_differ_by_two_seconds(skew: float | None, breached: bool) -> None:
    result = judge(facts(at(DAY, "10:00")), clock_skew_s=skew)
    assert found(result, "clock_skew") == ([DAY] if breached else [])
    assert (("clock_skew", DAY) in result.examined) == (skew is not None)


def test_maintenance_is_well_again_when_the_same_step_ends_well() -> None:
    refused = run_row("compact", at(THURSDAY, "10:00"), status="refused", message="busy")
    other = run_row("vacuum", at(DAY, "09:00"))
    done = run_row("compact", at(DAY, "10:00"))
    assert found(judge(facts(at(DAY, "11:00"), refused, other)), "maintenance_refused") == [THURSDAY]
    assert not found(judge(facts(at(DAY, "11:00"), refused, other, done)), "maintenance_refused")


def test_an_error_with_its_traceback_is_unhandled_and_a_word_is_told_of_by_itself() -> None:
    lines = (
        LogLine(at(DAY, "09:40"), "error", "oops", '{"exception": "Traceback"}', True),
        LogLine(at(DAY, "09:50"), "warning", "disk", "No Space Left on device", False),
        LogLine(at(DAY, "09:55"), "error", "expected", "a run has failed", False),
    )
    result = judge(facts(at(DAY, "10:00"), log=lines))
    assert "1 lines" in detail(result, "unhandled_error")
    assert "no space left" in detail(result, "log_keyword")


def test_flows_are_well_only_when_prefect_was_asked() -> None:
    failed, late = opened("flow_failed:snapshot", DAY), opened("flow_late:close-snapshot", DAY, "nobody started it")
    timetable = opened("flow_late:enrichment", THURSDAY, "due 04:00 New York, and nothing of it is recorded")
    recorded = [run for run in whole_day(THURSDAY) if run["step"] != "enrichment"]
    given = facts(at(DAY, "10:00"), *recorded, first=THURSDAY, open=(failed, late, timetable))
    assert not {key for key, _ in judge(given).examined} & {"flow_failed:snapshot"}
    asked = judge(given, flows=[])
    assert {failed.key, late.key} <= asked.examined
    assert found(asked, "flow_late:enrichment") == [THURSDAY], "Prefect's word is not the timetable's"
    still = judge(given, flows=[FlowTrouble("snapshot", "failed", "again", DAY)])
    assert found(still, "flow_failed:snapshot") == [DAY]


def test_an_incident_of_a_step_that_has_another_name_since_is_over() -> None:
    former = opened("flow_late:enrich", DAY, "due 04:00 New York, and nothing of it is recorded")
    result = judge(facts(at(DAY, "10:00"), open=(former,)))
    assert former.key in result.examined
    assert found(result, "flow_late:enrich") == []


def test_every_breach_says_what_to_do_next() -> None:
    everything = facts(
        at(DAY, "18:00"),
        run_row("compact", at(DAY, "10:00"), status="refused"),
        errors=(error("discovery_stale", "09:26"),),
        disks=(DiskUsage("lake", 95, 5),),
    )
    result = judge(replace(everything, created_at=OLD), clock_skew_s=9)
    assert len(result.breaches) > 5
    assert all("; next: " in breach.detail for breach in result.breaches)
