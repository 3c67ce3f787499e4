"""Levenberg and Marquardt's method on many SVI smiles at once, with Tukey's weights. Pure.

Smiles are on their own scale (`svi_fit`), and have five transformed parameters, so that none can leave its domain: ln
of the least total variance, ln b, atanh rho, m, ln sigma. All arrays have a smile a row.
"""

from dataclasses import dataclass

import numpy as np

from option_pricing.black_scholes import Floats
from option_pricing.segments import Bools, Ints
from option_pricing.svi import STEEPEST_WING, Svi

# Half-intervals: as for forwards, a quote this near to the others is never thrown out.
LEAST_SCALE, LEAST_ERROR = 0.5, 0.3
BIWEIGHT = 4.685
# In the robust rounds the scale of errors is found; later it would only go to and fro.
ROUNDS, ROBUST_ROUNDS = 40, 12
# Where few quotes say little, the shape stays near the middle of these: mean and deviation of the transformed
# parameters. They count as much as a quote below `FEW` quotes, and a two hundred and fiftieth of it at twice as many.
USUAL = np.array([0.0, np.log(0.4), 0.0, 0.0, np.log(0.8)])
LOOSE = np.array([np.inf, 1.0, 0.7, 0.7, 0.7])
FEW, FADING, FAINT = 6.0, 8, 1e-6
# The transformed parameters stay within these of zero; beyond them a smile is a straight line or a point.
BOUND = np.array([12.0, 9.0, 4.0, 6.0, 5.0])
DIAGONAL = np.arange(5)
# What a density lacks of this is an error; and the step by which the slope of the lack is found.
MARGIN, NUDGE = 1e-3, 1e-5


@dataclass(frozen=True, slots=True)
class Points:
    """Quotes of smiles, padded: log-moneyness, total variance, its half-interval; `there` where there is a quote."""

    k: Floats
    variance: Floats
    half: Floats
    there: Bools

    def take(self, rows: Bools) -> "Points":
        """The smiles of `rows`."""
        return Points(self.k[rows], self.variance[rows], self.half[rows], self.there[rows])


@dataclass(frozen=True, slots=True)
class Refined:
    """Transformed parameters, their covariance, and of each quote its weight, from 0 (thrown out) to 1."""

    theta: Floats
    covariance: Floats
    weight: Floats

    def take(self, rows: Bools) -> "Refined":
        """The smiles of `rows`, copied."""
        return Refined(self.theta[rows], self.covariance[rows], self.weight[rows])

    def put(self, rows: Bools, other: "Refined") -> None:
        """Take the smiles of `rows` from `other`."""
        self.theta[rows], self.covariance[rows], self.weight[rows] = other.theta, other.covariance, other.weight


def model(theta: Floats, k: Floats) -> tuple[Floats, Floats]:
    """Total variance at `k`, and its derivatives by the transformed parameters, which are the last axis."""
    lowest, b, sigma = (np.exp(theta[:, column])[:, None] for column in (0, 1, 4))
    rho, m = np.tanh(theta[:, 2])[:, None], theta[:, 3][:, None]
    straight = np.sqrt(1.0 - rho**2)
    off = k - m
    root = np.hypot(off, sigma)
    above = b * (rho * off + root - sigma * straight)
    jacobian = np.empty((*above.shape, 5))
    jacobian[:, :, 0] = lowest
    jacobian[:, :, 1] = above
    jacobian[:, :, 2] = b * (off * straight**2 + sigma * rho * straight)
    jacobian[:, :, 3] = -b * (rho + off / root)
    jacobian[:, :, 4] = b * sigma * (sigma / root - straight)
    return lowest + above, jacobian


def to_svi(theta: Floats) -> Svi:
    """The smiles that the transformed parameters stand for."""
    lowest, b, sigma = np.exp(theta[:, 0]), np.exp(theta[:, 1]), np.exp(theta[:, 4])
    rho = np.tanh(theta[:, 2])
    return Svi(lowest - b * sigma * np.sqrt(1.0 - rho**2), b, rho, theta[:, 3], sigma)


