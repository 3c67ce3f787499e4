"""Trading in one series: how much is traded in a session, when, and how much stays open.

Open interest is summed from the day a series is listed, each day's change being a part of that day's volume. So
``|change of open interest| <= volume`` holds by construction, for every contract and session; over the effective date
of a split, in the new contracts.
"""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ingest.calendar.sessions import sessions_between
from tws_simulator.worlds.instruments import mix, word
from tws_simulator.worlds.synthetic.chain import Leg, SyntheticSeries
from tws_simulator.worlds.synthetic.paths import day_number

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

# Trades a day of an at-the-money contract of average liquidity with a month to go.
_BUSIEST = 25.0
_MEAN_TRADE_SIZE = 5.0
# Of a day's volume, the change of open interest is drawn between these shares: more is opened than closed.
_LEAST_OPENED, _MOST_OPENED = -0.6, 1.0
_EVER_TRADED = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """One session of one series, all arrays of shape (2, strikes), calls then puts.

    ``trades``: how many there will be by the close; ``size``: contracts in each; ``hurry``: trades come at fraction
    ``(k / trades) ** hurry`` of the session; ``has_history``: whether it traded before this session.
    """

    trades: Ints
    size: Ints
    hurry: Floats
    has_history: npt.NDArray[np.bool_]


def uniform(words: Words) -> Floats:
    """Numbers in (0, 1), one for each word."""
    return (mix(words) >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54


def contract_words(series: SyntheticSeries, seed: int, purpose: str) -> Words:
    """One word per contract for one purpose, shape (2, strikes)."""
    thousandths = np.round(series.first_strikes * 1000).astype(np.uint64)
    roots = [word(seed, purpose, series.first_class, series.expiry, side) for side in (0, 1)]
    return np.array(roots, dtype=np.uint64)[:, None] ^ mix(thousandths)[None, :]


def activity(series: SyntheticSeries, seed: int, day: date) -> Activity:
    """The trading of the session of `day`."""
    number = np.array([day_number(day)])
    leg = series.legs[-1]
    trades, size = _trades(series, leg, seed, number, leg.path.closes(int(number[0]) - 1, int(number[0]) - 1))
    words = contract_words(series, seed, "hurry")
    return Activity(
        trades[0],
        size[0],
        np.exp(uniform(words ^ mix(number.astype(np.uint64))) - 0.5),
        (uniform(words) < _EVER_TRADED) & (day > series.listed_on),
    )


def open_interest(series: SyntheticSeries, seed: int, day: date) -> Ints:
    """Contracts open after the session of `day`, shape (2, strikes); all 0 before the series is listed.

    In the terms of the series, which must have been in force on `day`.
    """
    total = np.zeros((2, len(series.strikes)), dtype=np.int64)
    days = [one for one in _session_days(series.listed_on.year, day.year) if series.listed_on <= one <= day]
    ends = [leg.first for leg in series.legs[1:]] + [date.max]
    for leg, end in zip(series.legs, ends, strict=True):
        total *= leg.contracts
        inside = [one for one in days if leg.first <= one < end]
        if inside:
            numbers = np.array([day_number(one) for one in inside])
            # reflected at zero (Skorokhod): no step becomes longer than it was drawn
            total = total + np.cumsum(_changes(series, leg, seed, numbers), axis=0)
            total = (total - np.minimum(np.minimum.accumulate(total, axis=0), 0))[-1]
    return total


def _changes(series: SyntheticSeries, leg: Leg, seed: int, numbers: Ints) -> Ints:
    """What the days of one leg would change, were there always something to close. Shape (days, 2, strikes)."""
    closes = leg.path.closes(int(numbers[0]) - 1, int(numbers[-1]) - 1)[numbers - numbers[0]]
    trades, size = _trades(series, leg, seed, numbers, closes)
    lowest = np.minimum.accumulate(closes) * (1 - series.width)
    highest = np.maximum.accumulate(closes) * (1 + series.width)
    listed = leg.carried | ((leg.strikes >= lowest[:, None]) & (leg.strikes <= highest[:, None]))
    words = contract_words(series, seed, "opened")[None] ^ mix(numbers.astype(np.uint64))[:, None, None]
    opened = _LEAST_OPENED + (_MOST_OPENED - _LEAST_OPENED) * uniform(words)
    return np.trunc(trades * size * listed[:, None, :] * opened).astype(np.int64)


def _trades(series: SyntheticSeries, leg: Leg, seed: int, numbers: Ints, closes: Floats) -> tuple[Ints, Ints]:
    """Trades and their size by day and contract, shapes (days, 2, strikes); `closes` are those of the days before."""
    path = leg.path
    days_left = np.maximum(day_number(series.last_trade_date) - numbers, 1)
    spread = path.base_vol * np.sqrt(days_left / 252)
    distance = np.log(leg.strikes[None, :] / closes[:, None]) / (spread[:, None] + 0.04)
    # calls trade above the price, puts below it
    away = np.stack([np.maximum(-distance, 0), np.maximum(distance, 0)], axis=1)
    calm = np.exp(-0.5 * np.minimum(distance, 5.0)[:, None, :] ** 2 - 1.5 * away)
    expected = _BUSIEST * path.liquidity * np.exp(-days_left / 90)[:, None, None] * calm
    words = contract_words(series, seed, "trades")[None] ^ mix(numbers.astype(np.uint64))[:, None, None]
    trades = np.floor(-np.log(uniform(words)) * expected)
    size = 1 + np.floor(-np.log(uniform(words ^ np.uint64(0x5BD1E995))) * _MEAN_TRADE_SIZE)
    return trades.astype(np.int64), size.astype(np.int64)


@lru_cache(maxsize=64)
def _session_days(first_year: int, last_year: int) -> tuple[date, ...]:
    return tuple(one.trade_date for one in sessions_between(date(first_year, 1, 1), date(last_year, 12, 31)))
