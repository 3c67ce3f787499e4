"""Black-Scholes-Merton with a continuous dividend yield, on numpy arrays. Pure.

Arguments broadcast against each other: ``spot`` and ``strike`` in dollars, ``years`` to expiry (ACT/365), ``rate`` and
``dividend_yield`` continuously compounded, ``vol`` annualised (0.25 is 25 %), ``call`` a boolean array. Source of the
formulas: Merton, "Theory of Rational Option Pricing" (1973).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Floats = npt.NDArray[np.float64]
FloatLike = float | Floats
BoolLike = bool | npt.NDArray[np.bool_]

DAYS_PER_YEAR = 365.0
LOWEST_VOL, HIGHEST_VOL = 1e-4, 20.0
_INVERSE_SQRT_2PI = 1.0 / np.sqrt(2.0 * np.pi)


@dataclass(frozen=True, slots=True)
class Valuation:
    """Price and greeks, one array each, in IB's units.

    ``price`` dollars; ``delta`` per dollar; ``gamma`` per dollar squared; ``vega`` dollars per volatility point (1 %);
    ``theta`` dollars per calendar day.
    """

    price: Floats
    delta: Floats
    gamma: Floats
    vega: Floats
    theta: Floats


def price(
    spot: FloatLike,
    strike: FloatLike,
    years: FloatLike,
    vol: FloatLike,
    call: BoolLike,
    rate: float = 0.0,
    dividend_yield: float = 0.0,
) -> Floats:
    """European option price, dollars per share."""
    forward_spot = np.asarray(spot, dtype=np.float64) * np.exp(-dividend_yield * np.asarray(years))
    discounted_strike = np.asarray(strike, dtype=np.float64) * np.exp(-rate * np.asarray(years))
    return _price(forward_spot, discounted_strike, np.asarray(vol) * np.sqrt(years), np.where(call, 1.0, -1.0))


def value(
    spot: FloatLike,
    strike: FloatLike,
    years: FloatLike,
    vol: FloatLike,
    call: BoolLike,
    rate: float = 0.0,
    dividend_yield: float = 0.0,
) -> Valuation:
    """Price and greeks together; ``vol`` and ``years`` must be positive (NaN in, NaN out)."""
    t = np.asarray(years, dtype=np.float64)
    sigma = np.asarray(vol, dtype=np.float64)
    s = np.asarray(spot, dtype=np.float64)
    sign = np.where(call, 1.0, -1.0)
    dividend_factor = np.exp(-dividend_yield * t)
    forward_spot = s * dividend_factor
    discounted_strike = np.asarray(strike, dtype=np.float64) * np.exp(-rate * t)
    root_t = np.sqrt(t)
    deviation = sigma * root_t
    d1 = np.log(forward_spot / discounted_strike) / deviation + 0.5 * deviation
    upper, lower = ndtr(sign * d1), ndtr(sign * (d1 - deviation))
    density = _INVERSE_SQRT_2PI * np.exp(-0.5 * d1 * d1)
    decay = -forward_spot * density * sigma / (2.0 * root_t)
    carry = sign * (dividend_yield * forward_spot * upper - rate * discounted_strike * lower)
    return Valuation(
        price=np.asarray(sign * (forward_spot * upper - discounted_strike * lower)),
        delta=np.asarray(sign * dividend_factor * upper),
        gamma=np.asarray(dividend_factor * density / (s * deviation)),
        vega=np.asarray(forward_spot * density * root_t / 100.0),
        theta=np.asarray((decay + carry) / DAYS_PER_YEAR),
    )


def implied_vol(
    target: FloatLike,
    spot: FloatLike,
    strike: FloatLike,
    years: FloatLike,
    call: BoolLike,
    rate: float = 0.0,
    dividend_yield: float = 0.0,
) -> Floats:
    """The volatility at which the model gives the price `target`; NaN where there is none in [0.01 %, 2000 %].

    Newton's method from the volatility of largest vega (Manaster and Koehler, 1982), kept inside a bracket that
    shrinks at every step, so it cannot diverge. It works on the out-of-the-money side of the contract: there the
    price is all time value, and a deep contract loses no digits to its intrinsic value.
    """
    wanted, s, k, t, is_call = np.broadcast_arrays(target, spot, strike, years, call)
    shape = wanted.shape
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        forward_spot = (s * np.exp(-dividend_yield * t)).astype(np.float64).ravel()
        discounted_strike = (k * np.exp(-rate * t)).astype(np.float64).ravel()
        sign = np.where(is_call, 1.0, -1.0).ravel()
        root_t = np.sqrt(t).astype(np.float64).ravel()
        otm_sign = np.where(forward_spot < discounted_strike, 1.0, -1.0)
        # put-call parity moves an in-the-money price to the other side
        parity = sign * (forward_spot - discounted_strike)
        time_value = wanted.astype(np.float64).ravel() - np.where(sign == otm_sign, 0.0, parity)
        solvable = (
            (time_value > _price(forward_spot, discounted_strike, LOWEST_VOL * root_t, otm_sign))
            & (time_value < _price(forward_spot, discounted_strike, HIGHEST_VOL * root_t, otm_sign))
            & (root_t > 0)
            & (time_value > 1e-12)
        )
        result = np.full(time_value.shape, np.nan)
        result[solvable] = _solve(
            time_value[solvable],
            forward_spot[solvable],
            discounted_strike[solvable],
            root_t[solvable],
            otm_sign[solvable],
        )
    return result.reshape(shape)


def _price(forward_spot: Floats, discounted_strike: Floats, deviation: Floats, sign: Floats) -> Floats:
    d1 = np.log(forward_spot / discounted_strike) / deviation + 0.5 * deviation
    return np.asarray(sign * (forward_spot * ndtr(sign * d1) - discounted_strike * ndtr(sign * (d1 - deviation))))


def _solve(wanted: Floats, forward_spot: Floats, discounted_strike: Floats, root_t: Floats, sign: Floats) -> Floats:
    log_moneyness = np.log(forward_spot / discounted_strike)
    low = np.full(wanted.shape, LOWEST_VOL)
    high = np.full(wanted.shape, HIGHEST_VOL)
    vol = np.clip(np.sqrt(2.0 * np.abs(log_moneyness)) / root_t, 0.05, 5.0)
    for _ in range(100):
        deviation = vol * root_t
        d1 = log_moneyness / deviation + 0.5 * deviation
        excess = sign * (forward_spot * ndtr(sign * d1) - discounted_strike * ndtr(sign * (d1 - deviation))) - wanted
        slope = forward_spot * _INVERSE_SQRT_2PI * np.exp(-0.5 * d1 * d1) * root_t
        too_high = excess > 0
        high = np.where(too_high, vol, high)
        low = np.where(too_high, low, vol)
        step = vol - excess / slope
        new = np.where((step > low) & (step < high), step, 0.5 * (low + high))
        moved = np.abs(new - vol)
        vol = new
        if not np.any(moved > 1e-12 + 1e-10 * vol):
            break
    return vol
