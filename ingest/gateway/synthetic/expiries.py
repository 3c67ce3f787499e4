"""Which expiries are listed on a date. Pure.

| kind | last trading day | listed before it |
|---|---|---|
| weekly (from June 2010) | Friday, or the Thursday before a holiday | 6 weeks |
| monthly | the third Friday, or the Thursday before a holiday | 10 weeks; in the symbol's quarterly cycle 9 months |
| quarterly | the last session of March, June, September, December | a year |
| leaps | as monthly, in January | two and a half years |
"""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Literal

from ingest.gateway.instruments import SATURDAY_EXPIRIES_UNTIL, last_trade_date_of
from ingest.sessions import session_on

Kind = Literal["weekly", "monthly", "quarterly", "leaps"]

# Cboe listed the first weekly options on single stocks in June 2010.
_FIRST_WEEKLY = date(2010, 6, 1)
_LISTED_DAYS: dict[Kind, int] = {"weekly": 43, "monthly": 70, "quarterly": 365, "leaps": 910}
_CYCLE_DAYS = 275
_FRIDAY = 4


@dataclass(frozen=True, slots=True)
class Expiry:
    """One expiry: ``expiry`` as OCC names it, ``last_trade_date`` the last session, ``listed_on`` the first day."""

    kind: Kind
    expiry: date
    last_trade_date: date
    listed_on: date


@lru_cache(maxsize=256)
def expiries_on(day: date, cycle: int) -> tuple[Expiry, ...]:
    """The expiries listed on `day` for a symbol of quarterly `cycle` 0, 1 or 2 (month number modulo 3), by date."""
    months = (_month(day, ahead) for ahead in range(32))
    found = {one.expiry: one for year, month in months for one in _expiries_in(year, month, cycle)}
    return tuple(sorted((e for e in found.values() if e.listed_on <= day <= e.last_trade_date), key=lambda e: e.expiry))


def third_friday(year: int, month: int) -> date:
    """The third Friday of a month."""
    first = date(year, month, 1)
    return first + timedelta(days=(_FRIDAY - first.weekday()) % 7 + 14)


@lru_cache(maxsize=4096)
def _expiries_in(year: int, month: int, cycle: int) -> tuple[Expiry, ...]:
    third = third_friday(year, month)
    last_trade = _session_before(third)
    kind: Kind = "leaps" if month == 1 else "monthly"
    days = _CYCLE_DAYS if kind == "monthly" and month % 3 == cycle else _LISTED_DAYS[kind]
    named = third + timedelta(days=1) if third <= SATURDAY_EXPIRIES_UNTIL else last_trade
    found = [_expiry(kind, named, last_trade, days)]
    taken = {last_trade}
    if month % 3 == 0:
        quarter_end = _session_before(_month_end(year, month))
        if quarter_end not in taken:
            found.append(_expiry("quarterly", quarter_end, quarter_end, _LISTED_DAYS["quarterly"]))
            taken.add(quarter_end)
    friday = date(year, month, 1) + timedelta(days=(_FRIDAY - date(year, month, 1).weekday()) % 7)
    while friday.month == month:
        last = _session_before(friday)
        if last not in taken and friday != third and last >= _FIRST_WEEKLY:
            found.append(_expiry("weekly", last, last, _LISTED_DAYS["weekly"]))
        friday += timedelta(days=7)
    return tuple(found)


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
