"""The variance that a strip of options replicates, as Cboe computes the VIX. Pure.

variance = 2/t sum(dK/K^2 Q(K)/D) - (F/K0 - 1)^2/t (Cboe, "Volatility Index Methodology: Cboe Volatility Index"): Q is
the mid of the out-of-the-money option, at K0, the first strike at or below the forward, the mean of call and put. Going
away from the money the strip ends at two strikes in a row without a bid; a strike without one does not count. What lies
beyond the last quoted strike is left out, so that the strip of a narrow range of strikes is too low: `covered` tells
its width.
"""

from dataclasses import dataclass

import numpy as np

from option_pricing.black_scholes import Floats
from option_pricing.quotes import Quotes
from option_pricing.segments import Bools, Ints, sizes, sums

# Without strikes on both sides there is no strip.
FEWEST_STRIKES = 3


@dataclass(frozen=True, slots=True)
class Strips:
    """One row a smile.

    ``variance``, a year (0.04 is a volatility of 20 %), NaN where the quotes do not reach; ``strikes`` that count;
    ``covered``: ln of the highest strike by the lowest.
    """

    variance: Floats
    strikes: Ints
    covered: Floats


@np.errstate(all="ignore")
def variance_strips(years: Floats, forward: Floats, discount: Floats, quotes: Quotes) -> Strips:
    """The strip of every smile: `years`, `forward` and `discount` have a row a smile."""
    count = years.size
    listed = np.isfinite(forward[quotes.smile]) & (quotes.strike > 0) & (years[quotes.smile] > 0)
    below = np.where(listed & (quotes.strike <= forward[quotes.smile]), quotes.strike, -np.inf)
    central = np.full(count, -np.inf)
    np.maximum.at(central, quotes.smile, below)
    rows = np.flatnonzero(listed & _side(quotes, central))
    rows = rows[np.lexsort((quotes.strike[rows], quotes.smile[rows]))]
    rows = rows[_before_the_end(quotes, rows, central)]
    smile, strike, price = _merged(quotes, rows)
    interval = _intervals(smile, strike)
    total = sums(interval / strike**2 * price / discount[smile], smile, count)
    variance = (2.0 * total - (forward / central - 1.0) ** 2) / years
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, smile, strike)
    np.maximum.at(high, smile, strike)
    number = sizes(smile, count)
    whole = (number >= FEWEST_STRIKES) & (low < central) & (high > central) & (variance > 0)
    return Strips(np.where(whole, variance, np.nan), number, np.where(number > 0, np.log(high / low), np.nan))


def _side(quotes: Quotes, central: Floats) -> Bools:
    """Puts below the central strike, calls above it, both at it."""
    centre = central[quotes.smile]
    return np.asarray(np.where(quotes.call, quotes.strike >= centre, quotes.strike <= centre))


def _before_the_end(quotes: Quotes, rows: Ints, central: Floats) -> Bools:
    """Of rows by smile and strike: those that have a bid and stand before two strikes in a row without one."""
    smile, call = quotes.smile[rows], quotes.call[rows]
    quoted = (quotes.bid[rows] > 0) & (quotes.ask[rows] >= quotes.bid[rows])
    kept = np.zeros(rows.size, dtype=bool)
    for right in (True, False):
        side = np.flatnonzero(call == right)
        side = side if right else side[::-1]  # away from the money
        silent = ~quoted[side]
        same = np.concatenate(([False], smile[side][1:] == smile[side][:-1]))
        twice = silent & same & np.concatenate(([False], silent[:-1]))
        # Ends so far, and those before the smile began: the smile goes on while they are equal.
        ends = np.cumsum(twice)
        starts = np.maximum.accumulate(np.where(same, 0, np.arange(side.size)))
        kept[side] = ~silent & (ends == ends[starts] - twice[starts])
    return kept


def _merged(quotes: Quotes, rows: Ints) -> tuple[Ints, Floats, Floats]:
    """One price a strike: at the central one the mean of call and put."""
    smile, strike = quotes.smile[rows], quotes.strike[rows]
    price = 0.5 * (quotes.bid[rows] + quotes.ask[rows])
    new = np.ones(rows.size, dtype=bool)
    new[1:] = (smile[1:] != smile[:-1]) | (strike[1:] != strike[:-1])
    place = np.cumsum(new) - 1
    number = np.bincount(place)
    return smile[new], strike[new], np.bincount(place, weights=price) / number


def _intervals(smile: Ints, strike: Floats) -> Floats:
    """Half the distance of the neighbours of each strike; at the ends the distance of the one neighbour."""
    if strike.size < 2:
        return np.zeros(strike.size)
    step = np.diff(strike)
    joined = smile[1:] == smile[:-1]
    up = np.append(np.where(joined, step, np.nan), np.nan)
    down = np.insert(np.where(joined, step, np.nan), 0, np.nan)
    both = 0.5 * (up + down)
    return np.where(np.isfinite(both), both, np.nan_to_num(np.where(np.isfinite(up), up, down)))
