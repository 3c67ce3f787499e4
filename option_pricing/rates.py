"""A rate for every time to expiry, from the rates of some tenors. Pure."""

import numpy as np

from option_pricing.black_scholes import Floats


def rate_at(days: Floats, tenor_days: Floats, rate: Floats) -> Floats:
    """The continuous rate, a year, for each time in `days`: linear between tenors, level beyond the outermost.

    `tenor_days` rise. NaN in, NaN out. The discount is exp(-rate days / 365).
    """
    return np.asarray(np.interp(days, tenor_days, rate))
