"""SVI smiles fitted to quotes, many at once: robust, and free of butterfly arbitrage. Pure.

Each smile is brought to its own scale first: total variance by that at the money, log-moneyness by its root, so that
one start suits 0DTE and LEAPS. A few shapes (minimum and curvature) are tried, each with the linear parameters solved
for, as Zeliade's quasi-explicit calibration does; `svi_refine` goes on from the best. Quotes count by their bid-ask
interval and, by Tukey's biweight, not at all when they are far from the smile.

A fit whose density is negative somewhere is fitted again, and now a negative density counts as an error too. What is
negative still in the end is led back towards an SSVI slice near to the same quotes, which is free of butterfly
arbitrage by construction.
"""

from dataclasses import dataclass, replace

import numpy as np

from option_pricing.black_scholes import Floats
from option_pricing.segments import Bools
from option_pricing.svi import STEEPEST_WING, Svi, ssvi
from option_pricing.svi_refine import Density, Points, Refined, from_svi, lower_medians, model, refine, restored, to_svi

__all__ = ["Fit", "Points", "fit"]

# A quote is wild when ln of its variance is this far from its neighbours': six times their usual distance, and a
# quarter.
WILD, WILD_AT_LEAST = 6.0, 0.25
# Log-moneyness beyond the outermost quotes, as a part of their distance, that a smile is looked at for arbitrage; and
# in standard deviations, the least.
BEYOND, LEAST_REACH = 0.25, 1.0
GRID, STEPS_BACK = 61, 20
# By how much a negative density counts at first and, where it is one still, after that.
LACK_COUNTS = (1e3, 3e4)
# The cusp of a density that is zero exactly, in floating point.
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted smiles, a row each, and what is known of them.

    ``weight`` of each quote, from 0 (thrown out) to 1; ``k_low`` to ``k_high``, where the smile was looked at for
    arbitrage; ``least_density``, the worst of Durrleman's g there; ``repaired``: fitted again, as it was negative at
    first.
    """

    svi: Svi
    weight: Floats
    k_low: Floats
    k_high: Floats
    least_density: Floats
    repaired: Bools
    _scale: Floats
    _theta: Floats
    _covariance: Floats

    def errors(self, k: Floats) -> Floats:
        """The standard error of total variance at the points `k`, a smile a row."""
        jacobian = model(self._theta, k / np.sqrt(self._scale)[:, None])[1]
        variance = np.einsum("nkp,npq,nkq->nk", jacobian, self._covariance, jacobian)
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)) * self._scale[:, None])


@np.errstate(all="ignore")
def fit(points: Points) -> Fit:
    """The smile of each row of `points`. Each row has a quote at least, and half-intervals above 0."""
    scale = _at_the_money(points)
    column = scale[:, None]
    own = Points(points.k / np.sqrt(column), points.variance / column, points.half / column, points.there)
    plausible = _plausible(own)
    refined = refine(own, plausible, _start(own, plausible))
    k_low, k_high = _reach(points, refined.weight, scale)
    grid = k_low[:, None] + (k_high - k_low)[:, None] * np.linspace(0.0, 1.0, GRID)
    repaired = _without_arbitrage(own, refined, Density(grid, scale))
    svi = restored(refined.theta, scale)
    least = svi.durrleman(grid).min(axis=1)
    return Fit(svi, refined.weight, k_low, k_high, least, repaired, scale, refined.theta, refined.covariance)


def _at_the_money(points: Points) -> Floats:
    """The median total variance of the three quotes nearest to the forward."""
    nearest = np.argsort(np.where(points.there, np.abs(points.k), np.inf), axis=1)[:, :3]
    values = np.where(points.there, points.variance, np.nan)
    return lower_medians(np.take_along_axis(values, nearest, axis=1))


def _plausible(own: Points) -> Bools:
    """Quotes that are not far from their four neighbours: without the wildest, the start is a smile."""
    order = np.argsort(np.where(own.there, own.k, np.inf), axis=1)
    height = np.take_along_axis(
        np.where(own.there, np.log(np.where(own.there, own.variance, 1.0)), np.nan), order, axis=1
    )
    padded = np.pad(height, ((0, 0), (2, 2)), constant_values=np.nan)
    away = np.abs(height - lower_medians(np.lib.stride_tricks.sliding_window_view(padded, 5, axis=1)))
    wild = away > np.fmax(WILD * 1.4826 * lower_medians(away)[:, None], WILD_AT_LEAST)
    tame = np.empty(wild.shape, dtype=bool)
    np.put_along_axis(tame, order, ~wild, axis=1)
    few = own.there.sum(axis=1) < 5
    return np.asarray(own.there & (tame | few[:, None]))


def _start(own: Points, plausible: Bools) -> Floats:
    """The best of some shapes, each with the least squares of height, slope and curvature, kept in their domain."""
    weight = np.where(plausible, 1.0 / np.where(own.there, own.half, 1.0) ** 2, 0.0)
    observed = np.where(own.there, own.variance, 0.0)
    best = np.full((own.k.shape[0], 5), np.nan)
    least = np.full(own.k.shape[0], np.inf)
    for m in (-1.0, -0.3, 0.0, 0.3, 1.0):
        for sigma in (0.3, 0.8, 2.0):
            theta = _shaped(own.k, observed, weight, m, sigma)
            cost = np.sum(weight * (to_svi(theta).total_variance(own.k) - observed) ** 2, axis=1)
            better = ~(cost >= least)
            best, least = np.where(better[:, None], theta, best), np.where(better, cost, least)
    return best


def _shaped(k: Floats, observed: Floats, weight: Floats, m: float, sigma: float) -> Floats:
    """Transformed parameters of w = height + d z + c sqrt(z^2 + 1), z = (k - m) / sigma, with the least squares."""
    z = (k - m) / sigma
    columns = np.stack([np.ones_like(z), z, np.hypot(z, 1.0)], axis=2)
    weighted = columns * weight[:, :, None]
    normal = np.matmul(np.swapaxes(weighted, 1, 2), columns)
    right = np.einsum("nki,nk->ni", weighted, observed)
    normal[:, range(3), range(3)] += 1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None]
    _, d, c = np.moveaxis(np.linalg.solve(normal, right[..., None])[..., 0], 1, 0)
    c = np.clip(c, 0.02, 4.0 * sigma)
    rho = np.clip(d / c, -0.95, 0.95)
    shape = c[:, None] * (rho[:, None] * z + np.hypot(z, 1.0))
    height = np.sum(weight * (observed - shape), axis=1) / np.sum(weight, axis=1)
    lowest = np.maximum(height + c * np.sqrt(1.0 - rho**2), 0.05)
    ones = np.ones_like(c)
    return np.stack([np.log(lowest), np.log(c / sigma), np.arctanh(rho), m * ones, np.log(sigma) * ones], axis=1)


def _reach(points: Points, weight: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Log-moneyness from and to which a smile is looked at: what its quotes span, and a quarter more on each side."""
    counted = weight > 0
    low = np.where(counted, points.k, np.inf).min(axis=1)
    high = np.where(counted, points.k, -np.inf).max(axis=1)
    low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)
    more, least = BEYOND * (high - low), LEAST_REACH * np.sqrt(scale)
    return np.minimum(low - more, -least), np.maximum(high + more, least)


