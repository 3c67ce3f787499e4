"""Prices and volatility of the underlyings over all dates from 2000 to 2035.

Nothing is stored: each symbol's daily levels are drawn once from a generator seeded by (seed, symbol), each session's
minutes from one seeded by (seed, symbol, date). The same question gives the same answer in every process.

Days are numbered by weekday since 2000-01-03. Holidays have a number too, and nobody sees their price: what happened
on them is part of the next opening gap.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property, lru_cache
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from ingest.calendar.sessions import Session
from tws_simulator.worlds.instruments import UnderlyingSpec, word

Floats = npt.NDArray[np.float64]

_FIRST = date(2000, 1, 3)
_FIRST_NUMBER = _FIRST.toordinal()
_DAYS = int(np.busday_count(_FIRST, date(2036, 1, 1)))
SESSIONS_PER_YEAR = 252
# Log prices return to their level with a half-life of a year, so a price stays plausible over decades; log volatility
# in 40 sessions.
_PRICE_MEMORY = 0.5 ** (1 / 252)
_VOL_MEMORY = 0.5 ** (1 / 40)
_VOL_OF_LOG_VOL = 0.25
_MARKET_VOL = 0.14
_OVERNIGHT_SHARE = 0.3
_LEVERAGE = -0.6
_LONG_RUN_YEARS = 0.35
_INDEX_LIQUIDITY = 4.0


def day_number(day: date) -> int:
    """Weekday number of `day`; a weekend counts as the Friday before it."""
    weeks, weekday = divmod(day.toordinal() - _FIRST_NUMBER, 7)
    return weeks * 5 + min(weekday, 4)


@dataclass(frozen=True, slots=True, eq=False)
class Shocks:
    """One source of risk, by day number: log returns that add up to unit daily variance, and log-volatility shocks."""

    overnight: Floats
    intraday: Floats
    vol: Floats


def _draw_shocks(*parts: object) -> Shocks:
    draws = np.random.default_rng(word(*parts)).standard_normal((3, _DAYS))
    return Shocks(draws[0] * _OVERNIGHT_SHARE**0.5, draws[1] * (1 - _OVERNIGHT_SHARE) ** 0.5, draws[2])


class MarketFactor:
    """What all underlyings share."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.shocks = _draw_shocks(seed, "market")

    def minutes(self, day: int, count: int) -> Floats:
        """The market's path within one session, a bridge from 0 to 0 of unit variance. Shape (count + 1,)."""
        return _market_bridge(self.seed, day, count)


@lru_cache(maxsize=64)
def _market_bridge(seed: int, day: int, count: int) -> Floats:
    return _bridge(count, seed, "market", day)


def _bridge(count: int, *parts: object) -> Floats:
    steps = np.random.default_rng(word(*parts)).standard_normal(count) / np.sqrt(count)
    walk = np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(walk - walk[-1] * np.linspace(0.0, 1.0, count + 1))


@dataclass(frozen=True, slots=True, eq=False)
class SessionPath:
    """One session's prices: ``log_price`` at each whole minute, shape (minutes + 1,)."""

    opened: float
    minutes: int
    log_price: Floats

    def prices(self, fraction: float | Floats) -> Floats:
        """Dollars at `fraction` of the session, 0 at the open and 1 at the close."""
        return np.asarray(
            np.exp(np.interp(np.asarray(fraction) * self.minutes, np.arange(self.minutes + 1), self.log_price))
        )


class Terms(NamedTuple):
    """From the day numbered ``first`` on, a price is ``factor * price + shift`` of the price in final terms."""

    first: int
    factor: float
    shift: float


FINAL_TERMS = Terms(-1, 1.0, 0.0)


