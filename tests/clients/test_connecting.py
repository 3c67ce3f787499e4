"""From the greeting to the first request."""

import time
from datetime import UTC, datetime

from conftest import Connect
from gateway import Gateway

# What TWS asks and tells by itself is over long before a client's time-outs of 4 s each (ib_insync, ib_async).
PROMPT_SECONDS = 2.0
# The official client's reader looks at its socket once a second, and keeps it open until then.
LETTING_GO_SECONDS = 1.2


def test_client_and_gateway_agree_on_the_highest_version_both_speak(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    assert client.server_version == client.version


def test_all_that_a_client_asks_on_connecting_is_answered_promptly(market: Gateway, connect: Connect) -> None:
    started = time.monotonic()
    connect(market)
    assert time.monotonic() - started < PROMPT_SECONDS


def test_the_account_says_that_it_is_simulated(market: Gateway, connect: Connect) -> None:
    (account,) = connect(market).accounts
    assert account.startswith("SIM")


def test_the_farms_are_reported_to_be_fine(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    client.wait(lambda: {2104, 2106, 2158} <= {report.code for report in client.reports})
    assert {report.req_id for report in client.reports} == {-1}
    assert client.errors() == []


def test_the_current_time_is_the_market_clock(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    assert client.current_time() == datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
    market.set_clock("2026-11-20T20:59:59Z")
    assert client.current_time() == datetime(2026, 11, 20, 20, 59, 59, tzinfo=UTC)


def test_an_account_without_positions_and_orders_has_ends_of_its_lists(market: Gateway, connect: Connect) -> None:
    assert connect(market).account_summary() == {"positions": 0, "orders": 0, "completed orders": 0, "executions": 0}


def test_a_client_id_in_use_is_reported_as_326_and_the_connection_closed(market: Gateway, connect: Connect) -> None:
    first = connect(market, client_id=7777)
    second = connect.refused(market, client_id=7777)
    assert [(report.req_id, report.code) for report in second.errors()] == [(-1, 326)]
    assert not second.connected
    assert first.current_time()
    first.disconnect()
    first.pause(LETTING_GO_SECONDS)
    assert connect(market, client_id=7777).connected


def test_a_gateway_takes_thirty_two_clients(limited: Gateway, connect: Connect) -> None:
    clients = [connect(limited) for _ in range(32)]
    refused = connect.refused(limited)
    assert len(refused.errors()) == 1
    assert all(client.connected for client in clients)
    clients[0].disconnect()
    clients[1].pause(LETTING_GO_SECONDS)
    assert connect(limited).connected
