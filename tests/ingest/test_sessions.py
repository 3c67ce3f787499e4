"""Sessions and slots: against two independent answer files, and as properties of every session from 1990 to 2030."""

import csv
import json
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.calendar.sessions import (
    HALF_HOUR,
    NEW_YORK,
    UTC,
    Session,
    last_completed,
    make_slots,
    new_york,
    next_session,
    previous_session,
    session_on,
    sessions_between,
)
from tests.reference_data import reference_data

GOLDEN = "xnys_sessions_golden.csv"
HOURS = "us_equity_hours.json"

# Sessions on which the golden file and pandas-market-calendars disagree; neither is beyond doubt there.
DISPUTED_OPENS = {
    date(1990, 12, 27),
    date(1991, 1, 17),
    date(1991, 2, 25),
    date(1995, 12, 18),
    date(1996, 1, 8),
    date(2001, 9, 17),
    date(2001, 10, 8),
    date(2002, 9, 11),
    date(2003, 3, 20),
    date(2004, 6, 7),
    date(2006, 12, 27),
}
DISPUTED_CLOSES = {date(1994, 2, 11), date(1996, 1, 8), date(1997, 10, 27), date(1999, 12, 31), date(2005, 6, 1)}
# Early closes that only we have, and one that only the other list has: a Sunday.
OUR_EARLY_CLOSES = {date(1998, 11, 27), date(1998, 12, 24), date(2005, 6, 1)}
THEIR_EARLY_CLOSES = {date(2017, 12, 24)}

FIRST, LAST = date(1990, 1, 1), date(2030, 12, 31)
OPEN, FULL_CLOSE, EARLY_CLOSE = time(9, 30), time(16), time(13)


@lru_cache(maxsize=1)
def all_sessions() -> list[Session]:
    return sessions_between(FIRST, LAST)


def any_session() -> st.SearchStrategy[Session]:
    return st.deferred(lambda: st.sampled_from(all_sessions()))


def clock(instant: datetime) -> time:
    return instant.astimezone(NEW_YORK).time()


def reference(name: str) -> str:
    return reference_data("reference", name).read_text()


# -- answer files ------------------------------------------------------------------------------------------------------


def test_every_session_from_1990_to_2023_is_the_golden_one() -> None:
    _, *rows = csv.reader(reference(GOLDEN).splitlines())
    golden = {
        date.fromisoformat(day[:10]): (datetime.fromisoformat(opened), datetime.fromisoformat(closed))
        for day, opened, closed, *_breaks in rows
    }
    ours = {session.trade_date: session for session in sessions_between(min(golden), max(golden))}
    assert len(golden) > 8_300
    assert ours.keys() == golden.keys()
    assert {day for day, (opened, _) in golden.items() if ours[day].open != opened} == DISPUTED_OPENS
    assert {day for day, (_, closed) in golden.items() if ours[day].close != closed} == DISPUTED_CLOSES


def test_holidays_from_1998_to_2028_are_the_listed_ones() -> None:
    listed = {as_date(text) for text in json.loads(reference(HOURS))["holidays"]}
    ours = {
        day
        for day in (date(1998, 1, 1) + timedelta(days=k) for k in range(31 * 366))
        if day.year <= 2028 and day.weekday() < 5 and session_on(day) is None
    }
    assert ours == {day for day in listed if day.weekday() < 5}
    assert len(ours) == 291


def test_early_closes_from_1998_to_2028_are_the_listed_ones() -> None:
    listed = {as_date(day): time.fromisoformat(at) for day, at in json.loads(reference(HOURS))["early_closes"].items()}
    ours = {
        session.trade_date: clock(session.close)
        for session in sessions_between(date(1998, 1, 1), date(2028, 12, 31))
        if clock(session.close) < FULL_CLOSE
    }
    assert ours.keys() - listed.keys() == OUR_EARLY_CLOSES
    assert listed.keys() - ours.keys() == THEIR_EARLY_CLOSES
    assert {day: ours[day] for day in ours.keys() & listed.keys()} == {
        day: listed[day] for day in ours.keys() & listed.keys()
    }


def as_date(text: str) -> date:
    month, day, year = map(int, text.split("/"))
    return date(year, month, day)


# -- slots -------------------------------------------------------------------------------------------------------------


@given(any_session())
def test_a_normal_day_has_14_slots_and_a_one_o_clock_close_has_8(session: Session) -> None:
    hours = clock(session.open), clock(session.close)
    expected = {(OPEN, FULL_CLOSE): 14, (OPEN, EARLY_CLOSE): 8}
    if hours in expected:
        assert len(session.slots) == expected[hours]
    else:  # the odd session: from the late open, or to the early close
        assert 2 <= len(session.slots) <= 14


@given(any_session())
def test_slots_run_from_the_open_to_the_close_in_strict_order(session: Session) -> None:
    slots = session.slots
    instants = [slot.sample_time for slot in slots]
    assert instants[0] == session.open
    assert instants[-1] == session.close == session.close_slot.sample_time
    assert all(earlier < later for earlier, later in pairwise(instants))
    assert [slot.slot_30m for slot in slots] == list(range(len(slots)))
    assert {slot.trade_date for slot in slots} == {session.trade_date}
    assert [slot.is_close for slot in slots] == [False] * (len(slots) - 1) + [True]
    assert [slot.is_pre_close for slot in slots] == [False] * (len(slots) - 2) + [True, False]