class UnderlyingPath:
    """Price and volatility of one underlying.

    Every price is in the terms of its own day, as it would have stood on a screen; `terms` say which, in the order of
    their days. `in_terms` looks at the same path in the terms of one day throughout.
    """

    def __init__(
        self,
        spec: UnderlyingSpec,
        market: MarketFactor,
        terms: Sequence[Terms] = (FINAL_TERMS,),
        *,
        index_vol: float | None = None,
    ) -> None:
        self.symbol = spec.symbol
        self._market = market
        traits = np.random.default_rng(word(market.seed, "traits", spec.symbol))
        self.level = spec.price if spec.price is not None else float(np.clip(np.exp(traits.normal(4.6, 0.7)), 12, 900))
        self.base_vol = float(np.clip(np.exp(traits.normal(-1.25, 0.3)), 0.15, 0.8))
        self.beta = float(traits.uniform(0.6, 1.4))
        self.skew = float(traits.uniform(-0.55, -0.25))
        self.smile = float(traits.uniform(0.6, 1.1))
        self.liquidity = float(np.exp(traits.normal(0.0, 0.8)))
        self.cycle = int(traits.integers(0, 3))
        if index_vol is not None:
            # an index is little but the market, and its options trade as much as those of the busiest stocks
            self.base_vol, self.beta, self.liquidity = index_vol, 1.0, _INDEX_LIQUIDITY
        market_vol = min(self.beta * _MARKET_VOL, 0.9 * self.base_vol)
        self._weights = (market_vol / self.base_vol, (1 - (market_vol / self.base_vol) ** 2) ** 0.5)
        self._terms = tuple(terms)
        self._sessions: dict[date, SessionPath] = {}
        self._views: dict[tuple[float, float], Self] = {}

    def in_terms(self, factor: float, shift: float) -> Self:
        """The same path with every price as ``factor * price + shift`` of the price in final terms."""
        terms = (Terms(-1, factor, shift),)
        if terms == self._terms:
            return self
        view = self._views.get((factor, shift))
        if view is None:
            _ = self._daily  # drawn once, for all views
            view = self._views[factor, shift] = copy(self)
            view._terms, view._sessions, view._views = terms, {}, {}
            view.level = factor * self.level + shift
        return view

    def in_terms_of(self, day: date) -> Self:
        """The same path with every price in the terms of `day`."""
        terms = self._terms[np.searchsorted([one.first for one in self._terms], day_number(day), side="right") - 1]
        return self.in_terms(terms.factor, terms.shift)

    def _dollars(self, log_price: Floats, numbers: npt.ArrayLike) -> Floats:
        """Prices in the terms of the days numbered `numbers`."""
        prices = np.exp(log_price)
        if self._terms == (FINAL_TERMS,):
            return np.asarray(prices)
        firsts, factors, shifts = np.array(self._terms).T
        rows = np.searchsorted(firsts, numbers, side="right") - 1
        return np.asarray(factors[rows] * prices + shifts[rows])

    @cached_property
    def _daily(self) -> tuple[Floats, Floats, Floats]:
        """(log open, log close, log volatility) by day number."""
        common, own = self._market.shocks, _draw_shocks(self._market.seed, "own", self.symbol)
        shared, alone = self._weights
        scale = self.base_vol / SESSIONS_PER_YEAR**0.5
        overnight = scale * (shared * common.overnight + alone * own.overnight)
        intraday = scale * (shared * common.intraday + alone * own.intraday)
        close = lfilter([1.0], [1.0, -_PRICE_MEMORY], overnight + intraday)
        before = np.concatenate([[0.0], close[:-1]])
        vol_shock = _LEVERAGE * (common.overnight + common.intraday) + (1 - _LEVERAGE**2) ** 0.5 * (
            0.7 * common.vol + 0.714 * own.vol
        )
        vol_scale = _VOL_OF_LOG_VOL * (1 - _VOL_MEMORY**2) ** 0.5
        log_vol = lfilter([1.0], [1.0, -_VOL_MEMORY], vol_scale * vol_shock)
        base = np.log(self.level)
        return base + _PRICE_MEMORY * before + overnight, base + close, np.log(self.base_vol) + log_vol

    def close(self, day: date) -> float:
        """The unrounded price at the end of `day`, dollars."""
        number = day_number(day)
        return float(self._dollars(self._daily[1][number], number))

    def closes(self, first: int, last: int) -> Floats:
        """Prices at the end of the days numbered `first` to `last`, both included, dollars."""
        numbers = np.arange(max(first, 0), last + 1)
        return self._dollars(self._daily[1][numbers], numbers)

    def short_vol(self, day: date, fraction: float = 1.0) -> float:
        """Annualised volatility of the coming days, as it stands at `fraction` of the session of `day`."""
        number = day_number(day)
        before, after = self._daily[2][number - 1], self._daily[2][number]
        return float(np.exp(before + (after - before) * fraction))

    def historical_vol(self, day: date) -> float:
        """Annualised standard deviation of the last 30 daily log returns before `day`."""
        number = day_number(day)
        returns = np.diff(self._daily[1][number - 31 : number])
        return float(returns.std() * SESSIONS_PER_YEAR**0.5)

    def atm_variance(self, short_vol: float | Floats, years: float | Floats) -> Floats:
        """Total variance at the money: the short volatility fades into the symbol's own over about four months."""
        t = np.asarray(years, dtype=np.float64)
        fading = _LONG_RUN_YEARS * (1 - np.exp(-t / _LONG_RUN_YEARS))
        return np.asarray(self.base_vol**2 * t + (short_vol**2 - self.base_vol**2) * fading)

    def session(self, session: Session) -> SessionPath:
        """The path of one session."""
        path = self._sessions.get(session.trade_date)
        if path is None:
            if len(self._sessions) >= 4:
                del self._sessions[next(iter(self._sessions))]
            path = self._sessions[session.trade_date] = self._make_session(session)
        return path

    def _make_session(self, session: Session) -> SessionPath:
        number = day_number(session.trade_date)
        minutes = int((session.close - session.open).total_seconds() // 60)
        log_open, log_close = self._daily[0][number], self._daily[1][number]
        shared, alone = self._weights
        bridge = shared * self._market.minutes(number, minutes) + alone * _bridge(
            minutes, self._market.seed, self.symbol, number
        )
        scale = self.short_vol(session.trade_date) * ((1 - _OVERNIGHT_SHARE) / SESSIONS_PER_YEAR) ** 0.5
        line = log_open + (log_close - log_open) * np.linspace(0.0, 1.0, minutes + 1)
        prices = self._dollars(line + scale * bridge, number)
        return SessionPath(session.open.timestamp(), minutes, np.asarray(np.log(prices)))


def session_fraction(session: Session, instant: datetime) -> float:
    """How much of the session is over at `instant`, to the whole second, within [0, 1]."""
    elapsed = int((instant - session.open).total_seconds())
    return min(max(elapsed / (session.close - session.open).total_seconds(), 0.0), 1.0)
