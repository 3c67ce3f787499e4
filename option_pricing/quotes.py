"""Quotes of options as the numerics take them, and calls paired with puts. Pure."""

from dataclasses import dataclass

import numpy as np

from option_pricing.black_scholes import Floats
from option_pricing.segments import Bools, Ints

# Seconds. Two quotes that are further apart say nothing of each other: the underlying has moved.
MAX_PAIR_SKEW = 60.0


@dataclass(frozen=True, slots=True)
class Quotes:
    """Quotes of contracts, one row each, and no contract twice. Dollars per share.

    ``smile`` is the number of the contract's smile, ``call`` its right; ``bid`` is NaN or 0 without a bid; ``asof``,
    when the quote arrived, in seconds from any instant.
    """

    smile: Ints
    strike: Floats
    call: Bools
    bid: Floats
    ask: Floats
    asof: Floats


@dataclass(frozen=True, slots=True)
class Pairs:
    """Calls and puts of one smile and strike; one row a pair. Dollars per share."""

    smile: Ints
    strike: Floats
    call_bid: Floats
    call_ask: Floats
    put_bid: Floats
    put_ask: Floats

    def take(self, rows: Ints) -> "Pairs":
        """The pairs of `rows`."""
        return Pairs(
            self.smile[rows],
            self.strike[rows],
            self.call_bid[rows],
            self.call_ask[rows],
            self.put_bid[rows],
            self.put_ask[rows],
        )


@np.errstate(all="ignore")
def pair_quotes(quotes: Quotes, max_skew: float = MAX_PAIR_SKEW) -> Pairs:
    """The calls and puts that both have a bid and an uncrossed market, and arrived within `max_skew` seconds.

    Of a contract that is there twice the first counts.
    """
    usable = (quotes.bid > 0) & (quotes.ask >= quotes.bid) & np.isfinite(quotes.ask)
    calls, puts = np.flatnonzero(usable & quotes.call), np.flatnonzero(usable & ~quotes.call)
    strikes, place = np.unique(quotes.strike, return_inverse=True)
    key = quotes.smile * np.int64(max(strikes.size, 1)) + place
    _, of_calls, of_puts = np.intersect1d(key[calls], key[puts], return_indices=True)
    call, put = calls[of_calls], puts[of_puts]
    together = np.abs(quotes.asof[call] - quotes.asof[put]) <= max_skew
    call, put = call[together], put[together]
    bid, ask = quotes.bid, quotes.ask
    return Pairs(quotes.smile[call], quotes.strike[call], bid[call], ask[call], bid[put], ask[put])
