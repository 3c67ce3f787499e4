"""Volatility surfaces: a smile for every expiry, what it says at the money, and how far it can be believed. Pure.

A surface is the smiles of one underlying at one instant. Each is an SVI curve through the
out-of-the-money quotes that have a bid, weighted by their bid-ask interval of volatility (`svi_fit`). Deltas are
forward deltas of a call, N(d1), from 0 to 1; a put of delta -0.25 stands at 0.75.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.special import ndtr

from option_pricing.black_scholes import HIGHEST_VOL, Floats
from option_pricing.flags import flag_names
from option_pricing.segments import Bools, Ints, sizes
from option_pricing.svi import STEEPEST_WING, Svi
from option_pricing.svi_fit import Fit, fit
from option_pricing.svi_refine import Points, lower_medians

# What no quote of a market is beyond: ln of strike by forward, and years to expiry (the shortest is half a minute).
FARTHEST, SHORTEST, LONGEST = 5.0, 1e-6, 20.0
# Smiles that are fitted in one go: their matrices fit a processor's cache.
CHUNK = 500
# Volatility. An interval below this is the tick's, not knowledge.
LEAST_HALF_INTERVAL = 5e-4
# And so is one below this part of the smile's median one: a locked market.
LEAST_OF_USUAL = 0.25
# The deltas at which every smile is read: for tables of standard deltas, and to judge how much of the range is covered.
DELTAS = np.round(np.arange(0.10, 0.901, 0.05), 2)
# Volatility: an error of this has confidence one half, of half of it 0.8.
HALF_CONFIDENCE = 0.006
# Delta: how far a quote bears witness of its surroundings; and how far beyond the outermost one is still covered.
WITNESS, COVER = 0.05, 0.01
CALENDAR_GRID = 41
# Volatility: a later smile that is lower by less than this is not called an arbitrage.
CALENDAR_TOLERANCE = 1e-4
DENSITY_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Volatilities:
    """Volatilities of contracts, one row each, `smile` the number of its smile.

    ``log_moneyness`` is ln(strike / forward), ``call`` the right; ``iv_bid`` is NaN without a bid. Contracts that are
    in the money are not looked at.
    """

    smile: Ints
    log_moneyness: Floats
    call: Bools
    iv_bid: Floats
    iv_mid: Floats
    iv_ask: Floats


@dataclass(frozen=True, slots=True)
class Lattice:
    """Smiles read at `DELTAS`, a smile a row and a delta a column.

    ``log_moneyness``; ``variance``, total; ``error``, of volatility: the fit's standard error and what it is off by
    nearby; ``dispersion``: root mean square distance of the quotes nearby from the fit, in volatility; ``covered``:
    within the quotes' range of delta.
    """

    log_moneyness: Floats
    variance: Floats
    error: Floats
    dispersion: Floats
    covered: Bools


@dataclass(frozen=True, slots=True)
class Surfaces:
    """One row a smile; NaN and false where it has no quote.

    ``atm_iv`` at the forward; ``skew`` and ``curvature``, first and second derivative of volatility by log-moneyness
    there; ``atm_error``, of atm_iv; ``quotes`` that could count and ``used``, those not thrown out; ``rms``, of the
    used ones from the fit, in half-intervals; ``inside_share`` of all of them whose bid-ask holds the fit;
    ``delta_low``, ``delta_high``: the range of call delta that used quotes cover; ``butterfly``, the least Durrleman g;
    ``calendar``, by how much in volatility the smile is above the one before it and below the one after it, at worst
    (NaN when it is alone); ``arbitrage_free``; ``repaired``: the first fit had a negative density; ``confidence``, 0 to
    1: the part of the deltas from 0.10 to 0.90 that is covered, times what the error at the money leaves (0.8 at 0.3
    points, one half at 0.6).
    """

    years: Floats
    surface: Ints
    svi: Svi
    atm_iv: Floats
    atm_error: Floats
    skew: Floats
    curvature: Floats
    quotes: Ints
    used: Ints
    rms: Floats
    inside_share: Floats
    delta_low: Floats
    delta_high: Floats
    butterfly: Floats
    calendar: Floats
    arbitrage_free: Bools
    repaired: Bools
    confidence: Floats
    lattice: Lattice

    def flags(self) -> list[list[str]]:
        """The names of what is wrong with each smile."""
        return flag_names(
            repaired=self.repaired,
            butterfly_arbitrage=self.butterfly < -DENSITY_TOLERANCE,
            calendar_arbitrage=self.calendar < -CALENDAR_TOLERANCE,
        )


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Smiles fitted together: their numbers, quotes and fit."""

    rows: Ints
    years: Floats
    points: Points
    iv_bid: Floats
    iv_ask: Floats
    fit: Fit


