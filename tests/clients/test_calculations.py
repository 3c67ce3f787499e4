"""What is calculated on request, and which exchanges stand behind letters."""

from math import erf, log, sqrt

import pytest
from conftest import Connect
from driver import Terms
from gateway import Gateway

CALL = Terms("AAPL", "OPT", "20261218", 100, "C")
PUT = Terms("AAPL", "OPT", "20261218", 100, "P")
# From 09:45 on 2026-11-20 to the close of 2026-12-18: 28 days, 6 hours and a quarter.
YEARS = (28 * 24 + 6.25) / 24 / 365


def value(spot: float, strike: float, volatility: float, sign: int) -> float:
    """The closed form at rates of 0, which are the gateway's default."""
    deviation = volatility * sqrt(YEARS)
    d1 = log(spot / strike) / deviation + deviation / 2
    share, cash = ((1 + erf(sign * d / sqrt(2))) / 2 for d in (d1, d1 - deviation))
    return sign * (spot * share - strike * cash)


@pytest.mark.parametrize(("terms", "sign"), [(CALL, 1), (PUT, -1)], ids=["call", "put"])
def test_a_price_out_of_a_volatility_and_back(recorded: Gateway, connect: Connect, terms: Terms, sign: int) -> None:
    client = connect(recorded)
    (priced,) = client.calculate_price(terms, 0.35, 103.0).rows
    wanted = value(103.0, 100.0, 0.35, sign)
    assert priced.price == pytest.approx(wanted, rel=1e-9)
    assert (priced.iv, priced.underlying) == (0.35, 103.0)
    assert priced.delta is not None
    assert 0 < sign * priced.delta < 1
    (implied,) = client.calculate_volatility(terms, wanted, 103.0).rows
    assert implied.iv == pytest.approx(0.35, abs=1e-7)


def test_a_price_that_no_volatility_gives_has_none(recorded: Gateway, connect: Connect) -> None:
    """A call cannot cost more than the share."""
    (implied,) = connect(recorded).calculate_volatility(CALL, 150.0, 103.0).rows
    # ib_insync and ib_async hand an unset double on as it is
    assert implied.iv is None or implied.iv > 1e300


def test_only_options_that_exist_are_calculated(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    strange = client.calculate_price(Terms("AAPL", "OPT", "20261218", 101, "C"), 0.35, 103.0)
    assert (strange.rows, client.codes_of(strange.req_id)) == ([], [200])
    stock = client.calculate_price(Terms("AAPL", "STK"), 0.35, 103.0)
    assert (stock.rows, client.codes_of(stock.req_id)) == ([], [321])


def test_the_exchange_map_that_ticks_name_can_be_read(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    option = client.contract_details(Terms("AAPL", "OPT", "202612", right="C", trading_class="AAPL")).rows[0]
    for terms, letters in (
        (Terms("AAPL", "STK", conid=265598), {"NASDAQ": "Q", "NYSE": "N", "ARCA": "P"}),
        (option.contract, {"CBOE": "C", "AMEX": "A"}),
    ):
        subscription = client.subscribe(terms)
        client.wait(lambda subscription=subscription: subscription.quote.exchange_map)
        key = subscription.quote.exchange_map
        client.cancel(subscription)
        assert key is not None
        rows = client.smart_components(key).rows
        assert letters.items() <= {exchange: letter for _, exchange, letter in rows}.items()
        assert len({bit for bit, _, _ in rows}) == len({letter for _, _, letter in rows}) == len(rows)
        (details,) = client.contract_details(terms).rows
        assert {exchange for _, exchange, _ in rows} <= set(details.valid_exchanges.split(","))


def test_an_unknown_exchange_map_is_refused(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    answer = client.smart_components("nosuch")
    assert (answer.rows, client.codes_of(answer.req_id)) == ([], [321])


def test_the_schedule_knows_holidays_early_closes_and_extended_hours(market: Gateway, connect: Connect) -> None:
    """2026-11-26 is Thanksgiving; on the day after it the session ends at 13:00, trading at 17:00."""
    market.set_clock("2026-11-27T19:00:00Z")
    client = connect(market)
    regular = client.historical_schedule(Terms("AAPL", "STK"), 2).rows
    assert regular == [
        ("20261125-09:30:00", "20261125-16:00:00", "20261125"),
        ("20261127-09:30:00", "20261127-13:00:00", "20261127"),
    ]
    extended = client.historical_schedule(Terms("AAPL", "STK"), 2, regular=False).rows
    assert [row[:2] for row in extended] == [
        ("20261125-04:00:00", "20261125-20:00:00"),
        ("20261127-04:00:00", "20261127-17:00:00"),
    ]
