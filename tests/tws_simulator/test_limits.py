"""IB's limits at, under and over each, and the switches for what IB leaves to a setting or does not state."""

import asyncio
import re
import socket
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tws_simulator.conftest import StartGateway
from tests.tws_simulator.raw import (
    CURRENT_TIME,
    CURRENT_TIME_ANSWER,
    ERROR,
    SNAPSHOT_END,
    START_API,
    TICK_PRICE,
    RawClient,
    errors,
    frame,
    greeting,
    market_data,
)
from tws_simulator import SimulatedGateway
from tws_simulator.connections.connection import ClientConnection
from tws_simulator.connections.limits import MessageBucket, MessageBudget

NOW = frame(CURRENT_TIME, 1)
# Details of every option on AAPL: an answer of a megabyte.
CHAIN = frame(9, 8, 1, 0, "AAPL", "OPT", "", 0, "", "", "SMART", "", "USD", "", "", 0, "", "")
CONTRACT_DETAILS_END = "52"
AFTER_THE_CLOSE = "2026-11-20T22:00:00Z"


class Stopwatch:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def conids(gateway: SimulatedGateway, count: int) -> list[int]:
    series = gateway.world.series(gateway.world.underlyings()[0], gateway.clock.now())[0]
    return [option.conid for option in list(series.options())[:count]]


def answers(messages: list[list[str]]) -> int:
    return sum(fields[0] == CURRENT_TIME_ANSWER for fields in messages)


# -- the message rate, by the arithmetic


def test_a_message_budget_holds_one_seconds_worth() -> None:
    watch = Stopwatch()
    budget = MessageBudget(MessageBucket(50, monotonic=watch))
    assert sum(budget.take() for _ in range(60)) == 50
    watch.seconds += 0.5
    assert sum(budget.take() for _ in range(60)) == 25
    watch.seconds += 60
    assert sum(budget.take() for _ in range(60)) == 50


def test_a_client_paced_at_45_keeps_within_50_a_second() -> None:
    watch = Stopwatch()
    budget = MessageBudget(MessageBucket(50, monotonic=watch))
    for _ in range(60):
        # ib_insync's own throttle: 45 at once, then a pause
        assert all(budget.take() for _ in range(45))
        watch.seconds += 1.0


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=300), st.sampled_from([10.0, 50.0, 550.0]))
def test_never_more_than_a_seconds_worth_and_the_rate_is_admitted(gaps: list[float], rate: float) -> None:
    watch = Stopwatch()
    budget = MessageBudget(MessageBucket(rate, monotonic=watch))
    admitted = []
    for gap in gaps:
        watch.seconds += gap
        if budget.take():
            admitted.append(watch.seconds)
    for first in range(0, len(admitted), 7):
        for last in range(first, len(admitted), 7):
            # the defining bound of a token bucket, over every interval
            assert last - first + 1 <= rate + rate * (admitted[last] - admitted[first]) + 1e-6


@given(st.lists(st.floats(0.02, 0.5), min_size=1, max_size=200))
def test_who_keeps_the_rate_is_never_refused(gaps: list[float]) -> None:
    watch = Stopwatch()
    budget = MessageBudget(MessageBucket(50, monotonic=watch))
    for gap in gaps:
        watch.seconds += gap
        assert budget.take()


def test_what_is_too_much_within_one_second_is_one_violation() -> None:
    watch = Stopwatch()
    budget = MessageBudget(MessageBucket(50, monotonic=watch), violation_per="second")
    reported = []
    for second in range(3):
        watch.seconds = second * 1.0
        for _ in range(120):
            if not budget.take() and budget.violated():
                reported.append((second, budget.violations, budget.exhausted))
    assert reported == [(0, 1, False), (1, 2, False), (2, 3, True)]


def test_each_excess_message_is_a_violation() -> None:
    budget = MessageBudget(MessageBucket(50, monotonic=Stopwatch()))
    excess = [budget.violated() for _ in range(53) if not budget.take()]
    assert excess == [True, True, True]
    assert budget.exhausted


def test_the_wait_for_the_next_message_is_what_the_rate_leaves() -> None:
    watch = Stopwatch()
    budget = MessageBudget(MessageBucket(50, monotonic=watch))
    while budget.take():
        pass
    assert budget.wait() == pytest.approx(1 / 50)
    watch.seconds += 0.015
    assert budget.wait() == pytest.approx(0.005)
    watch.seconds += 0.005 + 1e-9
    assert budget.wait() == 0


# -- the message rate, on the wire


