"""Streaming market data of a day whose every quote is written down in recorded_day.csv."""

from dataclasses import astuple
from datetime import UTC, datetime
from math import erf, exp, log, pi, sqrt

import pytest
from conftest import Connect
from driver import Client, Model, Quote, Subscription, Terms
from gateway import Gateway

CALL = Terms("AAPL", "OPT", "20261218", 100, "C")
PUT = Terms("AAPL", "OPT", "20261218", 100, "P")
NO_BID = Terms("AAPL", "OPT", "20261218", 140, "C")
NO_MARKET = Terms("AAPL", "OPT", "20261218", 60, "P")
STOCK = Terms("AAPL", "STK")
# A price that is none, and a number that is none, as TWS writes them.
NO_PRICE, UNSET = -1.0, 1.7976931348623157e308
# Longer than the gateway's latency of 5 to 40 ms, many times over.
SILENCE_SECONDS = 0.4


def qualified(client: Client, *terms: Terms) -> list[Terms]:
    """The contracts, which all exist."""
    found = client.qualify(terms)
    assert None not in found
    return [one for one in found if one is not None]


def stream(client: Client, terms: Terms, generics: str = "101") -> Subscription:
    """A subscription that has its open interest, the last of an option's first ticks."""
    subscription = client.subscribe(qualified(client, terms)[0], generics)
    client.wait(lambda: subscription.quote.call_open_interest is not None)
    return subscription


# -- quotes ------------------------------------------------------------------------------------------------------------


def test_a_call(recorded: Gateway, connect: Connect) -> None:
    quote = stream(connect(recorded), CALL).quote
    assert (quote.bid, quote.ask, quote.bid_size, quote.ask_size) == (3.2, 3.4, 11, 12)
    assert (quote.last, quote.volume) == (3.3, 150)
    assert (quote.call_open_interest, quote.put_open_interest) == (1200, 0)
    assert quote.data_type == 1
    assert quote.min_tick in (0.01, 0.05)


def test_a_put_whose_open_interest_is_zero(recorded: Gateway, connect: Connect) -> None:
    quote = stream(connect(recorded), PUT).quote
    assert (quote.bid, quote.ask, quote.bid_size, quote.ask_size) == (3.1, 3.3, 21, 22)
    assert (quote.last, quote.volume) == (3.25, 90)
    assert (quote.call_open_interest, quote.put_open_interest) == (0, 0)


def test_an_option_that_nobody_bids_for(recorded: Gateway, connect: Connect) -> None:
    quote = stream(connect(recorded), NO_BID).quote
    assert (quote.bid, quote.bid_size) == (NO_PRICE, 0)
    assert (quote.ask, quote.ask_size) == (0.05, 40)
    assert quote.call_open_interest == 300


