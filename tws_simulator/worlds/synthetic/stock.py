"""How an underlying is quoted and traded at its price. Pure."""

from datetime import date

import numpy as np
import numpy.typing as npt

from tws_simulator.worlds.instruments import word
from tws_simulator.worlds.synthetic.paths import UnderlyingPath

Floats = npt.NDArray[np.float64]


def sides(spot: float | Floats) -> tuple[Floats, Floats]:
    """Bid and ask around `spot`, dollars: a cent or two apart."""
    half = 0.004 + 0.00004 * np.asarray(spot)
    return np.floor((spot - half) * 100) / 100, np.ceil((spot + half) * 100) / 100


def shares_traded(path: UnderlyingPath, seed: int, symbol: str, day: date, fraction: float | Floats) -> Floats:
    """Shares traded by `fraction` of the session of `day`, not rounded; more of them early in the day."""
    shares = word(seed, "shares", symbol, day) % 1000
    done = np.asarray(fraction)
    return np.asarray(path.liquidity * 4e6 * (0.6 + shares / 1000) * (0.35 * done**0.5 + 0.65 * done))
