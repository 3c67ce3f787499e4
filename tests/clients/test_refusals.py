"""Market data requests and orders that are refused, and what the client reports."""

import pytest
from conftest import Connect
from driver import Client, Terms
from gateway import Gateway

STOCK = Terms("AAPL", "STK")
CALL = Terms("AAPL", "OPT", "20261218", 100, "C")
UNKNOWN = Terms(conid=999_999_999)
SILENCE_SECONDS = 0.3


def option(client: Client) -> Terms:
    (found,) = client.qualify([CALL])
    assert found is not None
    return found


def stock(client: Client) -> Terms:
    (found,) = client.qualify([STOCK])
    assert found is not None
    return found


# -- snapshots ---------------------------------------------------------------------------------------------------------


def test_a_snapshot_ends_when_it_is_complete(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    snapshot = client.subscribe(option(client), snapshot=True)
    client.wait(lambda: snapshot.ended, 2.0)
    assert (snapshot.quote.bid, snapshot.quote.ask, snapshot.quote.last) == (3.2, 3.4, 3.3)
    assert client.errors() == []


def test_a_snapshot_that_stays_incomplete_ends_after_eleven_seconds(recorded: Gateway, connect: Connect) -> None:
    """Eleven seconds: TWS API, market data snapshots."""
    client = connect(recorded)
    (no_bid,) = client.qualify([Terms("AAPL", "OPT", "20261218", 140, "C")])
    assert no_bid is not None
    snapshot = client.subscribe(no_bid, snapshot=True)
    assert not client.wait_if(lambda: snapshot.ended, 10.0)
    client.wait(lambda: snapshot.ended, 2.0)
    assert snapshot.quote.ask == 0.05


def test_generic_ticks_in_a_snapshot_are_reported_as_321(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    refused = client.subscribe(option(client), "101", snapshot=True)
    client.wait(lambda: client.codes_of(refused.req_id) == [321])
    assert "not applicable to generic ticks" in client.reports_of(refused.req_id)[0].text


# -- market data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generics", ["101,9999", "104", "one"], ids=["unknown", "of stocks only", "no number"])
def test_a_wrong_generic_tick_is_reported_as_321(recorded: Gateway, connect: Connect, generics: str) -> None:
    client = connect(recorded)
    refused = client.subscribe(option(client), generics)
    client.wait(lambda: client.codes_of(refused.req_id) == [321])
    assert "Incorrect generic tick list" in client.reports_of(refused.req_id)[0].text
    assert refused.updates == 0


def test_a_generic_tick_that_delayed_data_do_not_have_is_reported_as_321(recorded: Gateway, connect: Connect) -> None:
    """Delayed data take 101, 106, 165, 221, 232, 236 and 258 only (IB's note on delayed data)."""
    client = connect(recorded)
    contract = option(client)
    client.market_data_type(3)
    refused = client.subscribe(contract, "100")
    client.wait(lambda: client.codes_of(refused.req_id) == [321])


def test_an_unknown_contract_is_reported_as_200(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    refused = client.subscribe(UNKNOWN)
    client.wait(lambda: client.codes_of(refused.req_id) == [200])
    assert refused.updates == 0


def test_a_ticker_id_in_use_is_reported_as_322(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    first = client.subscribe(option(client))
    client.wait(lambda: first.quote.model is not None)
    client.subscribe_again(first, stock(client))
    client.wait(lambda: client.codes_of(first.req_id) == [322])
    recorded.set_clock("2026-11-20T20:00:00Z")
    client.wait(lambda: first.quote.bid == 4.0)


def test_cancelling_what_is_not_there_is_reported_as_300(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    client.cancel_id(4321)
    client.wait(lambda: client.codes_of(4321) == [300])
    assert client.reports_of(4321)[0].text == "Can't find EId with tickerId:4321"


# -- orders ------------------------------------------------------------------------------------------------------------


def test_an_order_is_refused(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    order_id = client.place_order(stock(client))
    client.wait(lambda: client.codes_of(order_id) == [321])
    client.pause(SILENCE_SECONDS)
    assert client.account_summary()["orders"] == 0
    assert client.connected
