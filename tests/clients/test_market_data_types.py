"""Market data types 1 to 4, while the market is open and after its close."""

import pytest
from conftest import Connect
from driver import Client, Quote, Subscription, Terms
from gateway import Gateway

CALL = Terms("AAPL", "OPT", "20261218", 100, "C")
AFTER_THE_CLOSE = "2026-11-20T21:30:00Z"
# Tick types of bid, ask and last: live and frozen, delayed and delayed frozen (TWS API, available tick types).
LIVE, DELAYED = {1, 2, 4}, {66, 67, 68}


def stream(client: Client, data_type: int) -> Subscription:
    """A subscription under `data_type`, with all of its first ticks."""
    (contract,) = client.qualify([CALL])
    assert contract is not None
    client.market_data_type(data_type)
    subscription = client.subscribe(contract, "101")
    client.wait(lambda: subscription.quote.call_open_interest is not None)
    return subscription


def prices(quote: Quote) -> tuple[float | None, ...]:
    return quote.bid, quote.ask, quote.last


@pytest.mark.parametrize(("asked", "reported", "ticks"), [(1, 1, LIVE), (2, 1, LIVE), (3, 3, DELAYED), (4, 3, DELAYED)])
def test_while_the_market_is_open(
    recorded: Gateway, connect: Connect, asked: int, reported: int, ticks: set[int]
) -> None:
    subscription = stream(connect(recorded), asked)
    assert subscription.quote.data_type == reported
    assert subscription.tick_types & (LIVE | DELAYED) == ticks
    assert prices(subscription.quote) == (3.2, 3.4, 3.3)
    assert subscription.quote.model is not None


@pytest.mark.parametrize(("asked", "reported", "ticks"), [(2, 2, LIVE), (4, 4, DELAYED)])
def test_frozen_data_after_the_close_are_the_last_quotes(
    recorded: Gateway, connect: Connect, asked: int, reported: int, ticks: set[int]
) -> None:
    recorded.set_clock(AFTER_THE_CLOSE)
    subscription = stream(connect(recorded), asked)
    assert subscription.quote.data_type == reported
    assert subscription.tick_types & (LIVE | DELAYED) == ticks
    assert prices(subscription.quote) == (4.0, 4.2, 4.1)
    assert subscription.quote.model is not None


@pytest.mark.parametrize(("asked", "reported"), [(1, 1), (3, 3)])
def test_live_and_delayed_data_after_the_close_have_no_quotes(
    recorded: Gateway, connect: Connect, asked: int, reported: int
) -> None:
    recorded.set_clock(AFTER_THE_CLOSE)
    subscription = stream(connect(recorded), asked)
    assert subscription.quote.data_type == reported
    assert prices(subscription.quote) == (-1.0, -1.0, 4.1)
    assert subscription.quote.model is None


def test_a_running_subscription_turns_frozen_at_the_close(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    subscription = stream(client, 2)
    assert subscription.quote.data_type == 1
    recorded.set_clock(AFTER_THE_CLOSE)
    client.wait(lambda: subscription.quote.data_type == 2)
    client.wait(lambda: prices(subscription.quote) == (4.0, 4.2, 4.1))


def test_a_type_counts_for_the_requests_after_it(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    live, delayed = stream(client, 1), stream(client, 3)
    assert (live.tick_types & LIVE, delayed.tick_types & LIVE) == (LIVE, set())


def test_a_type_that_is_none_is_reported_as_321(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    client.market_data_type(5)
    client.wait(client.errors)
    assert [report.code for report in client.errors()] == [321]