def test_an_option_without_a_market_has_a_model_without_values(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    subscription = client.subscribe(*qualified(client, NO_MARKET), "101")
    client.wait(lambda: subscription.quote.model is not None)
    quote, model = subscription.quote, subscription.quote.model
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (NO_PRICE, 0, NO_PRICE, 0)
    assert quote.last is None
    assert model is not None
    assert {model.iv, model.delta, model.gamma, model.vega, model.theta, model.price} == {UNSET}


def test_a_stock(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    subscription = client.subscribe(*qualified(client, STOCK))
    client.wait(lambda: subscription.quote.close is not None)
    client.wait(lambda: subscription.quote.last is not None)
    assert (subscription.quote.last, subscription.quote.close) == (100.0, 99.5)


def test_volatilities_of_a_stock_come_with_generic_ticks_104_and_106(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    subscription = client.subscribe(*qualified(client, STOCK), "104,106")
    client.wait(lambda: subscription.quote.implied_volatility is not None)
    quote = subscription.quote
    assert quote.historical_volatility is not None
    assert 0.01 < quote.historical_volatility < 3
    assert 0.01 < (quote.implied_volatility or 0) < 3
    assert quote.bid is not None
    assert quote.ask is not None
    assert quote.bid < quote.ask


@pytest.mark.parametrize(("terms", "volumes"), [(CALL, (150, 0)), (PUT, (0, 90))], ids=["call", "put"])
def test_an_option_asked_for_with_100_101_and_106_has_its_volume_by_right(
    recorded: Gateway, connect: Connect, terms: Terms, volumes: tuple[int, int]
) -> None:
    client = connect(recorded)
    subscription = stream(client, terms, "100,101,106")
    client.wait(lambda: subscription.quote.put_volume is not None)
    assert (subscription.quote.call_volume, subscription.quote.put_volume) == volumes
    assert subscription.quote.implied_volatility is None
    assert client.errors() == []


def test_without_generic_tick_101_no_open_interest_comes(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    subscription = client.subscribe(*qualified(client, CALL))
    client.wait(lambda: subscription.quote.model is not None)
    client.pause(SILENCE_SECONDS)
    assert (subscription.quote.call_open_interest, subscription.quote.put_open_interest) == (None, None)


def test_a_change_of_the_market_reaches_the_subscriber(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    subscription = stream(client, CALL)
    recorded.set_clock("2026-11-20T20:00:00Z")
    client.wait(lambda: subscription.quote.bid == 4.0)
    client.wait(lambda: subscription.quote.volume == 400)
    quote = subscription.quote
    assert (quote.ask, quote.bid_size, quote.ask_size, quote.last) == (4.2, 31, 32, 4.1)


def test_many_contracts_at_once_each_get_their_own_quotes(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    subscriptions = [client.subscribe(terms, "101") for terms in qualified(client, CALL, PUT, NO_BID)]
    client.wait(lambda: all(one.quote.call_open_interest is not None for one in subscriptions))
    assert [one.quote.ask for one in subscriptions] == [3.4, 3.3, 0.05]
    assert len({one.req_id for one in subscriptions}) == 3


# -- greeks ------------------------------------------------------------------------------------------------------------


def black_scholes(right: str, spot: float, strike: float, years: float, iv: float) -> Model:
    """Black and Scholes (1973) without interest: vega for a point of volatility, theta for a day, as IB has them."""
    d1 = (log(spot / strike) + iv * iv * years / 2) / (iv * sqrt(years))
    d2 = d1 - iv * sqrt(years)
    density = exp(-d1 * d1 / 2) / sqrt(2 * pi)
    n1, n2 = ((1 + erf(d / sqrt(2))) / 2 for d in (d1, d2))
    price = spot * n1 - strike * n2 if right == "C" else strike * (1 - n2) - spot * (1 - n1)
    return Model(
        iv=iv,
        delta=n1 if right == "C" else n1 - 1,
        price=price,
        pv_dividend=0.0,
        gamma=density / (spot * iv * sqrt(years)),
        vega=spot * density * sqrt(years) / 100,
        theta=-spot * density * iv / (2 * sqrt(years)) / 365,
        underlying=spot,
    )


@pytest.mark.parametrize(("terms", "mid"), [(CALL, 3.3), (PUT, 3.2)], ids=["call", "put"])
def test_greeks_are_those_of_the_mid_price(recorded: Gateway, connect: Connect, terms: Terms, mid: float) -> None:
    """Held against the closed form; the option lives from the row's 09:31 to 16:00 New York of its last day."""
    model = stream(connect(recorded), terms).quote.model
    assert model is not None
    assert model.iv is not None
    life = datetime(2026, 12, 18, 21, 0, tzinfo=UTC) - datetime(2026, 11, 20, 14, 31, tzinfo=UTC)
    expected = black_scholes(terms.right, 100.0, 100.0, life.total_seconds() / (365 * 86400), model.iv)
    assert expected.price == pytest.approx(mid, abs=1e-4)
    assert astuple(model) == pytest.approx(astuple(expected), rel=1e-3, abs=1e-6)


# -- cancelling --------------------------------------------------------------------------------------------------------


def test_nothing_arrives_after_a_cancel(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    gone, kept = stream(client, CALL), stream(client, PUT)
    client.cancel(gone)
    # a message that is answered tells that the cancel has been read
    client.current_time()
    before = gone.updates, gone.quote
    recorded.set_clock("2026-11-20T20:00:00Z")
    client.wait(lambda: kept.quote.bid == 2.5)
    client.pause(SILENCE_SECONDS)
    assert (gone.updates, gone.quote) == before
    assert client.errors() == []


def test_a_cancel_before_the_first_tick_stops_that_too(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    (contract,) = qualified(client, CALL)
    subscription = client.subscribe(contract, "101")
    client.cancel(subscription)
    client.pause(SILENCE_SECONDS)
    assert subscription.quote.model is None
    assert subscription.quote.call_open_interest is None
    assert client.errors() == []


def test_a_cancelled_contract_can_be_subscribed_again(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    first = stream(client, CALL)
    client.cancel(first)
    second = stream(client, CALL)
    assert second.req_id != first.req_id
    assert second.quote == Quote(**{**vars(second.quote), "bid": 3.2, "ask": 3.4})