async def test_at_the_rate_nothing_happens(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(messages_per_second=20)
    async with RawClient.ready(gateway.port) as client:
        # startApi was the first of the twenty
        client.writer.write(NOW * 19)
        seen = await client.everything(0.2)
    assert (answers(seen), errors(seen)) == (19, [])


async def test_the_excess_of_a_second_is_one_error_100_when_the_switch_says_so_and_is_dropped(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(messages_per_second=20, rules={"violation_per": "second"})
    async with RawClient.ready(gateway.port) as client:
        client.writer.write(NOW * 60)
        seen = await client.everything(0.2)
        text = next(fields[4] for fields in seen if fields[0] == ERROR)
        rec = re.fullmatch(r"Max rate of messages per second has been exceeded:max=20 rec=(\d+) \(1\)", text)
        assert rec is not None
        assert int(rec[1]) > 20
        assert errors(seen) == [100]
        assert 19 <= answers(seen) < 30
        await asyncio.sleep(0.1)
        client.writer.write(NOW)
        assert answers(await client.everything(0.2)) == 1, "the session goes on"


async def test_the_third_second_over_the_rate_ends_the_session_when_the_switch_says_so(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(messages_per_second=20, rules={"violation_per": "second"})
    async with RawClient.ready(gateway.port) as client:
        for _ in range(3):
            client.writer.write(NOW * 60)
            await asyncio.sleep(1.02)
        seen = await client.everything(1)
        assert errors(seen) == [100, 100, 100]
        assert client.reader.at_eof()
    assert gateway.stats.violations == 3


async def test_the_third_excess_message_ends_the_session(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(messages_per_second=20)
    async with RawClient.ready(gateway.port) as client:
        client.writer.write(NOW * 60)
        seen = await client.everything(1)
        assert errors(seen) == [100, 100, 100]
        assert client.reader.at_eof()


async def test_the_excess_is_served_when_the_switch_says_so(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(messages_per_second=20, rules={"excess": "serve", "violation_per": "second"})
    async with RawClient.ready(gateway.port) as client:
        client.writer.write(NOW * 60)
        seen = await client.everything(0.2)
    assert (answers(seen), errors(seen)) == (60, [100])


@pytest.mark.parametrize("asked_by", ["switch", "greeting"])
async def test_paced_messages_wait_and_none_is_lost(start_gateway: StartGateway, asked_by: str) -> None:
    rules = {"over_rate": "pace" if asked_by == "switch" else "reject"}
    gateway = await start_gateway(messages_per_second=50, rules=rules)
    async with RawClient.ready(gateway.port, options="+PACEAPI" if asked_by == "greeting" else "") as client:
        started = time.monotonic()
        client.writer.write(NOW * 99)
        seen = [await client.receive() for _ in range(99)]
        took = time.monotonic() - started
    assert all(fields is not None and fields[0] == CURRENT_TIME_ANSWER for fields in seen)
    # startApi and 49 from the bucket, 50 more at 50 a second
    assert took == pytest.approx(1.0, abs=0.15)
    assert gateway.stats.violations == 0


async def test_a_paced_client_that_sends_without_end_meets_a_full_socket(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(messages_per_second=50, rules={"over_rate": "pace"})
    async with RawClient.ready(gateway.port) as client:
        client.writer.write(NOW * 2_000_000)
        await asyncio.sleep(0.5)
        assert client.writer.transport.get_write_buffer_size() > 10_000_000
        assert gateway.stats.messages < 100
        client.writer.transport.abort()
        await gone(gateway)


@pytest.mark.parametrize(("cancels_count", "code"), [(True, [100]), (False, [])])
async def test_cancels_count_unless_switched_off(
    start_gateway: StartGateway, cancels_count: bool, code: list[int]
) -> None:
    rules = {"cancels_count": cancels_count, "violation_per": "second"}
    gateway = await start_gateway(messages_per_second=20, rules=rules)
    async with RawClient.ready(gateway.port) as client:
        for number in range(12):
            client.send(1, 11, number, 0, "NONE", "STK", "", 0, "", "", "SMART", "", "USD", "", "", 0, "", 0, 0, "")
            client.send(2, 2, number)
        seen = await client.everything(0.2)
    # 24 messages over a budget of 19, or 12 within it; a request that is served is answered with 200, a cancel with 300
    assert [one for one in errors(seen) if one == 100] == code
    assert errors(seen).count(300) == (12 if not cancels_count else errors(seen).count(200) - 1)


# -- lines


async def test_one_line_too_many_is_error_101_and_nothing_else(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(lines=3)
    async with RawClient.ready(gateway.port) as client:
        for number, conid in enumerate(conids(gateway, 4)):
            client.writer.write(market_data(number, conid))
        seen = await client.everything(0.2)
        assert errors(seen) == [101]
        assert {fields[2] for fields in seen if fields[0] == TICK_PRICE} == {"0", "1", "2"}
        assert gateway.lines.in_use == 3
        client.send(2, 2, 1)
        client.writer.write(market_data(9, conids(gateway, 1)[0]))
        seen = await client.everything(0.2)
        assert errors(seen) == []
        assert {fields[2] for fields in seen if fields[0] == TICK_PRICE} == {"9"}
    await gone(gateway)


@pytest.mark.parametrize(("holds", "codes"), [(True, [101]), (False, [])])
async def test_an_open_snapshot_holds_a_line_unless_switched_off(
    start_gateway: StartGateway, holds: bool, codes: list[int]
) -> None:
    gateway = await start_gateway(lines=1, latency_ms=(150, 150), rules={"snapshots_hold_lines": holds})
    stock = gateway.world.underlyings()[0].conid
    async with RawClient.ready(gateway.port) as client:
        client.writer.write(market_data(1, stock, snapshot=True))
        client.writer.write(market_data(2, stock))
        seen = await client.until(lambda fields: fields[0] == SNAPSHOT_END)
        assert errors(seen) == codes
        assert gateway.lines.in_use == (0 if holds else 1)
        client.writer.write(market_data(3, stock))
        seen = await client.everything(0.3)
        assert errors(seen) == ([] if holds else [101])
    await gone(gateway)


async def test_a_snapshot_without_everything_ends_when_its_time_is_over(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(at=AFTER_THE_CLOSE, snapshot_seconds=0.6)
    async with RawClient.ready(gateway.port) as client:
        started = time.monotonic()
        client.writer.write(market_data(1, conids(gateway, 1)[0], snapshot=True))
        await client.until(lambda fields: fields[0] == SNAPSHOT_END)
        assert time.monotonic() - started == pytest.approx(0.6, abs=0.1)
    await gone(gateway)


# -- clients


async def test_an_id_is_free_again_as_soon_as_its_client_is_gone(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    async with RawClient.ready(gateway.port, 7) as first:
        second = await RawClient.open(gateway.port)
        second.writer.write(greeting() + frame(START_API, 2, 7, ""))
        assert errors(await second.everything(1)) == [326]
        assert second.reader.at_eof()
        second.close()
        first.writer.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )
        first.writer.transport.abort()
        await gone(gateway)
    async with RawClient.ready(gateway.port, 7) as third:
        third.writer.write(NOW)
        assert answers(await third.everything(0.1)) == 1


async def test_an_id_stays_in_use_for_a_while_when_the_switch_says_so(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(rules={"client_id_lingers": 0.5})
    async with RawClient.ready(gateway.port, 7):
        pass
    await until(lambda: not gateway._state.connections)
    early = await RawClient.open(gateway.port)
    early.writer.write(greeting() + frame(START_API, 2, 7, ""))
    assert errors(await early.everything(1)) == [326]
    early.close()
    await until(lambda: not gateway._state.clients, 1)
    async with RawClient.ready(gateway.port, 7):
        pass


async def test_the_33rd_client_is_told_and_closed_and_a_place_is_free_when_one_leaves(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway()
    clients = [await RawClient.open(gateway.port) for _ in range(33)]
    for number, client in enumerate(clients):
        client.writer.write(greeting() + frame(START_API, 2, number, ""))
        await client.receive()
    told = await clients[32].everything(1)
    assert errors(told) == [322]
    assert clients[32].reader.at_eof()
    clients[0].close()
    await until(lambda: len(gateway._state.clients) == 31)
    async with RawClient.ready(gateway.port, 99):
        pass
    for client in clients:
        client.close()
    await gone(gateway)


async def test_a_second_start_is_refused_and_changes_nothing(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    async with RawClient.ready(gateway.port, 5) as client:
        client.send(START_API, 2, 6, "")
        client.writer.write(NOW)
        seen = await client.everything(0.1)
        assert (errors(seen), answers(seen)) == ([321], 1)
        async with RawClient.ready(gateway.port, 6):
            pass


async def test_who_never_starts_is_closed_in_time_and_who_starts_stays(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(rules={"greeting_seconds": 0.3})
    silent = await RawClient.open(gateway.port)
    half = await RawClient.open(gateway.port)
    half.writer.write(greeting())
    async with RawClient.ready(gateway.port) as client:
        assert await silent.closed(1)
        assert await half.closed(1)
        await asyncio.sleep(0.2)
        client.writer.write(NOW)
        assert answers(await client.everything(0.1)) == 1
    silent.close()
    half.close()
    await gone(gateway)


# -- clients that do not read


async def unread(port: int, client_id: int) -> RawClient:
    """A client whose socket takes little and which reads nothing of it."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=1024)
    writer.write(greeting() + frame(START_API, 2, client_id, ""))
    return RawClient(reader, writer)


async def test_a_client_that_does_not_read_is_not_served_until_it_does(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(messages_per_second=1e6)
    client = await unread(gateway.port, 1)
    client.writer.write(CHAIN * 50)
    client.writer.write(NOW)
    await asyncio.sleep(1)
    (connection,) = gateway._state.connections
    served = gateway.stats.messages
    assert served < 10, "its answers are megabytes each"
    assert isinstance(connection, ClientConnection)
    assert connection._transport is not None
    assert connection._transport.get_write_buffer_size() < 16_000_000
    async with RawClient.ready(gateway.port, 2) as good:
        good.writer.write(NOW)
        assert answers(await good.everything(0.2)) == 1
    client.close()
    await gone(gateway)


async def test_what_a_slow_client_asked_for_comes_when_it_reads(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(messages_per_second=1e6)
    client = await unread(gateway.port, 1)
    client.writer.write(NOW * 200_000)
    await asyncio.sleep(0.3)
    assert gateway.stats.messages < 200_000
    received = 0
    while received < 200_000:
        fields = await client.receive()
        assert fields is not None
        received += fields[0] == CURRENT_TIME_ANSWER
    client.close()
    await gone(gateway)


async def test_a_slow_client_gets_the_quotes_of_now_when_it_reads_again(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(messages_per_second=1e6)
    client = await unread(gateway.port, 1)
    stock = gateway.world.underlyings()[0]
    client.writer.write(market_data(1, stock.conid))
    await client.until(lambda fields: fields[0] == TICK_PRICE and fields[3] == "9")
    client.writer.write(CHAIN * 20)
    (connection,) = gateway._state.connections
    assert isinstance(connection, ClientConnection)
    await until(lambda: connection._congested)
    for hour in (17, 18, 19):
        then = gateway.clock.now().replace(hour=hour)
        gateway.clock.set(then)
        await asyncio.sleep(0.02)
    answered, bids = 0, []
    while answered < 20:
        fields = await client.receive()
        assert fields is not None
        answered += fields[0] == CONTRACT_DETAILS_END
        if fields[0] == TICK_PRICE and fields[3] == "1":
            bids.append(float(fields[4]))
    # one bid, the latest: those in between were never sent
    assert bids == [gateway.world.underlying_quote(stock, then).bid]
    client.close()
    await gone(gateway)


async def test_a_closed_client_that_does_not_read_holds_nothing(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(messages_per_second=1e6)
    client = await unread(gateway.port, 1)
    for number, conid in enumerate(conids(gateway, 5)):
        client.writer.write(market_data(number, conid))
    client.writer.write(CHAIN * 20)
    (connection,) = gateway._state.connections
    assert isinstance(connection, ClientConnection)
    await until(lambda: connection._congested)
    assert gateway.lines.in_use == 5
    connection.close()
    assert (gateway.lines.in_use, gateway._state.clients, gateway._state.connections) == (0, {}, set())
    async with RawClient.ready(gateway.port, 1) as again:
        again.writer.write(NOW)
        assert answers(await again.everything(0.1)) == 1
    # the socket itself goes a second later, with what was never read
    assert await client.closed(3)


async def test_stats_tell_the_cpu_time_of_the_gateway(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(control_port=0)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.control_port)
    readings = []
    for _ in range(2):
        writer.write(b'{"op": "stats"}\n')
        before = time.process_time()
        line = await reader.readline()
        readings.append((before, float(re.search(rb'"cpu_seconds": ([\d.]+)', line)[1]), time.process_time()))  # type: ignore[index]
    writer.close()
    assert all(before <= told + 1e-5 and told <= after + 1e-5 for before, told, after in readings)
    assert all(one[1] < other[1] for one, other in pairwise(readings))


async def until(condition, seconds: float = 5.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def gone(gateway: SimulatedGateway) -> None:
    """Nothing is held for anybody any more."""
    state = gateway._state
    await until(lambda: not (state.connections or state.clients or state.lines.in_use))
