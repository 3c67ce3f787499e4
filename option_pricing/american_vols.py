"""Implied volatilities and greeks of American options, smile by smile. Pure.

The exercise boundary depends on rate, carry, time and volatility, and not on strike or spot when both are measured by
the strike. The options of one right of a smile share all of these but the volatility: the boundaries at a few of them,
Chebyshev nodes in the logarithm, serve a whole side of the smile, and an option's own is read between them. Its price
is then one integral.

Every option here is a put of strike 1 (`american.AsPuts`), `side` the number of its side of a smile.
"""

from dataclasses import dataclass

import numpy as np

from option_pricing import american
from option_pricing.american import FAST, Boundaries, Puts, Scheme
from option_pricing.black_scholes import Floats
from option_pricing.segments import Ints

VOL_NODES = 7
# Rows that are valued together: their arrays fit a processor's cache.
CHUNK = 4096
ROUNDS, SETTLED = 14, 1e-10
# The step of derivatives: by the underlying, in standard deviations; of volatility, as a part of it; of the rate.
STEP, VOL_STEP, RATE_STEP = 0.02, 2e-3, 1e-4
# For the difference that a rate makes, in which most of the error cancels.
COARSE, COARSE_NODES = Scheme(nodes=6, points=10, price_points=16, rounds=4), 5


@dataclass(frozen=True, slots=True)
class Sides:
    """Sides of smiles, one a row: ``rate``, ``carry``, ``years``, and the volatilities between which theirs lie."""

    rate: Floats
    carry: Floats
    years: Floats
    low: Floats
    high: Floats


class Curves:
    """The exercise boundaries of many sides, to be read at any volatility between their bounds."""

    def __init__(self, sides: Sides, scheme: Scheme = FAST, nodes: int = VOL_NODES) -> None:
        self.sides, self._scheme = sides, scheme
        self._nodes = np.cos(np.pi * np.arange(nodes) / (nodes - 1))
        low, high = np.log(sides.low), np.log(sides.high)
        self._centre, self._reach = 0.5 * (high + low), np.maximum(0.5 * (high - low), 1e-6)
        vol = np.exp(self._centre[:, None] + self._reach[:, None] * self._nodes)
        rate, carry, years = (np.repeat(each, nodes) for each in (sides.rate, sides.carry, sides.years))
        found = american.boundaries(Puts(rate, carry, vol.ravel(), years), scheme)
        shape = (sides.rate.size, nodes, -1)
        # The boundary at full time is read as one more point.
        self._values = np.concatenate((found.price_nodes.reshape(shape), found.now.reshape(shape)), axis=2)

    def price(self, side: Ints, log_spot: Floats, vol: Floats) -> Floats:
        """Prices of puts of strike 1."""
        answer = np.empty(side.size)
        for first in range(0, side.size, CHUNK):
            rows = slice(first, min(first + CHUNK, side.size))
            answer[rows] = self._price(side[rows], log_spot[rows], vol[rows])
        return answer

    def _price(self, side: Ints, log_spot: Floats, vol: Floats) -> Floats:
        place = np.clip((np.log(vol) - self._centre[side]) / self._reach[side], -1.0, 1.0)
        share = american.interpolation(self._nodes, place)
        read = np.matmul(share[:, None, :], self._values[side])[:, 0, :]
        sides = self.sides
        puts = Puts(sides.rate[side], sides.carry[side], vol, sides.years[side])
        return american.american_put(log_spot, puts, Boundaries(read[:, -1], read[:, :-1]), self._scheme)


@np.errstate(all="ignore")
def implied(curves: Curves, side: Ints, log_spot: Floats, price: Floats, start: Floats) -> Floats:
    """The volatility that gives each price; NaN where none between the bounds of its side does.

    `start` is the European one, which early exercise leaves too high. Secants, kept inside the bracket that they leave.
    """
    sides = curves.sides
    low, high = sides.low[side], sides.high[side]
    before = np.clip(start, low, high)
    before_off = curves.price(side, log_spot, before) - price
    high = np.where(before_off >= 0, before, high)
    low = np.where(before_off < 0, before, low)
    vol = _inside(before - before_off / european_vega(sides, side, log_spot, before), low, high)
    answer = np.where(np.abs(before_off) <= SETTLED, before, np.nan)
    rows = np.flatnonzero(np.isnan(answer) & np.isfinite(before_off))
    for _ in range(ROUNDS):
        if rows.size == 0:
            break
        now = vol[rows]
        off = curves.price(side[rows], log_spot[rows], now) - price[rows]
        high[rows], low[rows] = np.where(off >= 0, now, high[rows]), np.where(off < 0, now, low[rows])
        slope = (off - before_off[rows]) / (now - before[rows])
        before[rows], before_off[rows] = now, off
        vol[rows] = _inside(now - off / slope, low[rows], high[rows])
        settled = np.abs(off) <= SETTLED
        answer[rows[settled]] = now[settled]
        rows = rows[~settled & np.isfinite(off) & (high[rows] - low[rows] > 1e-9)]
    return answer


def _inside(vol: Floats, low: Floats, high: Floats) -> Floats:
    return np.where((vol > low) & (vol < high), vol, np.sqrt(low * high))


def european_vega(sides: Sides, side: Ints, log_spot: Floats, vol: Floats) -> Floats:
    """What a European put of strike 1 moves by, by volatility."""
    root = np.sqrt(sides.years[side])
    plus = (log_spot + (sides.rate[side] - sides.carry[side]) * sides.years[side]) / (vol * root) + 0.5 * vol * root
    return np.asarray(
        np.exp(log_spot - sides.carry[side] * sides.years[side] - 0.5 * plus**2) * root / np.sqrt(2 * np.pi)
    )


@dataclass(frozen=True, slots=True)
class PutGreeks:
    """Of puts of strike 1.

    ``price``; ``slope`` and ``bend``, first and second derivative by the logarithm of the spot; ``vega``, by the
    volatility.
    """

    price: Floats
    slope: Floats
    bend: Floats
    vega: Floats


@np.errstate(all="ignore")
def greeks(curves: Curves, side: Ints, log_spot: Floats, vol: Floats) -> PutGreeks:
    """Central differences of the price that `implied` inverts."""
    step = STEP * vol * np.sqrt(curves.sides.years[side])
    price = curves.price(side, log_spot, vol)
    up, down = curves.price(side, log_spot + step, vol), curves.price(side, log_spot - step, vol)
    more, less = curves.price(side, log_spot, vol * (1 + VOL_STEP)), curves.price(side, log_spot, vol * (1 - VOL_STEP))
    return PutGreeks(
        price, (up - down) / (2 * step), (up - 2 * price + down) / step**2, (more - less) / (2 * VOL_STEP * vol)
    )


@np.errstate(all="ignore")
def by_rate(sides: Sides, moved: Sides, side: Ints, log_spot: Floats, vol: Floats) -> Floats:
    """What prices move by when `sides` become those whose rate has `moved` by `RATE_STEP`, a unit of it."""
    before, after = (Curves(each, COARSE, COARSE_NODES).price(side, log_spot, vol) for each in (sides, moved))
    return np.asarray((after - before) / RATE_STEP)