@np.errstate(all="ignore")
def fit_surfaces(years: Floats, surface: Ints, quotes: Volatilities, forward_error: Floats | None = None) -> Surfaces:
    """The smile of every expiry: `years` to it and the number of its surface, one row a smile.

    `forward_error`, the standard error of its forward as a part of it, adds to the errors; without it they take the
    forward for known.
    """
    found = _empty(years, surface)
    unsure = np.zeros(years.size) if forward_error is None else forward_error
    quotes = _counting(years, quotes)
    number = sizes(quotes.smile, years.size)
    starts = np.concatenate(([0], np.cumsum(number)[:-1]))
    fitted = np.flatnonzero(number)
    order = fitted[np.argsort(number[fitted], kind="stable")]
    for first in range(0, order.size, CHUNK):
        rows = order[first : first + CHUNK]
        place = np.arange(number[rows].max())
        there = place < number[rows][:, None]
        at = np.where(there, starts[rows][:, None] + place, starts[rows][:, None])
        _write(found, _chunk(rows, years[rows], quotes, at, there), unsure[rows])
    return _with_calendar(found, order)


def _counting(years: Floats, quotes: Volatilities) -> Volatilities:
    """The quotes that count, by smile and strike."""
    counts = (
        (quotes.call == (quotes.log_moneyness >= 0))
        & (quotes.iv_bid > 0)
        & (quotes.iv_mid >= quotes.iv_bid)
        & (quotes.iv_ask >= quotes.iv_mid)
        & (quotes.iv_ask <= HIGHEST_VOL)
        & (np.abs(quotes.log_moneyness) <= FARTHEST)
        & (years[quotes.smile] >= SHORTEST)
        & (years[quotes.smile] <= LONGEST)
    )
    rows = np.flatnonzero(counts)
    rows = rows[np.lexsort((quotes.log_moneyness[rows], quotes.smile[rows]))]
    return Volatilities(*(getattr(quotes, each.name)[rows] for each in fields(Volatilities)))


def _chunk(rows: Ints, years: Floats, quotes: Volatilities, at: Ints, there: Bools) -> _Chunk:
    """Fit the smiles whose quotes are at the places `at`, where they are `there`."""
    t = years[:, None]
    low, mid, high = quotes.iv_bid[at], quotes.iv_mid[at], quotes.iv_ask[at]
    half = 0.5 * (high - low)
    usual = lower_medians(np.where(there, half, np.nan))[:, None]
    half = np.maximum(half, np.maximum(LEAST_OF_USUAL * usual, LEAST_HALF_INTERVAL))
    points = Points(quotes.log_moneyness[at], mid**2 * t, 2.0 * mid * half * t, there)
    return _Chunk(rows, years, points, low, high, fit(points))


def _empty(years: Floats, surface: Ints) -> Surfaces:
    """A row for each smile, of which nothing is known yet."""
    count, wide = years.size, (years.size, DELTAS.size)
    unknown = {each.name: np.full(count, np.nan) for each in fields(Surfaces)}
    unknown |= {name: np.zeros(count, dtype=np.int64) for name in ("quotes", "used")}
    unknown |= {name: np.zeros(count, dtype=bool) for name in ("arbitrage_free", "repaired")}
    unknown["confidence"] = np.zeros(count)
    svi = Svi(*(np.full(count, np.nan) for _ in fields(Svi)))
    read = [np.full(wide, np.nan) for _ in range(4)]
    lattice = Lattice(read[0], read[1], read[2], read[3], np.zeros(wide, dtype=bool))
    given: dict[str, Any] = {"years": years, "surface": surface, "svi": svi, "lattice": lattice}
    return Surfaces(**{**unknown, **given})


def _write(found: Surfaces, chunk: _Chunk, unsure: Floats) -> None:
    """Put what a chunk says into its rows; `unsure` is the error of its forwards."""
    rows, svi, there = chunk.rows, chunk.fit.svi, chunk.points.there
    for name in ("a", "b", "rho", "m", "sigma"):
        getattr(found.svi, name)[rows] = getattr(svi, name)
    zero = np.zeros((rows.size, 1))
    w = svi.total_variance(zero)[:, 0]
    first, second = (each[:, 0] for each in svi.derivatives(zero))
    root = np.sqrt(w * chunk.years)
    found.atm_iv[rows] = np.sqrt(w / chunk.years)
    # Out-of-the-money calls and puts are moved against each other: half of it is left between them.
    by_forward = 0.5 * _moved_by_forward(w[:, None], zero, chunk.years[:, None])[:, 0] * unsure
    found.atm_error[rows] = np.hypot(chunk.fit.errors(zero)[:, 0] / (2.0 * root), by_forward)
    found.skew[rows] = first / (2.0 * root)
    found.curvature[rows] = second / (2.0 * root) - first**2 / (4.0 * w * root)
    fitted = np.sqrt(np.maximum(svi.total_variance(chunk.points.k), 0.0) / chunk.years[:, None])
    used = chunk.fit.weight > 0
    inside = there & (fitted >= chunk.iv_bid) & (fitted <= chunk.iv_ask)
    off = (svi.total_variance(chunk.points.k) - chunk.points.variance) / chunk.points.half
    found.rms[rows] = np.sqrt(np.sum(np.where(used, off**2, 0.0), axis=1) / used.sum(axis=1))
    found.quotes[rows], found.used[rows] = there.sum(axis=1), used.sum(axis=1)
    found.inside_share[rows] = inside.sum(axis=1) / there.sum(axis=1)
    found.butterfly[rows], found.repaired[rows] = chunk.fit.least_density, chunk.fit.repaired
    deltas = _deltas(svi, chunk.points.k)
    found.delta_low[rows] = np.where(used, deltas, np.inf).min(axis=1, initial=1.0)
    found.delta_high[rows] = np.where(used, deltas, -np.inf).max(axis=1, initial=0.0)
    _read(found, chunk, fitted, deltas)
    moved = _moved_by_forward(found.lattice.variance[rows], found.lattice.log_moneyness[rows], chunk.years[:, None])
    found.lattice.error[rows] = np.hypot(found.lattice.error[rows], moved * unsure[:, None])
    covered = found.lattice.covered[rows].mean(axis=1) * trust(found.quotes[rows], found.used[rows])
    found.confidence[rows] = np.nan_to_num(covered / (1.0 + (found.atm_error[rows] / HALF_CONFIDENCE) ** 2))
    found.arbitrage_free[rows] = (chunk.fit.least_density >= -DENSITY_TOLERANCE) & (
        svi.steepest_wing() <= STEEPEST_WING
    )


