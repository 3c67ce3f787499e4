"""Implied volatilities of quotes by the forwards that were implied, as if the options were European."""

import numpy as np

from option_pricing import black_scholes
from option_pricing.black_scholes import Floats
from option_pricing.forwards import Forwards, Smiles
from option_pricing.quotes import Quotes
from option_pricing.surface import Volatilities


def volatilities(smiles: Smiles, quotes: Quotes, forwards: Forwards) -> Volatilities:
    """Of bid, mid and ask; NaN without a bid. Out of the money early exercise is worth little."""
    forward, discount = forwards.forward[quotes.smile], forwards.discount[quotes.smile]
    years = smiles.years[quotes.smile]

    def iv(price: Floats) -> Floats:
        return black_scholes.implied_vol(price / discount, forward, quotes.strike, years, quotes.call)

    bid = iv(np.where(quotes.bid > 0, quotes.bid, np.nan))
    mid, ask = iv(0.5 * (quotes.bid + quotes.ask)), iv(quotes.ask)
    return Volatilities(quotes.smile, np.log(quotes.strike / forward), quotes.call, bid, mid, ask)
