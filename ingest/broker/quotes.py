"""What a subscription has shown so far, with every sentinel of IB turned into None."""

import math
from dataclasses import dataclass

from ingest.broker.library import Ticker

# Unset doubles arrive as the largest double (1.7976931348623157E308).
UNSET = 1e300


@dataclass(frozen=True, slots=True)
class Quote:
    """Values of one contract at one moment; None where nothing, or a sentinel, has arrived.

    Prices are dollars a share, sizes contracts. `bid_seen` and `ask_seen` say whether a tick of that side arrived at
    all, be it one that says that there is no market on that side.
    """

    bid: float | None
    ask: float | None
    last: float | None
    bid_seen: bool
    ask_seen: bool
    bid_size: int | None
    ask_size: int | None
    last_size: int | None
    volume: int | None
    close: float | None
    iv: float | None
    delta: float | None
    gamma: float | None
    theta: float | None
    vega: float | None
    model_price: float | None
    pv_dividend: float | None
    underlying_price: float | None
    open_interest: int | None
    hist_volatility: float | None
    implied_volatility: float | None
    market_data_type: int

    @property
    def has_market(self) -> bool:
        """Whether both sides have been told and there is something to buy: a bid is not needed."""
        return self.bid_seen and self.ask is not None and (self.bid is None or self.bid <= self.ask)

    @property
    def has_model(self) -> bool:
        """Whether the model has answered: IB's first model tick may be empty."""
        return self.iv is not None and self.delta is not None


def quote_of(ticker: Ticker, right: str | None) -> Quote:
    """The quote in `ticker`; `right` (C, P, or None for an underlying) picks the side of the open interest."""
    model = ticker.modelGreeks
    interest = {"C": ticker.callOpenInterest, "P": ticker.putOpenInterest}.get(right or "")
    return Quote(
        bid=_bid(ticker.bid, ticker.bidSize),
        ask=_positive(ticker.ask),
        last=_positive(ticker.last),
        bid_seen=not math.isnan(ticker.bid),
        ask_seen=not math.isnan(ticker.ask),
        bid_size=_count(ticker.bidSize),
        ask_size=_count(ticker.askSize),
        last_size=_count(ticker.lastSize),
        volume=_count(ticker.volume),
        close=_positive(ticker.close),
        iv=_positive(model.impliedVol) if model else None,
        delta=_model(model.delta) if model else None,
        gamma=_model(model.gamma) if model else None,
        theta=_model(model.theta) if model else None,
        vega=_model(model.vega) if model else None,
        model_price=_not_negative(model.optPrice) if model else None,
        pv_dividend=_not_negative(model.pvDividend) if model else None,
        underlying_price=_positive(model.undPrice) if model else None,
        open_interest=_count(interest),
        hist_volatility=_positive(ticker.histVolatility),
        implied_volatility=_positive(ticker.impliedVolatility),
        market_data_type=ticker.marketDataType,
    )


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) or abs(value) >= UNSET else float(value)


def _positive(value: float | None) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None


def _not_negative(value: float | None) -> float | None:
    number = _number(value)
    return number if number is not None and number >= 0 else None


def _model(value: float | None) -> float | None:
    # -2 is "not computed"; -1 is a delta.
    number = _number(value)
    return None if number == -2 else number


def _bid(price: float, size: float) -> float | None:
    # A bid of 0 with a size is a real bid; without one it says, as -1 does, that nobody bids.
    bid = _not_negative(price)
    return None if bid == 0 and not _count(size) else bid


def _count(value: float | None) -> int | None:
    number = _not_negative(value)
    return None if number is None else int(number)