@given(any_session())
def test_slots_between_open_and_close_are_half_hours_of_the_new_york_clock(session: Session) -> None:
    between = [clock(slot.sample_time) for slot in session.slots[1:-1]]
    assert {(at.minute, at.second) for at in between} <= {(0, 0), (30, 0)}
    half_hours = {time(hour, minute) for hour in range(9, 16) for minute in (0, 30)}
    assert between == sorted(at for at in half_hours if clock(session.open) < at < clock(session.close) and at > OPEN)


@given(any_session())
def test_windows_are_half_open_and_tile_the_session(session: Session) -> None:
    slots = session.slots
    for slot, following in pairwise(slots):
        assert slot.window_end == following.sample_time
    assert slots[-1].window_end == session.close + HALF_HOUR
    for slot in slots:
        assert slot.holds(slot.sample_time)
        assert not slot.holds(slot.window_end)
        assert session.slot_at(slot.window_end - timedelta(microseconds=1)) == slot
    assert session.slot_at(session.open - timedelta(microseconds=1)) is None
    assert session.slot_at(slots[-1].window_end) is None


@given(any_session())
def test_every_instant_is_utc_and_labelled_in_new_york(session: Session) -> None:
    for slot in session.slots:
        assert slot.sample_time.tzinfo is UTC
        assert slot.window_end.tzinfo is UTC
        assert slot.label == f"{clock(slot.sample_time):%H:%M}"
    assert session.at(OPEN) == datetime.combine(session.trade_date, OPEN, ZoneInfo("America/New_York"))


@pytest.mark.parametrize(
    ("before", "after", "open_before", "open_after"),
    [
        (date(2026, 3, 6), date(2026, 3, 9), 14, 13),  # clocks go forward on Sunday 2026-03-08
        (date(2026, 10, 30), date(2026, 11, 2), 13, 14),  # and back on Sunday 2026-11-01
        (date(2006, 3, 31), date(2006, 4, 3), 14, 13),  # by the rule before 2007: first Sunday of April
        (date(2006, 10, 27), date(2006, 10, 30), 13, 14),
    ],
)
def test_the_utc_offset_follows_new_york_over_both_clock_changes(
    before: date, after: date, open_before: int, open_after: int
) -> None:
    for day, hour in ((before, open_before), (after, open_after)):
        session = session_on(day)
        assert session is not None
        assert [slot.label for slot in session.slots][:2] == ["09:30", "10:00"]
        assert session.open == datetime.combine(day, time(hour, 30), UTC)
        assert session.close == session.open + timedelta(hours=6, minutes=30)
        assert len(session.slots) == 14


def test_a_late_open_starts_at_the_open_and_goes_on_with_the_half_hours() -> None:
    # 2001-10-08: opened 09:31 after a minute of silence.
    session = session_on(date(2001, 10, 8))
    assert session is not None
    assert [slot.label for slot in session.slots][:3] == ["09:31", "10:00", "10:30"]
    assert len(session.slots) == 14


def test_an_open_on_a_half_hour_makes_no_slot_twice() -> None:
    day = date(2026, 11, 23)
    session = Session(day, new_york(day, time(10)), new_york(day, time(13)))
    labels = " ".join(slot.label for slot in make_slots(session))
    assert labels == "10:00 10:30 11:00 11:30 12:00 12:30 13:00"


def test_a_close_off_the_half_hour_ends_its_own_slot() -> None:
    day = date(2026, 11, 23)
    session = Session(day, new_york(day, OPEN), new_york(day, time(15, 56)))
    labels = [slot.label for slot in make_slots(session)]
    assert labels[-3:] == ["15:00", "15:30", "15:56"]
    assert make_slots(session)[-1].window_end == new_york(day, time(16, 26))


# -- neighbours --------------------------------------------------------------------------------------------------------


@given(st.dates(date(1990, 1, 10), date(2030, 12, 20)))
def test_next_and_previous_session_are_the_nearest_ones(day: date) -> None:
    later, earlier = next_session(day), previous_session(day)
    assert earlier.trade_date < day < later.trade_date
    between = sessions_between(earlier.trade_date, later.trade_date)
    assert [session.trade_date for session in between if session.trade_date != day] == [
        earlier.trade_date,
        later.trade_date,
    ]


@given(any_session())
def test_the_last_completed_session_changes_at_the_close(session: Session) -> None:
    assert last_completed(session.close) == session
    if session.trade_date > FIRST + timedelta(days=10):
        assert last_completed(session.close - timedelta(microseconds=1)) == previous_session(session.trade_date)
        assert last_completed(session.open) == previous_session(session.trade_date)


def test_the_last_completed_session_of_a_weekend_is_the_friday() -> None:
    # 2026-11-22 02:00 UTC is still Saturday evening in New York.
    session = last_completed(datetime(2026, 11, 22, 2, 0, tzinfo=UTC))
    assert session.trade_date == date(2026, 11, 20)


def test_no_session_on_a_holiday_or_a_weekend() -> None:
    assert session_on(date(2026, 11, 26)) is None  # Thanksgiving
    assert session_on(date(2026, 11, 22)) is None  # a Sunday
    assert session_on(date(2001, 9, 12)) is None  # closed 2001-09-11 to 09-14
    assert session_on(date(2012, 10, 30)) is None  # closed 2012-10-29 and 30, Hurricane Sandy
    assert sessions_between(date(2012, 10, 29), date(2012, 10, 30)) == []