def from_svi(svi: Svi) -> Floats:
    """The transformed parameters of smiles."""
    lowest = svi.a + svi.b * svi.sigma * np.sqrt(1.0 - svi.rho**2)
    return np.stack([np.log(lowest), np.log(svi.b), np.arctanh(svi.rho), svi.m, np.log(svi.sigma)], axis=1)


def lower_medians(values: Floats) -> Floats:
    """The lower median along the last axis without NaN: many times faster than numpy's, which loops over rows."""
    ordered = np.sort(values, axis=-1)
    middle = np.maximum(np.sum(np.isfinite(ordered), axis=-1) - 1, 0) // 2
    return np.asarray(np.take_along_axis(ordered, middle[..., None], axis=-1)[..., 0])


@dataclass(frozen=True, slots=True)
class Density:
    """Where smiles must have a density: real log-moneyness on a `grid`, and the total variance they were divided by.

    A lack of one in the density counts as a quote that is `counts` half-intervals away.
    """

    grid: Floats
    scale: Floats
    counts: float = 1.0

    def take(self, rows: Bools) -> "Density":
        """The smiles of `rows`."""
        return Density(self.grid[rows], self.scale[rows], self.counts)

    def lack(self, theta: Floats) -> Floats:
        """By how much Durrleman's g falls short of `MARGIN` at each point, and the wings' slope exceeds its bound."""
        svi = restored(theta, self.scale)
        short = np.minimum(np.maximum(MARGIN - svi.durrleman(self.grid), 0.0), 10.0)
        steep = np.maximum(svi.steepest_wing() - STEEPEST_WING * (1.0 - MARGIN), 0.0)
        return self.counts * np.column_stack([short, steep])


@dataclass(frozen=True, slots=True)
class _Problem:
    """The smiles that are being fitted. `weight` is a quote's."""

    points: Points
    plausible: Bools
    density: Density | None

    def take(self, rows: Bools) -> "_Problem":
        density = None if self.density is None else self.density.take(rows)
        return _Problem(self.points.take(rows), self.plausible[rows], density)

    def quote_errors(self, theta: Floats) -> tuple[Floats, Floats]:
        """The distance of each quote in half-intervals, and its derivatives by the parameters."""
        value, jacobian = model(theta, self.points.k)
        inverse = np.where(self.points.there, 1.0 / self.points.half, 0.0)
        return (value - self.points.variance) * inverse, jacobian * inverse[:, :, None]

    def all_errors(self, theta: Floats, weight: Floats) -> tuple[Floats, Floats]:
        """Errors of quotes by the root of their weight and, if it counts, what the density lacks; their derivatives."""
        root = np.sqrt(weight)
        error, jacobian = self.quote_errors(theta)
        error, jacobian = error * root, jacobian * root[:, :, None]
        if self.density is None:
            return error, jacobian
        lack = self.density.lack(theta)
        slopes = np.empty((*lack.shape, theta.shape[1]))
        for column in range(theta.shape[1]):
            moved = theta.copy()
            moved[:, column] += NUDGE
            slopes[:, :, column] = (self.density.lack(moved) - lack) / NUDGE
        return np.concatenate([error, lack], axis=1), np.concatenate([jacobian, slopes], axis=1)

    def cost(self, theta: Floats, weight: Floats) -> Floats:
        value = model(theta, self.points.k)[0]
        error = np.where(self.points.there, (value - self.points.variance) / self.points.half, 0.0)
        cost = np.einsum("nk,nk,nk->n", weight, error, error) + np.sum(_hold(weight) * (theta - USUAL) ** 2, axis=1)
        return np.asarray(cost if self.density is None else cost + np.sum(self.density.lack(theta) ** 2, axis=1))


def _hold(weight: Floats) -> Floats:
    """The weight of the usual shape's parameters, by how many quotes count."""
    strength = 1.0 / (1.0 + (weight.sum(axis=1) / FEW) ** FADING)
    return np.asarray((strength + FAINT)[:, None] / LOOSE**2)


