"""An index and its two classes of options, and mini options beside standard ones."""

from conftest import Connect
from driver import Client, Terms
from gateway import Gateway

# IB's ids.
SPX, AAPL = 416904, 265598
INDEX = Terms("SPX", "IND", exchange="CBOE")


def calls(client: Client, **terms: str) -> list[Terms]:
    return [row.contract for row in client.contract_details(Terms("SPX", "OPT", right="C", **terms)).rows]


def test_an_index(market: Gateway, connect: Connect) -> None:
    (found,) = connect(market).contract_details(INDEX).rows
    contract = found.contract
    assert (contract.conid, contract.sec_type, contract.exchange) == (SPX, "IND", "CBOE")
    assert found.stock_type == ""


def test_an_index_has_a_last_price_and_neither_bid_nor_ask(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    (index,) = client.qualify([INDEX])
    assert index is not None
    subscription = client.subscribe(index)
    client.wait(lambda: subscription.quote.close is not None)
    client.wait(lambda: subscription.quote.last is not None)
    quote = subscription.quote
    assert (quote.last or 0) > 1000
    assert {quote.bid, quote.ask} <= {None, -1.0}


def test_morning_and_evening_classes_have_their_own_expiries(market: Gateway, connect: Connect) -> None:
    """SPX trades until the day before the third Friday, SPXW until the day of its expiry (Cboe).

    The third Friday of December 2026 is the 18th.
    """
    rows = connect(market).option_parameters("SPX", SPX, "IND").rows
    classes = {row.trading_class: row for row in rows if row.exchange == "SMART"}
    assert classes.keys() == {"SPX", "SPXW"}
    assert {row.multiplier for row in rows} == {"100"}
    assert "20261217" in classes["SPX"].expirations
    assert "20261218" not in classes["SPX"].expirations
    assert {"20261217", "20261218"} <= classes["SPXW"].expirations


def test_the_local_symbol_carries_the_expiry_not_the_last_trade_day(market: Gateway, connect: Connect) -> None:
    found = calls(connect(market), expiry="20261217", trading_class="SPX")
    assert found
    for contract in found:
        assert contract.expiry == "20261217"
        assert contract.local_symbol == f"SPX   261218C{round(contract.strike * 1000):08d}"


def test_without_a_trading_class_an_index_option_is_ambiguous(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    morning = {contract.strike for contract in calls(client, expiry="20261217", trading_class="SPX")}
    evening = {contract.strike for contract in calls(client, expiry="20261217", trading_class="SPXW")}
    strike = min(morning & evening)
    ambiguous = Terms("SPX", "OPT", "20261217", strike, "C")
    exact = Terms("SPX", "OPT", "20261217", strike, "C", trading_class="SPXW")
    neither, one = client.qualify([ambiguous, exact])
    assert neither is None
    assert one is not None
    assert one.local_symbol.startswith("SPXW  261217C")


def test_mini_options_are_a_class_of_ten_shares(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    rows = client.option_parameters("AAPL", AAPL).rows
    assert {(row.trading_class, row.multiplier) for row in rows} == {("AAPL", "100"), ("AAPL7", "10")}
    minis = client.contract_details(Terms("AAPL", "OPT", "20261218", right="P", trading_class="AAPL7")).rows
    assert minis
    for row in minis:
        assert (row.contract.symbol, row.contract.multiplier, row.under_conid) == ("AAPL", "10", AAPL)
        assert row.contract.local_symbol.startswith("AAPL7 261218P")