def trust(quotes: Ints, used: Ints) -> Floats:
    """What a smile of so few quotes is worth when one of them may be wrong: 0.75 for four, 0.94 for eight.

    As many as it had to throw out, it is worth less.
    """
    return np.asarray((1.0 - 0.5 ** (used / 2.0)) * used / np.maximum(quotes, 1))


def _deltas(svi: Svi, k: Floats) -> Floats:
    deviation = np.sqrt(np.maximum(svi.total_variance(k), 1e-300))
    return np.asarray(ndtr(-k / deviation + 0.5 * deviation))


def _moved_by_forward(variance: Floats, k: Floats, years: Floats) -> Floats:
    """By how much the volatility of the out-of-the-money option moves when the forward moves by all of itself."""
    d1 = -k / np.sqrt(variance) + 0.5 * np.sqrt(variance)
    density = np.exp(-0.5 * d1**2) / np.sqrt(2.0 * np.pi)
    return np.asarray(ndtr(-np.abs(d1)) / (density * np.sqrt(years)))


def _read(found: Surfaces, chunk: _Chunk, fitted: Floats, deltas: Floats) -> None:
    """Read the smiles at the standard deltas, and judge each by the quotes around it."""
    rows, lattice = chunk.rows, found.lattice
    t = chunk.years[:, None]
    k = chunk.fit.svi.moneyness_of_delta(np.broadcast_to(DELTAS, (rows.size, DELTAS.size)))
    variance = chunk.fit.svi.total_variance(k)
    observed = np.sqrt(chunk.points.variance / t)
    near = np.exp(-0.5 * ((deltas[:, None, :] - DELTAS[:, None]) / WITNESS) ** 2) * chunk.fit.weight[:, None, :]
    near += 1e-12 * chunk.fit.weight[:, None, :]  # where none is near, the nearest
    off = np.where(chunk.points.there, fitted - observed, 0.0)[:, :, None]
    witnesses = near.sum(axis=2)
    bias = np.matmul(near, off)[:, :, 0] / witnesses
    dispersion = np.sqrt(np.matmul(near, off**2)[:, :, 0] / witnesses)
    standard = chunk.fit.errors(k) / (2.0 * np.sqrt(variance * t))
    lattice.log_moneyness[rows], lattice.variance[rows] = k, variance
    lattice.error[rows], lattice.dispersion[rows] = np.hypot(standard, bias), dispersion
    low, high = found.delta_low[rows][:, None], found.delta_high[rows][:, None]
    lattice.covered[rows] = (DELTAS - low >= -COVER) & (DELTAS - high <= COVER) & np.isfinite(k)


def _with_calendar(found: Surfaces, fitted: Ints) -> Surfaces:
    """Compare each smile with the next of its surface where both have quotes, at equal log-moneyness."""
    order = fitted[np.lexsort((found.years[fitted], found.surface[fitted]))]
    before, after = order[:-1], order[1:]
    neighbours = (found.surface[before] == found.surface[after]) & (found.years[before] < found.years[after])
    before, after = before[neighbours], after[neighbours]
    if before.size:
        k = found.lattice.log_moneyness
        low = np.maximum(np.fmin.reduce(k[before], axis=1), np.fmin.reduce(k[after], axis=1))
        high = np.minimum(np.fmax.reduce(k[before], axis=1), np.fmax.reduce(k[after], axis=1))
        grid = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, CALENDAR_GRID)
        t = found.years[after][:, None]
        rise = np.sqrt(np.maximum(found.svi.take(after).total_variance(grid), 0.0) / t)
        rise -= np.sqrt(np.maximum(found.svi.take(before).total_variance(grid), 0.0) / t)
        worst = rise.min(axis=1)
        found.calendar[before] = worst
        found.calendar[after] = np.fmin(found.calendar[after], worst)
    found.arbitrage_free[fitted] &= ~(found.calendar[fitted] < -CALENDAR_TOLERANCE)
    return found