def _without_arbitrage(own: Points, refined: Refined, density: Density) -> Bools:
    """Fit the smiles of a negative density again, into `refined`; which ones these were."""
    wrong = ~_arbitrage_free(refined.theta, density)
    if not wrong.any():
        return wrong
    density, points, weight = density.take(wrong), own.take(wrong), refined.weight[wrong]
    level = to_svi(refined.theta[wrong]).total_variance(np.zeros((weight.shape[0], 1)))[:, 0]
    safe = _safe(points, weight, level, density.scale)
    counted = points.there & (weight > 0)
    points = Points(points.k, points.variance, points.half, counted)
    again = refined.take(wrong)
    for counts in LACK_COUNTS:
        still = ~_arbitrage_free(again.theta, density)
        if still.any():
            held = replace(density.take(still), counts=counts)
            again.put(still, refine(points.take(still), counted[still], again.theta[still], held))
    again.theta[:] = _led_back(again.theta, safe, density)
    refined.put(wrong, again)
    return wrong


def _led_back(theta: Floats, safe: Floats, density: Density) -> Floats:
    """What still has a negative density goes towards `safe`, no further than it needs."""
    good = _arbitrage_free(theta, density)
    found = np.where(good[:, None], theta, safe)
    for step in range(1, STEPS_BACK):
        part = step / STEPS_BACK
        between = (1.0 - part) * theta + part * safe
        better = ~good & _arbitrage_free(between, density)
        found = np.where(better[:, None], between, found)
        good |= better
    return found


def _arbitrage_free(theta: Floats, density: Density) -> Bools:
    svi = restored(theta, density.scale)
    return np.asarray((svi.durrleman(density.grid).min(axis=1) >= -TOLERANCE) & (svi.steepest_wing() <= STEEPEST_WING))


def _safe(own: Points, weight: Floats, level: Floats, scale: Floats) -> Floats:
    """Transformed parameters of the SSVI slice without butterfly arbitrage that is nearest to the quotes.

    `level` is its variance at the money. Correlation, and the part of the largest phi, are searched on a lattice.
    """
    inverse = weight / np.where(own.there, own.half, 1.0) ** 2
    observed = np.where(own.there, own.variance, 0.0)
    best, least = np.empty((scale.size, 5)), np.full(scale.size, np.inf)
    for rho in np.tanh(np.linspace(-2.0, 2.0, 17)):
        for part in (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.999):
            lean = 1.0 + abs(rho)
            phi = part * np.minimum(4.0 / (level * np.sqrt(scale) * lean), 2.0 / np.sqrt(level * lean))
            slice_ = ssvi(level, np.full(scale.size, rho), phi)
            cost = np.sum(inverse * (slice_.total_variance(own.k) - observed) ** 2, axis=1)
            better = cost < least
            best, least = np.where(better[:, None], from_svi(slice_), best), np.where(better, cost, least)
    return best
