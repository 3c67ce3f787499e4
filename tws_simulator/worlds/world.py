"""What a market looks like from the gateway's side: the interface of worlds, and the quotes they answer with."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ingest.calendar.sessions import Session
from tws_simulator.worlds.instruments import Instrument, Option, OptionSeries, Underlying

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Interest rate and dividend yield of the option model, continuously compounded."""

    rate: float = 0.0
    dividend_yield: float = 0.0


ZERO_RATES = ModelSettings()


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

    Prices in dollars, None where there is no market or no trade; sizes in contracts or shares, whole in both worlds.
    ``model`` is None for underlyings and where no model tick is sent at all.
    """

    bid: float | None = None
    bid_size: float = 0
    ask: float | None = None
    ask_size: float = 0
    last: float | None = None
    last_size: float = 0
    volume: float | None = None
    open: float | None = None
    high: float | None = None
    low: float | None = None
    model: Model | None = None


NO_QUOTE = Quote()


class QuoteTicks(NamedTuple):
    """What stood in one session, in time order; shape (n,) each.

    ``at``: seconds since 1970; ``bid``, ``ask``: dollars, standing until the next tick; NaN: no market on that side.
    """

    at: Floats
    bid: Floats
    ask: Floats


class TradeTicks(NamedTuple):
    """What was traded in one session, in time order; shape (n,) each.

    ``at``: seconds since 1970; ``price``: dollars; ``size``: shares or contracts, in ``trades`` trades. Both are 0
    where a price is seen without a known trade, as that of an index.
    """

    at: Floats
    price: Floats
    size: Ints
    trades: Ints


NO_QUOTE_TICKS = QuoteTicks(*[np.empty(0)] * 3)
NO_TRADE_TICKS = TradeTicks(np.empty(0), np.empty(0), *[np.empty(0, dtype=np.int64)] * 2)


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

    def underlyings(self, now: datetime | None = None) -> Sequence[Underlying]:
        """All underlyings as they are called at `now` (None: in the end), by symbol."""
        ...

    def underlying(self, symbol: str, now: datetime | None = None) -> Underlying | None:
        """The underlying that is called `symbol` at `now` (None: at some time)."""
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

    def years_left(self, option: Option, instant: datetime) -> float:
        """Years (ACT/365) from `instant` to the expiry, as the option model counts them; at least a minute."""
        ...

    def volatility(self, underlying: Underlying, instant: datetime) -> Volatility | None:
        """Historical and implied volatility, where the world knows them."""
        ...

    def quote_ticks(self, instrument: Instrument, session: Session, looks: Floats) -> QuoteTicks:
        """The quotes of a session up to the last of `looks`.

        `looks` are instants from the open on, seconds since 1970: a world that has a quote at every instant shows those
        at `looks`, one of recorded quotes all that were recorded.
        """
        ...

    def trade_ticks(self, instrument: Instrument, session: Session, looks: Floats) -> TradeTicks:
        """The trades of a session up to the last of `looks`; of an instrument that always trades, by `looks`."""
        ...

    def history_from(self, instrument: Instrument) -> date:
        """The first date of which there can be ticks."""
        ...

    def split_ratio(self, instrument: Instrument, day: date, now: date) -> float:
        """Shares of the date `now` that one share of the date `day` has become by splits."""
        ...
