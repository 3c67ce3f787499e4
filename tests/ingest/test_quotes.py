"""Sentinels of IB never become values."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.broker.library import OptionComputation, Ticker
from ingest.broker.quotes import Quote, quote_of

UNSET = 1.7976931348623157e308
SENTINEL = st.sampled_from(
    [math.nan, UNSET, -1.0, -2.0, -999.0, math.inf, -math.inf, 2147483647.0, 9223372036854775807.0]
)


def ticker(**values: float | OptionComputation) -> Ticker:
    # ib_async's constructor overwrites what it is given
    made = Ticker()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def model(**values: float | None) -> OptionComputation:
    names = ("tickAttrib", "impliedVol", "delta", "optPrice", "pvDividend", "gamma", "vega", "theta", "undPrice")
    return OptionComputation(**{name: values.get(name) for name in names})


@given(SENTINEL, SENTINEL, SENTINEL, SENTINEL)
def test_prices_and_sizes_that_are_sentinels_become_null(bid: float, ask: float, last: float, volume: float) -> None:
    quote = quote_of(ticker(bid=bid, ask=ask, last=last, volume=volume, close=-1.0), "C")
    assert (quote.bid, quote.ask, quote.last, quote.volume, quote.close) == (None,) * 5
    assert quote.bid_seen == (not math.isnan(bid))


@pytest.mark.parametrize(
    ("bid", "size", "stored", "market"),
    [
        (-1.0, 0, None, True),  # nobody bids
        (0.0, 0, None, True),  # the other way to say so
        (0.0, 5, 0.0, True),  # a bid of nothing for five contracts is a bid
        (1.0, 5, 1.0, True),
        (1.2, 5, 1.2, False),  # crossed
        (math.nan, math.nan, None, False),  # a bid tick that never came is not "no bid"
        (-0.05, 5, None, False),  # nor is a price that no bid can have
        (0.0, math.nan, 0.0, True),  # and only a size that came says that it is for nothing
    ],
)
def test_a_zero_bid_option_has_a_market_and_a_silent_side_has_none(
    bid: float, size: float, stored: float | None, market: bool
) -> None:
    quote = quote_of(ticker(bid=bid, bidSize=size, ask=1.1, askSize=3), "P")
    assert (quote.bid, quote.has_market) == (stored, market)


def test_minus_one_is_a_delta_and_minus_two_is_not_computed() -> None:
    greeks = model(
        impliedVol=0.2, delta=-1.0, gamma=-2.0, vega=-2.0, theta=-2.0, optPrice=-1.0, pvDividend=0.0, undPrice=UNSET
    )
    quote = quote_of(ticker(modelGreeks=greeks), "P")
    assert (quote.iv, quote.delta, quote.pv_dividend) == (0.2, -1.0, 0.0)
    assert (quote.gamma, quote.vega, quote.theta, quote.model_price, quote.underlying_price) == (None,) * 5
    assert quote.has_model
    assert not quote_of(ticker(modelGreeks=model()), "P").has_model


@pytest.mark.parametrize("value", [2147483647.0, 9223372036854775807.0, UNSET, math.inf, 1e39, math.nan, -999.0])
def test_what_no_column_holds_or_ib_calls_unset_is_null_wherever_it_comes(value: float) -> None:
    names = ("impliedVol", "delta", "optPrice", "pvDividend", "gamma", "vega", "theta", "undPrice")
    sides = ("bid", "ask", "last", "close", "bidSize", "askSize", "lastSize", "volume", "callOpenInterest")
    quote = quote_of(
        ticker(
            modelGreeks=model(**dict.fromkeys(names, value)),
            marketDataType=value,
            histVolatility=value,
            impliedVolatility=value,
            **dict.fromkeys(sides, value),
        ),
        "C",
    )
    told = {name: getattr(quote, name) for name in Quote.__slots__ if name not in ("bid_seen", "ask_seen")}
    assert set(told.values()) == {None}


def test_open_interest_is_of_the_options_own_right_and_zero_is_a_value() -> None:
    both = ticker(callOpenInterest=0.0, putOpenInterest=12.0)
    assert (quote_of(both, "C").open_interest, quote_of(both, "P").open_interest) == (0, 12)
    assert quote_of(both, None).open_interest is None
