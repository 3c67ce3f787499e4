"""The SVI smile: total variance as a hyperbola in log-moneyness. Pure.

w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2)), with k = ln(strike / forward) and w = vol^2 years (Gatheral, "A
parsimonious arbitrage-free implied volatility parameterization", 2004). Parameters are arrays with a smile a row;
points `k` have smiles along their first axis and any number of points along the second, and so have the answers.

No butterfly arbitrage means a density that is nowhere negative: Durrleman's g(k) >= 0 (Gatheral and Jacquier,
"Arbitrage-free SVI volatility surfaces", 2014, lemma 2.2).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from option_pricing.black_scholes import Floats

# Roger Lee's bound of the slopes of total variance in its wings.
STEEPEST_WING = 2.0
DELTA_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Svi:
    """Parameters of smiles, one row each: variance `a`, slope `b`, `rho` in (-1, 1), log-moneyness `m`, `sigma` > 0."""

    a: Floats
    b: Floats
    rho: Floats
    m: Floats
    sigma: Floats

    def take(self, rows: Floats | slice) -> "Svi":
        """The smiles of `rows` (an index or a mask)."""
        return Svi(self.a[rows], self.b[rows], self.rho[rows], self.m[rows], self.sigma[rows])

    def _column(self) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        return self.a[:, None], self.b[:, None], self.rho[:, None], self.m[:, None], self.sigma[:, None]

    def total_variance(self, k: Floats) -> Floats:
        """W at the points `k`."""
        a, b, rho, m, sigma = self._column()
        return np.asarray(a + b * (rho * (k - m) + np.hypot(k - m, sigma)))

    def derivatives(self, k: Floats) -> tuple[Floats, Floats]:
        """The first and the second derivative of w by k."""
        _, b, rho, m, sigma = self._column()
        root = np.hypot(k - m, sigma)
        return np.asarray(b * (rho + (k - m) / root)), np.asarray(b * sigma**2 / root**3)

    def durrleman(self, k: Floats) -> Floats:
        """g(k); the density of the underlying at expiry has its sign."""
        w = self.total_variance(k)
        first, second = self.derivatives(k)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((1.0 - k * first / (2.0 * w)) ** 2 - first**2 / 4.0 * (1.0 / w + 0.25) + second / 2.0)

    def steepest_wing(self) -> Floats:
        """The larger of the two slopes of total variance far from the money; above 2 there is arbitrage."""
        return np.asarray(self.b * (1.0 + np.abs(self.rho)))

    def moneyness_of_delta(self, delta: Floats) -> Floats:
        """The log-moneyness at which a call has the forward delta `delta` = N(d1), in (0, 1); NaN where there is none.

        Halves a bracket: d1 falls with k wherever the smile is free of arbitrage (it starts at both wings' signs).
        """
        wanted = ndtri(delta)
        low = np.full(wanted.shape, -1.0)
        high = np.full(wanted.shape, 1.0)
        for _ in range(12):
            low = np.where(self._d1(low) < wanted, 2.0 * low, low)
            high = np.where(self._d1(high) > wanted, 2.0 * high, high)
        found = (self._d1(low) >= wanted) & (self._d1(high) <= wanted)
        for _ in range(DELTA_ROUNDS):
            middle = 0.5 * (low + high)
            above = self._d1(middle) > wanted
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return np.where(found, 0.5 * (low + high), np.nan)

    def _d1(self, k: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            deviation = np.sqrt(self.total_variance(k))
            return np.asarray(-k / deviation + 0.5 * deviation)


def ssvi(variance: Floats, rho: Floats, phi: Floats) -> Svi:
    """The slice of SSVI with at-the-money total variance, correlation and `phi`, as an SVI smile.

    It is free of butterfly arbitrage when variance phi (1 + |rho|) < 4 and variance phi^2 (1 + |rho|) <= 4 (Gatheral
    and Jacquier, theorem 4.2).
    """
    straight = 1.0 - rho**2
    return Svi(0.5 * variance * straight, 0.5 * variance * phi, rho, -rho / phi, np.sqrt(straight) / phi)
