"""What can be asked for: underlyings, option series and single contracts, and how they are numbered and named. Pure."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Literal

import numpy as np
import numpy.typing as npt

from tws_simulator.worlds.exchanges import OPTION_EXCHANGES, STOCK_EXCHANGES

Right = Literal["C", "P"]
RIGHTS: tuple[Right, Right] = ("C", "P")
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

# Contract ids are positive and fit a signed 32-bit field. Hashed underlyings live in a range of their own, below.
_OPTION_IDS = (1 << 24, (1 << 31) - 1)
_UNDERLYING_IDS = (1 << 20, 1 << 24)
# Standard monthly options expired on the Saturday after the third Friday up to January 2015, on their last trading day
# from February 2015: the AAPL chain of 2014-06-06 lists 2015-01-17 (a Saturday) beside 2015-04-17 (a Friday).
SATURDAY_EXPIRIES_UNTIL = date(2015, 1, 31)


@dataclass(frozen=True, slots=True)
class UnderlyingSpec:
    """An underlying that a synthetic world should have.

    ``conid``: as the universe file gives it, else derived from the symbol. ``price``: dollars, the level around which
    the price moves after the last corporate action, else derived from the symbol. An index that the world knows
    (``SPX``) needs its symbol only.
    """

    symbol: str
    conid: int | None = None
    price: float | None = None
    sec_type: str = "STK"
    primary_exchange: str = "NASDAQ"


@dataclass(frozen=True, slots=True)
class Underlying:
    """A stock, a fund or an index (``IND``) whose options are listed; identity is the ``conid``."""

    conid: int
    symbol: str
    sec_type: str = "STK"
    primary_exchange: str = "NASDAQ"
    currency: str = "USD"

    @property
    def root(self) -> str:
        """The OCC root of its standard options: the symbol without blanks and dots (``BRK B`` gives ``BRKB``)."""
        return option_root(self.symbol)

    @property
    def is_index(self) -> bool:
        """Whether it is an index: nobody trades it, so it has a level and no quotes."""
        return self.sec_type == "IND"

    @property
    def exchanges(self) -> tuple[str, ...]:
        """Where it is quoted, the preferred ones first: an index is disseminated by its own exchange only."""
        if self.is_index:
            return (self.primary_exchange,)
        return tuple(dict.fromkeys(("SMART", self.primary_exchange, *STOCK_EXCHANGES)))

    @property
    def option_exchanges(self) -> tuple[str, ...]:
        """Where its options are listed: those of an index on the exchange that has the licence."""
        return ("SMART", "CBOE") if self.is_index else ("SMART", *OPTION_EXCHANGES)


@dataclass(frozen=True, slots=True, eq=False)
class OptionSeries:
    """All contracts of one trading class, multiplier and expiry.

    ``strikes``: dollars, ascending, shape (n,). ``conids``: shape (2, n), calls then puts; 0 where that combination
    is not listed. ``expiry`` is the OCC expiry (the one in the local symbol), ``last_trade_date`` the last session.
    """

    underlying: Underlying
    trading_class: str
    multiplier: float
    expiry: date
    last_trade_date: date
    strikes: npt.NDArray[np.float64]
    conids: Ints
    min_tick: float = 0.01

    def find(self, strike: float, right: Right) -> "Option | None":
        """The contract at `strike` and `right`, or None when it is not listed."""
        position = int(np.searchsorted(self.strikes, strike - 1e-6))
        if position == len(self.strikes) or abs(self.strikes[position] - strike) > 1e-6:
            return None
        return self.at(RIGHTS.index(right), position)

    def at(self, side: int, position: int) -> "Option | None":
        """The contract of row `side` (0 calls, 1 puts) and column `position`, or None when it is not listed."""
        conid = int(self.conids[side, position])
        if not conid:
            return None
        return Option(conid, self, side, position)

    def options(self) -> Iterator["Option"]:
        """Every listed contract, calls before puts, strikes ascending."""
        for side in (0, 1):
            for position in range(len(self.strikes)):
                if (option := self.at(side, position)) is not None:
                    yield option


@dataclass(frozen=True, slots=True)
class Option:
    """One option contract: row `side`, column `position` of its series. Identity is the ``conid``."""

    conid: int
    series: OptionSeries = field(compare=False, repr=False)
    side: int = field(compare=False)
    position: int = field(compare=False)

    @property
    def strike(self) -> float:
        """Dollars per share."""
        return float(self.series.strikes[self.position])

    @property
    def right(self) -> Right:
        """``C`` or ``P``."""
        return RIGHTS[self.side]

    @property
    def underlying(self) -> Underlying:
        """What it is an option on."""
        return self.series.underlying

    @property
    def is_index(self) -> bool:
        """False: an option on an index is traded."""
        return False

    @property
    def local_symbol(self) -> str:
        """OCC symbol: root padded to six, OCC expiry, right, strike in thousandths (``GOOG  160115C00750000``)."""
        return occ_symbol(self.series.trading_class, self.series.expiry, self.right, self.strike)


Instrument = Underlying | Option


def option_root(symbol: str) -> str:
    """The OCC root of an underlying symbol."""
    return symbol.replace(" ", "").replace(".", "")


def occ_symbol(root: str, expiry: date, right: Right, strike: float) -> str:
    """The 21-character OCC symbol."""
    return f"{root:<6}{expiry:%y%m%d}{right}{round(strike * 1000):08d}"


def parse_occ_symbol(symbol: str) -> tuple[str, date, Right, float] | None:
    """(root, OCC expiry, right, strike), or None when `symbol` is no OCC symbol."""
    root, tail = symbol[:-15].strip(), symbol[-15:]
    if not root or len(tail) != 15 or not (tail[:6] + tail[7:]).isdigit() or tail[6] not in RIGHTS:
        return None
    try:
        expiry = date(2000 + int(tail[:2]), int(tail[2:4]), int(tail[4:6]))
    except ValueError:
        return None
    return root, expiry, "C" if tail[6] == "C" else "P", int(tail[7:]) / 1000


def last_trade_date_of(expiry: date, is_session: Callable[[date], bool]) -> date:
    """The last session on or before the OCC `expiry`: Friday (or Thursday) for a Saturday expiry."""
    day = expiry
    while not is_session(day):
        day -= timedelta(days=1)
    return day


def word(*parts: object) -> int:
    """A 64-bit number that depends on nothing but `parts`, the same in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def mix(words: Words) -> Words:
    """splitmix64's finaliser: every bit of the input moves every bit of the output (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        z = words + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def option_conids(root: str, expiry: date, strikes: npt.NDArray[np.float64], multiplier: float) -> Ints:
    """Contract ids of a series, shape (2, n): a hash of root, OCC expiry, right, strike and multiplier.

    They depend on nothing else, so a contract keeps its id over days, runs, worlds and universes. Two contracts of a
    large world can meet in one id (about 15 pairs in 250,000 contracts); which of them is listed is the world's choice.
    """
    low, high = _OPTION_IDS
    thousandths = np.round(strikes * 1000).astype(np.uint64)
    seeds = np.array([word("option", root, expiry, right, f"{multiplier:g}") for right in RIGHTS], dtype=np.uint64)
    hashed = mix(seeds[:, None] ^ mix(thousandths)[None, :])
    return (hashed % np.uint64(high - low) + np.uint64(low)).astype(np.int64)


def underlying_conids(specs: list[UnderlyingSpec]) -> dict[str, int]:
    """Contract ids by symbol: the given ones, else a hash of the symbol; collisions move up, in symbol order."""
    ids = {spec.symbol: spec.conid for spec in specs if spec.conid is not None}
    taken = set(ids.values())
    low, high = _UNDERLYING_IDS
    for symbol in sorted(spec.symbol for spec in specs if spec.conid is None):
        conid = low + word("underlying", symbol) % (high - low)
        while conid in taken:
            conid += 1
        ids[symbol] = conid
        taken.add(conid)
    return ids
