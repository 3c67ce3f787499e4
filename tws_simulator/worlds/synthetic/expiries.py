"""Which expiries are listed on a date. Pure.

| kind | expires on | listed before its last trading day |
|---|---|---|
| weekly | its weekday; a Friday that is a holiday: the Thursday before | 6 weeks |
| monthly | the third Friday, or the Thursday before a holiday; where a class has them, other month ends | 10 weeks; in the symbol's quarterly cycle 9 months |
| quarterly | the last session of March, June, September, December | a year |
| leaps | as monthly, in January | two and a half years |

The last trading day is the expiry, or the session before it where a class is settled at the open of the expiry.
"""  # noqa: E501 - a table

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Literal

from ingest.calendar.sessions import previous_session, session_on
from tws_simulator.worlds.instruments import SATURDAY_EXPIRIES_UNTIL, last_trade_date_of

Kind = Literal["weekly", "monthly", "quarterly", "leaps"]
KINDS: frozenset[Kind] = frozenset({"weekly", "monthly", "quarterly", "leaps"})

MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = range(5)
# Cboe listed the first weekly options on single stocks in June 2010.
_FIRST_WEEKLY = date(2010, 6, 1)
_LISTED_DAYS: dict[Kind, int] = {"weekly": 43, "monthly": 70, "quarterly": 365, "leaps": 910}
_CYCLE_DAYS = 275


@dataclass(frozen=True, slots=True)
class Calendar:
    """Which expiries a trading class has.

    ``weekdays``: of its weekly options, each with the first expiry. ``month_ends``: the last session of every month and
    not only of a quarter. ``morning``: settled at the open of the expiry.
    """

    kinds: frozenset[Kind] = KINDS
    weekdays: tuple[tuple[int, date], ...] = ((FRIDAY, _FIRST_WEEKLY),)
    month_ends: bool = False
    morning: bool = False


EQUITY = Calendar()


@dataclass(frozen=True, slots=True)
class Expiry:
    """One expiry: ``expiry`` as OCC names it, ``last_trade_date`` the last session, ``listed_on`` the first day."""

    kind: Kind
    expiry: date
    last_trade_date: date
    listed_on: date


@lru_cache(maxsize=256)
def expiries_on(day: date, cycle: int, calendar: Calendar = EQUITY) -> tuple[Expiry, ...]:
    """The expiries listed on `day` for a symbol of quarterly `cycle` 0, 1 or 2 (month number modulo 3), by date."""
    # a Friday that is a holiday on the first of a month has its weekly in the month before, where it may be another
    months = (_month(day, ahead) for ahead in reversed(range(32)))
    found = {one.expiry: one for year, month in months for one in _expiries_in(year, month, cycle, calendar)}
    return tuple(sorted((e for e in found.values() if e.listed_on <= day <= e.last_trade_date), key=lambda e: e.expiry))


def third_friday(year: int, month: int) -> date:
    """The third Friday of a month."""
    first = date(year, month, 1)
    return first + timedelta(days=(FRIDAY - first.weekday()) % 7 + 14)


@lru_cache(maxsize=4096)
def _expiries_in(year: int, month: int, cycle: int, calendar: Calendar) -> tuple[Expiry, ...]:
    third = third_friday(year, month)
    session = _session_before(third)
    kind: Kind = "leaps" if month == 1 and "leaps" in calendar.kinds else "monthly"
    days = _CYCLE_DAYS if kind == "monthly" and month % 3 == cycle else _LISTED_DAYS[kind]
    named = third + timedelta(days=1) if third <= SATURDAY_EXPIRIES_UNTIL else session
    last_trade = previous_session(session).trade_date if calendar.morning else session
    found = [_expiry(kind, named, last_trade, days)]
    taken = {session}
    month_end = _session_before(_month_end(year, month))
    if "quarterly" in calendar.kinds and (month % 3 == 0 or calendar.month_ends) and month_end not in taken:
        kind = "quarterly" if month % 3 == 0 else "monthly"
        found.append(_expiry(kind, month_end, month_end, _LISTED_DAYS[kind]))
        taken.add(month_end)
    if "weekly" in calendar.kinds:
        for weekday, since in calendar.weekdays:
            weekly = [one for one in _weekdays(year, month, weekday) if one >= since and one not in taken]
            found += [_expiry("weekly", one, one, _LISTED_DAYS["weekly"]) for one in weekly]
            taken.update(weekly)
    return tuple(found)


def _weekdays(year: int, month: int, weekday: int) -> list[date]:
    """The sessions of a weekday; the Thursday before a Friday that is a holiday, except the third Friday's."""
    day = date(year, month, 1) + timedelta(days=(weekday - date(year, month, 1).weekday()) % 7)
    found = []
    while day.month == month:
        if weekday != FRIDAY and session_on(day) is not None:
            found.append(day)
        if weekday == FRIDAY and day != third_friday(year, month):
            found.append(_session_before(day))
        day += timedelta(days=7)
    return found


def _expiry(kind: Kind, named: date, last_trade: date, days: int) -> Expiry:
    return Expiry(kind, named, last_trade, last_trade - timedelta(days=days))


def _session_before(day: date) -> date:
    return last_trade_date_of(day, lambda one: session_on(one) is not None)


def _month(day: date, ahead: int) -> tuple[int, int]:
    months = day.year * 12 + day.month - 1 + ahead
    return months // 12, months % 12 + 1


def _month_end(year: int, month: int) -> date:
    following, first = _month(date(year, month, 1), 1)
    return date(following, first, 1) - timedelta(days=1)
