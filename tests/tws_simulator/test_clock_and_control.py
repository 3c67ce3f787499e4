"""The market clock and the port that steps it."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from ib_insync import Stock

from tests.tws_simulator.conftest import OPEN_MARKET, ConnectClient, StartGateway
from tws_simulator import GatewayError, MarketClock, SimulatedGateway

AT = datetime(2015, 12, 24, 14, 31, tzinfo=UTC)


class Stopwatch:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_now_is_at_plus_speed_times_elapsed() -> None:
    watch = Stopwatch()
    clock = MarketClock(AT, 60, monotonic=watch)
    assert clock.now() == AT
    watch.seconds += 2.5
    assert clock.now() == AT + timedelta(seconds=150)


def test_a_stepped_clock_stands_still_until_it_is_set() -> None:
    watch = Stopwatch()
    clock = MarketClock(AT, 0, monotonic=watch)
    watch.seconds += 1000
    assert clock.now() == AT
    clock.set(AT + timedelta(hours=1))
    assert clock.now() == AT + timedelta(hours=1)


def test_a_change_of_speed_does_not_make_the_market_jump() -> None:
    watch = Stopwatch()
    clock = MarketClock(AT, 10, monotonic=watch)
    watch.seconds += 6
    clock.set_speed(0)
    watch.seconds += 50
    assert clock.now() == AT + timedelta(minutes=1)
    clock.set_speed(1)
    watch.seconds += 1
    assert clock.now() == AT + timedelta(seconds=61)


def test_without_an_instant_the_clock_starts_at_the_hosts_time() -> None:
    assert MarketClock(host_time=lambda: AT, monotonic=Stopwatch()).now() == AT


def test_refuses_an_instant_without_a_zone_and_a_negative_speed() -> None:
    with pytest.raises(GatewayError, match="no time zone"):
        MarketClock(datetime(2015, 12, 24, 9, 31))  # noqa: DTZ001
    with pytest.raises(GatewayError, match="speed -1"):
        MarketClock(AT, -1)


async def converse(gateway: SimulatedGateway, *requests: object) -> list[dict[str, object]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.control_port)
    for request in requests:
        writer.write((request if isinstance(request, bytes) else json.dumps(request).encode()) + b"\n")
    answers = [json.loads(await asyncio.wait_for(reader.readline(), 5)) for _ in requests]
    writer.close()
    return answers


async def test_the_control_port_is_for_this_host_whatever_address_clients_use(start_gateway: StartGateway) -> None:
    for host, bound in (("0.0.0.0", "127.0.0.1"), ("", "127.0.0.1"), ("127.0.0.2", "127.0.0.2")):
        gateway = await start_gateway(control_port=0, host=host)
        _, control = gateway._state.listener, gateway._listeners[-1]
        assert control._server is not None
        assert {each.getsockname()[0] for each in control._server.sockets} == {bound}


async def test_control_port_tells_and_sets_the_clock(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(control_port=0, at=AT)
    now, moved, faster = await converse(
        gateway, {"op": "now"}, {"op": "set", "at": "2015-12-24T10:00:00-05:00"}, {"op": "speed", "speed": 60}
    )
    assert now == {"ok": True, "now": "2015-12-24T14:31:00.000000Z", "speed": 0.0}
    assert moved["now"] == "2015-12-24T15:00:00.000000Z"
    assert faster["speed"] == 60.0
    client = await connect(gateway)
    assert abs((await client.reqCurrentTimeAsync()) - gateway.clock.now()) < timedelta(seconds=120)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (b"nonsense", "not JSON"),
        (b"[1]", "one JSON object"),
        ({"op": "jump"}, "none of now, set, speed, stats"),
        ({"op": "set", "at": "tomorrow"}, "no instant"),
        ({"op": "set", "at": "2015-12-24T14:31:00"}, "no time zone"),
        ({"op": "set", "at": "2051-12-24T14:31:00Z"}, "2030-12-31"),
        ({"op": "speed", "speed": "fast"}, "speed"),
        ({"op": "speed", "speed": -2}, "speed -2"),
    ],
)
async def test_control_port_says_what_was_wrong_and_does_nothing(
    start_gateway: StartGateway, request_: object, reason: str
) -> None:
    gateway = await start_gateway(control_port=0)
    refused, after = await converse(gateway, request_, {"op": "now"})
    assert refused["ok"] is False
    assert reason in str(refused["error"])
    assert (after["now"], after["speed"]) == ("2026-11-20T15:00:00.000000Z", 0.0)


async def test_stats_count_what_was_served(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(control_port=0)
    client = await connect(gateway)
    client.reqMktData(Stock("AAPL", "SMART", "USD"))
    await client.until(lambda: gateway.stats.subscriptions == 1)
    (stats,) = await converse(gateway, {"op": "stats"})
    # startApi, the six requests of connecting, and the subscription
    assert stats["messages"] == 8
    assert (stats["clients"], stats["lines_in_use"], stats["violations"]) == (1, 1, 0)


async def test_clients_learn_the_control_port_only_if_there_is_one(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    with_port, without = await start_gateway(control_port=0), await start_gateway()
    texts = []
    for gateway in (with_port, without):
        client = await connect(gateway)
        texts += [text for req_id, code, text in client.errors if (req_id, code) == (-1, 2199)]
    assert texts == [
        f"Chainlake simulated gateway; control port {with_port.control_port}",
        "Chainlake simulated gateway",
    ]


async def test_subscribers_get_new_quotes_when_the_clock_is_set(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway()
    client = await connect(gateway)
    ticker = client.reqMktData(Stock("AAPL", "SMART", "USD"))
    await client.until(lambda: ticker.close == ticker.close and ticker.ask == ticker.ask)
    before = ticker.bid, ticker.ask
    gateway.clock.set(OPEN_MARKET + timedelta(hours=3))
    await client.until(lambda: (ticker.bid, ticker.ask) != before)


async def test_subscribers_get_new_quotes_as_the_clock_runs(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway(speed=600)
    client = await connect(gateway)
    ticker = client.reqMktData(Stock("AAPL", "SMART", "USD"))
    seen: set[float] = set()
    ticker.updateEvent += lambda one: seen.add(one.last)
    await client.until(lambda: len(seen) > 3)


async def test_a_port_in_use_is_one_clear_error(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    with pytest.raises(GatewayError, match=f"port {gateway.port}.*choose a free port"):
        await start_gateway(port=gateway.port)
