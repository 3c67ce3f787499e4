"""IB's limits on lines and messages, as the clients report them: 20 lines, 50 messages a second."""

from conftest import Connect
from driver import Client, Terms
from gateway import Gateway

STOCK = Terms("AAPL", "STK")
LINES, RATE = 20, 50
# Twice as fast as messages are allowed, so that of ten messages some are too many but not three at a time.
PAUSE_SECONDS = 0.01


def exceed(client: Client, times: int) -> None:
    """Send messages until the client has been told `times` times that it sends too many, or has been closed."""
    client.unthrottle()
    # a client that has just connected has used some of the first second's messages
    client.ask_time(RATE - 10)
    for _ in range(20 * RATE):
        if len(client.errors()) >= times or not client.connected:
            return
        client.ask_time(1)
        client.pause(PAUSE_SECONDS)


def test_a_request_beyond_the_lines_is_reported_as_101_and_nothing_else_happens(
    limited: Gateway, connect: Connect
) -> None:
    client = connect(limited)
    (chain,) = [row for row in client.option_parameters("AAPL", 265598).rows if row.exchange == "SMART"][:1]
    found = client.contract_details(Terms("AAPL", "OPT", min(chain.expirations), right="C")).rows
    contracts = [row.contract for row in found[: LINES + 1]]
    assert len(contracts) == LINES + 1
    *running, refused = [client.subscribe(contract) for contract in contracts]
    client.wait(lambda: client.codes_of(refused.req_id) == [101])
    client.wait(lambda: all(one.quote.bid is not None for one in running))
    assert refused.updates == 0
    assert [report.req_id for report in client.errors()] == [refused.req_id]
    client.cancel(running[0])
    again = client.subscribe(contracts[-1])
    client.wait(lambda: again.quote.bid is not None)


def test_lines_are_shared_by_all_clients_and_freed_by_a_disconnect(limited: Gateway, connect: Connect) -> None:
    first, second = connect(limited), connect(limited)
    found = first.contract_details(Terms("MSFT", "OPT", "202612", right="C")).rows
    contracts = [row.contract for row in found[: LINES + 1]]
    for contract in contracts[:LINES]:
        first.subscribe(contract)
    # a message that is answered tells that those before it have been read
    first.current_time()
    refused = second.subscribe(contracts[LINES])
    second.wait(lambda: second.codes_of(refused.req_id) == [101])
    first.disconnect()
    second.wait(lambda: limited.control(op="stats")["lines_in_use"] == 0, 2.0)
    accepted = second.subscribe(contracts[LINES - 1])
    second.wait(lambda: accepted.quote.bid is not None)


def test_a_message_over_the_rate_is_reported_as_100_and_the_session_goes_on(limited: Gateway, connect: Connect) -> None:
    client = connect(limited)
    exceed(client, 1)
    report, *more = client.errors()
    assert len(more) < 2
    assert (report.req_id, report.code) == (-1, 100)
    assert report.text.startswith("Max rate of messages per second has been exceeded")
    client.pause(1.2)
    assert client.current_time()
    assert client.connected


def test_the_third_excess_ends_the_session(limited: Gateway, connect: Connect) -> None:
    client, other = connect(limited), connect(limited)
    exceed(client, 4)
    client.wait(lambda: not client.connected)
    assert [(report.req_id, report.code) for report in client.errors()] == [(-1, 100)] * 3
    assert other.current_time()
