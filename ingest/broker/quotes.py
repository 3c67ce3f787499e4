"""What a subscription has shown so far, with every sentinel of IB turned into None."""

import math
from dataclasses import dataclass

from ingest.broker.library import Ticker
from lake.sentinels import is_impossible_price, known, known_count


@dataclass(frozen=True, slots=True)
class Quote:
    """Values of one contract at one moment; None where nothing, or a sentinel, has arrived.

    Prices are dollars a share, sizes contracts. `bid_seen` and `ask_seen` say whether a tick of that side arrived at
    all, be it one that says that there is no market on that side; a bid below 0 that is no sentinel (-0.05) is neither.
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
    market_data_type: int | None

    @property
    def has_market(self) -> bool:
        """Whether both sides have been told and there is something to buy: a bid is not needed."""
        return self.bid_seen and self.ask is not None and (self.bid is None or self.bid <= self.ask)

    @property
    def anything_traded(self) -> bool:
        """Whether anything of the market itself was told: a side, or a trade."""
        return self.bid_seen or self.ask_seen or self.last is not None

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
        ask=_positive("ask", ticker.ask),
        last=_positive("last", ticker.last),
        bid_seen=not math.isnan(ticker.bid) and not is_impossible_price(ticker.bid),
        ask_seen=not math.isnan(ticker.ask),
        bid_size=known_count("bid_size", ticker.bidSize),
        ask_size=known_count("ask_size", ticker.askSize),
        last_size=known_count("last_size", ticker.lastSize),
        volume=known_count("volume", ticker.volume),
        close=_positive("close", ticker.close),
        iv=_positive("iv", model.impliedVol) if model else None,
        delta=known("delta", model.delta) if model else None,
        gamma=known("gamma", model.gamma) if model else None,
        theta=known("theta", model.theta) if model else None,
        vega=known("vega", model.vega) if model else None,
        model_price=known("model_price", model.optPrice) if model else None,
        pv_dividend=known("pv_dividend", model.pvDividend) if model else None,
        underlying_price=_positive("underlying_price", model.undPrice) if model else None,
        open_interest=known_count("open_interest", interest),
        hist_volatility=_positive("hist_volatility", ticker.histVolatility),
        implied_volatility=_positive("implied_volatility", ticker.impliedVolatility),
        market_data_type=known_count("market_data_type", ticker.marketDataType),
    )


def _positive(column: str, value: float | None) -> float | None:
    # Where a tick brings 0 for one of these, IB says that there is none.
    return known(column, value) or None


def _bid(price: float, size: float) -> float | None:
    # A bid of 0 with a size is a real bid; for 0 contracts it says, as -1 does, that nobody bids.
    bid = known("bid", price)
    return None if bid == 0 and known_count("bid_size", size) == 0 else bid
