"""What a market looks like from the gateway's side: the interface of worlds, and the quotes they answer with."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple, Protocol

from ingest.gateway.instruments import Instrument, Option, OptionSeries, Underlying


class Model(NamedTuple):
    """The option model's values; a None is "could not be computed" and goes over the wire as an unset double.

    ``iv`` annualised, ``price`` and ``pv_dividend`` dollars, ``vega`` per volatility point, ``theta`` per day.
    """

    iv: float | None
    delta: float | None
    price: float | None
    pv_dividend: float | None
    gamma: float | None
    vega: float | None
    theta: float | None
    underlying_price: float | None


UNSET_MODEL = Model(None, None, None, None, None, None, None, None)


class Quote(NamedTuple):
    """What stands at one instant.

    Prices in dollars, None where there is no market or no trade; sizes in contracts or shares.
    ``model`` is None for underlyings and where no model tick is sent at all.
    """

    bid: float | None = None
    bid_size: int = 0
    ask: float | None = None
    ask_size: int = 0
    last: float | None = None
    last_size: int = 0
    volume: int | None = None
    open: float | None = None
    high: float | None = None
    low: float | None = None
    model: Model | None = None


NO_QUOTE = Quote()


class Bar(NamedTuple):
    """One daily bar; prices in dollars, volume in contracts or shares."""

    day: date
    open: float
    high: float
    low: float
    close: float
    volume: int
    average: float
    trades: int


@dataclass(frozen=True, slots=True)
class Volatility:
    """Of an underlying, annualised: ``historical`` over 30 sessions, ``implied`` over 30 days."""

    historical: float
    implied: float


class World(Protocol):
    """A market. Every answer is a function of its arguments: asked twice, it says the same.

    ``instant`` is the moment whose market is wanted and lies in a session (or is its close); ``now`` is the market
    clock, which decides what is listed and what is published. Both are aware datetimes in UTC.
    """

    @property
    def name(self) -> str:
        """``synthetic`` or ``replay``."""
        ...

    def check(self, now: datetime) -> None:
        """Raise `GatewayError` when this world has no market at `now`."""
        ...

    def underlyings(self) -> Sequence[Underlying]:
        """All underlyings, by symbol."""
        ...

    def underlying(self, symbol: str) -> Underlying | None:
        """The underlying with this symbol."""
        ...

    def series(self, underlying: Underlying, now: datetime) -> Sequence[OptionSeries]:
        """The series listed on the clock's New York date, by expiry."""
        ...

    def by_conid(self, conid: int, now: datetime) -> Instrument | None:
        """The instrument with this contract id, if it is listed."""
        ...

    def option_quote(self, option: Option, instant: datetime) -> Quote:
        """The quote standing at `instant`."""
        ...

    def underlying_quote(self, underlying: Underlying, instant: datetime) -> Quote:
        """The quote standing at `instant`."""
        ...

    def previous_close(self, instrument: Instrument, now: datetime) -> float | None:
        """The close of the session before the clock's (tick 9), dollars."""
        ...

    def open_interest(self, option: Option, now: datetime) -> int | None:
        """Contracts open, as published by now: it describes an earlier session. None is "no value", 0 is a value."""
        ...

    def volatility(self, underlying: Underlying, instant: datetime) -> Volatility | None:
        """Historical and implied volatility, where the world knows them."""
        ...

    def daily_bars(self, instrument: Instrument, what: str, first: date, last: datetime) -> list[Bar]:
        """Daily bars from the session of `first` to the instant `last`; `what` is ``TRADES`` or ``MIDPOINT``."""
        ...