def restored(theta: Floats, scale: Floats) -> Svi:
    """Smiles in real log-moneyness and total variance, of parameters on their own scale."""
    own, root = to_svi(theta), np.sqrt(scale)
    return Svi(own.a * scale, own.b * root, own.rho, own.m * root, own.sigma * root)


def refine(points: Points, plausible: Bools, start: Floats, density: Density | None = None) -> Refined:
    """The smiles of least weighted squares near `start`. Each steps by its own damping, and leaves when it stands.

    With `density`, a negative one costs as much as many quotes.
    """
    answer = Refined(start.copy(), np.empty((start.shape[0], 5, 5)), np.empty(points.k.shape))
    rows = np.arange(start.shape[0])
    problem, theta = _Problem(points, plausible, density), start
    damping = np.full(rows.size, 1e-2)
    weight = np.zeros(points.k.shape)
    for turn in range(ROUNDS):
        if turn < ROBUST_ROUNDS:
            weight = _weights(problem, theta, late=turn >= ROBUST_ROUNDS // 2)
        theta, damping, standing = _step(problem, theta, damping, weight)
        if turn < ROBUST_ROUNDS:
            continue
        done = standing | (turn == ROUNDS - 1)
        _keep(answer, problem.take(done), rows[done], theta[done], weight[done])
        if np.all(done):
            break
        going = ~done
        problem, rows, theta = problem.take(going), rows[going], theta[going]
        damping, weight = damping[going], weight[going]
    return answer


def _weights(problem: _Problem, theta: Floats, *, late: bool) -> Floats:
    """Tukey's weight of each quote; at first the implausible ones have none, later they may come back."""
    error = problem.quote_errors(theta)[0]
    usual = lower_medians(np.where(problem.plausible, np.abs(error), np.nan))
    scale = np.fmax(LEAST_SCALE, 1.4826 * usual)[:, None]
    share = np.clip(1.0 - (error / (BIWEIGHT * scale)) ** 2, 0.0, None) ** 2
    return np.where(problem.points.there if late else problem.plausible, share, 0.0)


def _step(problem: _Problem, theta: Floats, damping: Floats, weight: Floats) -> tuple[Floats, Floats, Bools]:
    """The next parameters and damping, and which smiles stand still."""
    error, jacobian = problem.all_errors(theta, weight)
    normal = np.matmul(np.swapaxes(jacobian, 1, 2), jacobian)
    hold = _hold(weight)
    normal[:, DIAGONAL, DIAGONAL] += hold
    slope = np.einsum("nkp,nk->np", jacobian, error) + hold * (theta - USUAL)
    diagonal = normal[:, DIAGONAL, DIAGONAL]
    normal[:, DIAGONAL, DIAGONAL] += diagonal * damping[:, None] + 1e-10 * diagonal.sum(axis=1)[:, None] + 1e-12
    step = np.clip(-np.linalg.solve(normal, slope[..., None])[..., 0], -1.0, 1.0)
    tried = np.clip(theta + step, -BOUND, BOUND)
    better = problem.cost(tried, weight) <= problem.cost(theta, weight)
    moved = np.max(np.abs(tried - theta), axis=1)
    standing = (better & (moved < 1e-5)) | (~better & ((damping > 1e6) | (moved < 1e-7)))
    damping = np.clip(np.where(better, damping * 0.2, damping * 6.0), 1e-9, 1e9)
    return np.where(better[:, None], tried, theta), damping, standing


def _keep(answer: Refined, problem: _Problem, rows: Ints, theta: Floats, weight: Floats) -> None:
    error = problem.quote_errors(theta)[0]
    _, jacobian = problem.all_errors(theta, weight)
    normal = np.matmul(np.swapaxes(jacobian, 1, 2), jacobian)
    normal[:, DIAGONAL, DIAGONAL] += _hold(weight)
    normal[:, DIAGONAL, DIAGONAL] += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None] + 1e-9
    spread = np.sum(weight * error**2, axis=1) / np.maximum(weight.sum(axis=1) - 5.0, 1.0)
    answer.theta[rows] = theta
    answer.weight[rows] = weight
    answer.covariance[rows] = np.linalg.inv(normal) * np.maximum(spread, LEAST_ERROR**2)[:, None, None]
