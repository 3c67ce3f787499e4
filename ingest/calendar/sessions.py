"""Trading sessions and their half-hour slots. Pure: no I/O, no clock.

A *session* is one XNYS trading day, as pandas-market-calendars' ``NYSE`` says: its options calendars miss every early
close on 24 December and trade through 2001-09-11..14. A *slot* is an instant at which the chain is captured. This is
the only place that makes slots; everything else asks it, or joins ``raw/sessions``.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pandas_market_calendars as mcal

NEW_YORK = ZoneInfo("America/New_York")
UTC = ZoneInfo("UTC")
HALF_HOUR = timedelta(minutes=30)
FIRST_SLOT = time(9, 30)


@dataclass(frozen=True, slots=True)
class Slot:
    """One capture instant of a session; ``sample_time`` and ``window_end`` are UTC.

    The window of a slot is half-open, ``[sample_time, window_end)``: nothing is captured under a slot outside it.
    """

    trade_date: date
    slot_30m: int
    sample_time: datetime
    window_end: datetime
    is_close: bool
    is_pre_close: bool

    @property
    def label(self) -> str:
        """The slot on the New York clock, ``HH:MM``."""
        return self.sample_time.astimezone(NEW_YORK).strftime("%H:%M")

    def holds(self, instant: datetime) -> bool:
        """Whether `instant` lies in the slot's window."""
        return self.sample_time <= instant < self.window_end


@dataclass(frozen=True, slots=True)
class Session:
    """One XNYS trading day; `open` and `close` are UTC."""

    trade_date: date
    open: datetime
    close: datetime

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The session's slots in order: 14 on a full day, 8 on a 13:00 close."""
        return make_slots(self)

    @property
    def close_slot(self) -> Slot:
        """The last slot, at the close itself."""
        return self.slots[-1]

    def slot_at(self, instant: datetime) -> Slot | None:
        """The slot whose window holds `instant`, or None outside all windows."""
        return next((slot for slot in self.slots if slot.holds(instant)), None)

    def at(self, clock_time: time) -> datetime:
        """The instant (UTC) at which New York clocks show `clock_time` on this trade date."""
        return new_york(self.trade_date, clock_time)


def new_york(day: date, clock_time: time) -> datetime:
    """The instant (UTC) at which New York clocks show `clock_time` on `day`."""
    return datetime.combine(day, clock_time, NEW_YORK).astimezone(UTC)


def make_slots(session: Session) -> tuple[Slot, ...]:
    """The half-hours of the New York clock from the open while before the close, plus the close itself.

    A late open (09:31 on 2001-10-08) starts at the open and goes on with the half-hours.
    """
    first = new_york(session.trade_date, FIRST_SLOT)
    instants = [max(first, session.open)]
    # A session lies within one New York day that has no DST change in it, so half-hours may be counted in UTC.
    steps = (instants[0] - first) // HALF_HOUR + 1
    while (instant := first + steps * HALF_HOUR) < session.close:
        instants.append(instant)
        steps += 1
    instants.append(session.close)
    ends = [*instants[1:], session.close + HALF_HOUR]
    last = len(instants) - 1
    return tuple(
        Slot(session.trade_date, k, instant, end, is_close=k == last, is_pre_close=k == last - 1)
        for k, (instant, end) in enumerate(zip(instants, ends, strict=True))
    )


@lru_cache(maxsize=64)
def _sessions_of_year(year: int) -> dict[date, Session]:
    schedule = mcal.get_calendar("NYSE").schedule(f"{year}-01-01", f"{year}-12-31")
    return {
        day.date(): Session(day.date(), opened.to_pydatetime().astimezone(UTC), closed.to_pydatetime().astimezone(UTC))
        for day, opened, closed in zip(schedule.index, schedule["market_open"], schedule["market_close"], strict=True)
    }


def session_on(day: date) -> Session | None:
    """The session of `day`, or None when XNYS is closed."""
    return _sessions_of_year(day.year).get(day)


def next_session(day: date) -> Session:
    """The first session after `day`."""
    return _scan(day, timedelta(days=1))


def previous_session(day: date) -> Session:
    """The last session before `day`."""
    return _scan(day, timedelta(days=-1))


def sessions_back(day: date, count: int) -> date:
    """The date of the `count`-th session before `day`; `day` itself for 0."""
    for _ in range(count):
        day = previous_session(day).trade_date
    return day


def sessions_between(first: date, last: date) -> list[Session]:
    """All sessions from `first` to `last`, both included, in order."""
    return [
        session
        for year in range(first.year, last.year + 1)
        for day, session in _sessions_of_year(year).items()
        if first <= day <= last
    ]


def last_completed(instant: datetime) -> Session:
    """The latest session that has closed by `instant` (an aware datetime)."""
    today = instant.astimezone(NEW_YORK).date()
    session = session_on(today)
    return session if session and session.close <= instant else previous_session(today)


def _scan(day: date, step: timedelta) -> Session:
    # XNYS has never been closed longer than four months (1914).
    for _ in range(150):
        day += step
        if session := session_on(day):
            return session
    raise ValueError(f"no XNYS session within 150 days of {day}")
