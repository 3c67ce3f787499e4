"""American and European prices on a binomial tree (Cox, Ross and Rubinstein, 1979): the tests' own engine."""

import numpy as np

from option_pricing.black_scholes import Floats
from option_pricing.segments import Bools

STEPS = 160


def tree_price(
    spot: Floats, strike: Floats, years: Floats, vol: Floats, call: Bools, rate: Floats, carry: Floats, american: bool
) -> Floats:
    """Dollars per share; `carry` is what holding the underlying brings a year, dividends and borrow together."""
    spot, strike, years, vol, rate, carry = (
        np.asarray(each, dtype=float)[:, None] for each in np.broadcast_arrays(spot, strike, years, vol, rate, carry)
    )
    sign = np.where(np.broadcast_to(call, spot.shape[:1]), 1.0, -1.0)[:, None]
    step = years / STEPS
    up = np.exp(vol * np.sqrt(step))
    chance = (np.exp((rate - carry) * step) - 1.0 / up) / (up - 1.0 / up)
    discount = np.exp(-rate * step)
    moves = np.arange(STEPS + 1)
    value = np.maximum(sign * (spot * up ** (2 * moves - STEPS) - strike), 0.0)
    for left in range(STEPS - 1, -1, -1):
        value = discount * (chance * value[:, 1:] + (1.0 - chance) * value[:, :-1])
        if american:
            value = np.maximum(value, sign * (spot * up ** (2 * np.arange(left + 1) - left) - strike))
    return np.asarray(value[:, 0])


def tree_premium(
    spot: Floats, strike: Floats, years: Floats, vol: Floats, call: Bools, rate: Floats, carry: Floats
) -> Floats:
    """What early exercise adds to the price: the errors of the tree fall out."""
    american, european = (tree_price(spot, strike, years, vol, call, rate, carry, each) for each in (True, False))
    return american - european
