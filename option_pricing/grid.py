"""Standard maturities and deltas read off volatility surfaces. Pure.

Between two expiries total variance is interpolated linearly in time along equal forward delta: a delta is where quotes
are, in a short expiry as in a long one, while an equal log-moneyness would be far in the wing of the short one. Nothing
is extrapolated: a point is there only where an expiry stands on both sides of it (or on it), each with quotes that
cover the delta.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from option_pricing.black_scholes import DAYS_PER_YEAR, Floats
from option_pricing.segments import Bools, Ints
from option_pricing.surface import DELTAS, HALF_CONFIDENCE, Surfaces, trust

# The maturities of the standardised surfaces that vendors publish.
DAYS = np.array([10, 30, 60, 91, 122, 152, 182, 273, 365, 547, 730], dtype=np.int64)
QUARTER = int(np.flatnonzero(DELTAS == 0.25)[0])
# Days: an expiry this near to a maturity stands on it.
ON_IT = 0.5


@dataclass(frozen=True, slots=True)
class GridPoints:
    """One row a surface, maturity, delta and right.

    ``delta`` is the size of the forward delta; a put of 0.25 stands where a call of 0.75 does. ``iv``; ``strike``,
    dollars per share; ``dispersion``: root mean square distance of the quotes nearby from the smiles, in volatility;
    ``error``: the estimated standard error of ``iv``; ``confidence``, 0 to 1: 0.8 at an error of 0.3 volatility points,
    one half at 0.6.
    """

    surface: Ints
    days: Ints
    delta: Floats
    call: Bools
    iv: Floats
    strike: Floats
    dispersion: Floats
    error: Floats
    confidence: Floats


@dataclass(frozen=True, slots=True)
class ConstantMaturities:
    """One row a surface and maturity; NaN where the quotes do not say it.

    ``atm_iv`` at the forward; ``risk_reversal``: volatility of the call of delta 0.25 less that of the put;
    ``butterfly``: the mean of the two less ``atm_iv``; ``variance_swap``: the volatility that the strip of options
    replicates; ``confidence`` of ``atm_iv``, as of a grid point.
    """

    surface: Ints
    days: Ints
    atm_iv: Floats
    risk_reversal: Floats
    butterfly: Floats
    variance_swap: Floats
    confidence: Floats


@dataclass(frozen=True, slots=True)
class _Brackets:
    """Smiles before and after each maturity of each surface, and the part of the way to the later one."""

    surface: Ints
    days: Ints
    before: Ints
    after: Ints
    part: Floats

    @property
    def years(self) -> Floats:
        return self.days / DAYS_PER_YEAR

    def mix(self, values: Floats) -> Floats:
        """Linear in time between the two smiles, for values with a smile a row."""
        part = self.part.reshape(-1, *([1] * (values.ndim - 1)))
        return np.asarray((1.0 - part) * values[self.before] + part * values[self.after])

    def mix_variance(self, surfaces: Surfaces, values: Floats) -> Floats:
        """Total variance likewise. One expiry alone keeps its volatility over the hours to the maturity."""
        stretch = np.where(self.before == self.after, self.years / surfaces.years[self.before], 1.0)
        return self.mix(values) * stretch.reshape(-1, *([1] * (values.ndim - 1)))


@np.errstate(all="ignore")
def surface_grid(surfaces: Surfaces, forward: Floats) -> GridPoints:
    """Every point that the quotes support. `forward` of each smile, dollars per share."""
    brackets = _brackets(surfaces)
    lattice = surfaces.lattice
    variance, t = brackets.mix_variance(surfaces, lattice.variance), brackets.years[:, None]
    iv = np.sqrt(variance / t)
    covered = lattice.covered[brackets.before] & lattice.covered[brackets.after]
    error = np.hypot(_quoted_error(surfaces, brackets, iv), _gap(surfaces, brackets, lattice.variance, iv))
    root = np.sqrt(variance)
    k = root * (0.5 * root - ndtri(DELTAS))
    strike = np.exp(brackets.mix(np.log(forward)))[:, None] * np.exp(k)
    dispersion = brackets.mix(lattice.dispersion)
    confidence = _confidence(surfaces, brackets, error)
    there = covered & np.isfinite(iv) & np.isfinite(strike) & np.isfinite(confidence)
    sides = []
    for call in (True, False):
        row, column = np.nonzero(there)
        size = DELTAS[column] if call else np.round(1.0 - DELTAS[column], 2)
        values = (each[row, column] for each in (iv, strike, dispersion, error, confidence))
        sides.append((brackets.surface[row], brackets.days[row], size, np.full(row.size, call), *values))
    return GridPoints(*(np.concatenate(both) for both in zip(*sides, strict=True)))


@np.errstate(all="ignore")
def constant_maturities(surfaces: Surfaces, strip_variance: Floats) -> ConstantMaturities:
    """What the market says of each maturity at large. `strip_variance` of each smile, a year (`variance_strip`)."""
    brackets = _brackets(surfaces)
    t = brackets.years
    level = surfaces.atm_iv**2 * surfaces.years
    atm = np.sqrt(brackets.mix_variance(surfaces, level) / t)
    lattice = surfaces.lattice
    covered = np.where(lattice.covered, lattice.variance, np.nan)
    iv = np.sqrt(brackets.mix_variance(surfaces, covered) / t[:, None])
    call, put = iv[:, QUARTER], iv[:, -1 - QUARTER]
    share = _shares(surfaces, brackets, surfaces.atm_iv, atm)
    quoted = np.hypot(share[0] * surfaces.atm_error[brackets.before], share[1] * surfaces.atm_error[brackets.after])
    error = np.hypot(quoted, _gap(surfaces, brackets, level[:, None], atm[:, None])[:, 0])
    return ConstantMaturities(
        brackets.surface,
        brackets.days,
        atm,
        call - put,
        0.5 * (call + put) - atm,
        np.sqrt(brackets.mix_variance(surfaces, strip_variance * surfaces.years) / t),
        np.nan_to_num(_confidence(surfaces, brackets, error[:, None])[:, 0]),
    )


def _brackets(surfaces: Surfaces) -> _Brackets:
    """The maturities of each surface that lie between two of its smiles, or on one."""
    usable = np.flatnonzero(np.isfinite(surfaces.atm_iv))
    order = usable[np.lexsort((surfaces.years[usable], surfaces.surface[usable]))]
    # One sorted key for all surfaces: no expiry is a million days away.
    days = surfaces.years[order] * DAYS_PER_YEAR
    key = surfaces.surface[order] * 1e6 + days
    names = np.unique(surfaces.surface[order])
    surface, wanted = np.repeat(names, DAYS.size), np.tile(DAYS, names.size)
    at = surface * 1e6 + wanted
    later = np.searchsorted(key, at - ON_IT)
    earlier = np.searchsorted(key, at + ON_IT, side="right") - 1
    # On an expiry both are found on the wrong side of each other: take it alone.
    on_it = earlier >= later
    earlier = np.where(on_it, later, earlier)
    inside = (earlier >= 0) & (later < order.size)
    surface, wanted, earlier, later = surface[inside], wanted[inside], earlier[inside], later[inside]
    before, after = order[earlier], order[later]
    both = (surfaces.surface[before] == surface) & (surfaces.surface[after] == surface)
    surface, wanted, before, after = surface[both], wanted[both], before[both], after[both]
    distance = (surfaces.years[after] - surfaces.years[before]) * DAYS_PER_YEAR
    part = (wanted - surfaces.years[before] * DAYS_PER_YEAR) / distance
    return _Brackets(surface, wanted, before, after, np.where(before == after, 0.0, part))


def _confidence(surfaces: Surfaces, brackets: _Brackets, error: Floats) -> Floats:
    worth = trust(surfaces.quotes, surfaces.used)
    worth = np.minimum(worth[brackets.before], worth[brackets.after])
    return np.asarray(worth[:, None] / (1.0 + (error / HALF_CONFIDENCE) ** 2))


def _shares(surfaces: Surfaces, brackets: _Brackets, vol: Floats, iv: Floats) -> tuple[Floats, Floats]:
    """By how much `iv` moves when the volatility of the smile before moves, and of the one after."""
    part = brackets.part.reshape(-1, *([1] * (iv.ndim - 1)))
    t = surfaces.years.reshape(-1, *([1] * (iv.ndim - 1)))
    total = brackets.years.reshape(part.shape) * iv
    moved = vol * t
    return (
        np.asarray((1.0 - part) * moved[brackets.before] / total),
        np.asarray(part * moved[brackets.after] / total),
    )


def _quoted_error(surfaces: Surfaces, brackets: _Brackets, iv: Floats) -> Floats:
    lattice = surfaces.lattice
    first, second = _shares(surfaces, brackets, np.sqrt(lattice.variance / surfaces.years[:, None]), iv)
    return np.asarray(np.hypot(first * lattice.error[brackets.before], second * lattice.error[brackets.after]))


def _gap(surfaces: Surfaces, brackets: _Brackets, variance: Floats, iv: Floats) -> Floats:
    """What interpolation itself may be off by: its distance from volatility interpolated linearly."""
    return np.asarray(np.abs(brackets.mix(np.sqrt(variance / surfaces.years[:, None])) - iv))
