"""The file of interest rates: what it says, which lines cannot be right, and the curve of a date.

Rates are continuously compounded, ACT/365, and fractions: 0.0441 is 4.41 % a year. Options are discounted by them,
except where European options say their own discount (`option_pricing.forwards`).
"""

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from ingest.corporate_actions import DATE
from ingest.csv_files import WrongLine, read_lines
from ingest.errors import UsageError
from option_pricing.black_scholes import Floats
from option_pricing.rates import rate_at

COLUMNS = ("date", "tenor_days", "rate", "source")
SETTING = "reference.rates"
# A curve that is older than this for the date asked is stale: the forward's carry takes the difference upon itself.
FRESH_DAYS = 30
LONGEST_TENOR = 11_000
# Fed funds have been between 0 and 0.22 since 1954. Beyond these somebody has written percent.
LOWEST, HIGHEST = -0.05, 0.30
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class RateCurve:
    """The rates of a date: `tenor_days` rising, and the continuous `rate` of each, a year."""

    day: date
    tenor_days: tuple[float, ...]
    rate: tuple[float, ...]

    def rate_at(self, days: Floats) -> Floats:
        """The rate for each time to expiry, in days."""
        return rate_at(days, np.array(self.tenor_days), np.array(self.rate))

    def stale(self, asked: date) -> bool:
        """Whether the curve is more than 30 days older than the date that is `asked`."""
        return (asked - self.day).days > FRESH_DAYS


def read_rates(file: Path) -> list[RateCurve]:
    """The curve of each date of the file, in the order of time.

    Raises UsageError when it cannot be read or holds no rate, and WrongLine for the first line that cannot be right.
    """
    found: dict[date, dict[int, float]] = {}
    for line, fields in read_lines(file, COLUMNS, SETTING):
        try:
            day, tenor, rate = _parse(fields)
        except ValueError as error:
            raise WrongLine(file, line, str(error)) from None
        if found.setdefault(day, {}).setdefault(tenor, rate) != rate:
            raise WrongLine(file, line, f"another line has another rate for {tenor} days on {day}: remove one of them")
    if not found:
        raise UsageError(f"{file} has no rates: add lines, or set {SETTING}")
    return [_curve(day, found[day]) for day in sorted(found)]


def curve_of(curves: Sequence[RateCurve], day: date) -> RateCurve:
    """The latest curve up to `day`; `RateCurve.stale` tells whether it is still good. Raises UsageError without one."""
    place = bisect_right(curves, day, key=lambda curve: curve.day)
    if place == 0:
        raise UsageError(f"no rate is known up to {day}: the file that {SETTING} names begins on {curves[0].day}")
    return curves[place - 1]


def _curve(day: date, rates: Mapping[int, float]) -> RateCurve:
    tenors = sorted(rates)
    return RateCurve(day, tuple(float(tenor) for tenor in tenors), tuple(rates[tenor] for tenor in tenors))


def _parse(fields: Mapping[str, str]) -> tuple[date, int, float]:
    return _date(fields["date"]), _tenor(fields["tenor_days"]), _rate(fields["rate"])


def _date(text: str) -> date:
    try:
        if DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise ValueError(f"date {text!r} is no date like 2021-04-26")


def _tenor(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or not 0 < int(text) <= LONGEST_TENOR:
        raise ValueError(f"tenor_days {text!r} is no whole number of days from 1 to {LONGEST_TENOR}")
    return int(text)


def _rate(text: str) -> float:
    rate = float(text) if NUMBER.fullmatch(text) else math.nan
    if not LOWEST <= rate <= HIGHEST:
        raise ValueError(f"rate {text!r} is not between {LOWEST} and {HIGHEST}: 4.41 % is written 0.0441")
    return rate
