"""Several connections of one client program: what each has for itself, and what all of them share."""

import asyncio
import time

import pytest

from tests.tws_simulator.conftest import StartGateway
from tests.tws_simulator.raw import (
    CANCEL_MARKET_DATA,
    CURRENT_TIME,
    CURRENT_TIME_ANSWER,
    TICK_PRICE,
    RawClient,
    errors,
    frame,
    market_data,
)
from tests.tws_simulator.test_clock_and_control import converse
from tests.tws_simulator.test_limits import conids
from tws_simulator.connections.limits import MessageBucket, MessageBudget

NOW = frame(CURRENT_TIME, 1)


def answers(messages: list[list[str]]) -> int:
    return sum(fields[0] == CURRENT_TIME_ANSWER for fields in messages)


def test_budgets_of_one_bucket_share_the_messages_and_not_the_violations() -> None:
    bucket = MessageBucket(50, monotonic=lambda: 0.0)
    one, other = MessageBudget(bucket), MessageBudget(bucket)
    assert sum(one.take() for _ in range(30)) == 30
    assert sum(other.take() for _ in range(30)) == 20
    assert [other.violated() for _ in range(3)] == [True] * 3
    assert (one.violations, one.exhausted, other.exhausted) == (0, False, True)


@pytest.mark.parametrize(("rate_per", "answered", "codes"), [("connection", 32, []), ("session", 18, [100])])
async def test_two_connections_below_the_rate_each_and_above_it_together(
    start_gateway: StartGateway, rate_per: str, answered: int, codes: list[int]
) -> None:
    rules = {"rate_per": rate_per, "violation_per": "second"}
    gateway = await start_gateway(messages_per_second=20, rules=rules)
    async with RawClient.ready(gateway.port, 1) as one, RawClient.ready(gateway.port, 2) as other:
        # the two startApi have come out of the bucket; it is full again
        await asyncio.sleep(0.2)
        for client in (one, other):
            client.writer.write(NOW * 16)
        seen = [*await one.everything(0.3), *await other.everything(0.3)]
        # a shared bucket of 20, and what flows into it while the messages are on their way
        assert answered <= answers(seen) <= answered + 4
        assert errors(seen) == codes
    assert gateway.stats.violations == len(codes)


async def test_the_third_violation_of_a_shared_rate_ends_its_own_connection_only(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(messages_per_second=20, rules={"rate_per": "session"})
    async with RawClient.ready(gateway.port, 1) as loud, RawClient.ready(gateway.port, 2) as quiet:
        loud.writer.write(NOW * 60)
        assert errors(await loud.everything(1)) == [100, 100, 100]
        assert loud.reader.at_eof()
        await asyncio.sleep(0.2)
        quiet.writer.write(NOW)
        seen = await quiet.everything(0.2)
        assert (answers(seen), errors(seen)) == (1, [])


async def test_paced_connections_of_a_shared_rate_wait_for_each_other(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(messages_per_second=50, rules={"rate_per": "session", "over_rate": "pace"})
    async with RawClient.ready(gateway.port, 1) as one, RawClient.ready(gateway.port, 2) as other:
        started = time.monotonic()
        for client in (one, other):
            client.writer.write(NOW * 50)
        for client in (one, other):
            for _ in range(50):
                fields = await client.receive()
                assert fields is not None
                assert fields[0] == CURRENT_TIME_ANSWER
        # 100 messages, of which the bucket holds 50 at most: the other 50 take a second, however fast the host is
        assert time.monotonic() - started >= 0.95
    assert gateway.stats.violations == 0


async def test_lines_are_one_budget_for_all_connections_of_the_account(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(lines=10)
    contracts = conids(gateway, 14)
    clients = [RawClient.ready(gateway.port, number) for number in range(1, 5)]
    async with clients[0] as a, clients[1] as b, clients[2] as c, clients[3] as d:
        for client, some in ((a, contracts[:4]), (b, contracts[4:8]), (c, contracts[8:10])):
            for number, conid in enumerate(some):
                client.writer.write(market_data(number, conid))
        for client in (a, b, c):
            assert errors(await client.everything(0.2)) == []
        assert gateway.lines.in_use == 10
        # the account has no line left, although this connection holds none
        d.writer.write(market_data(1, contracts[10]))
        assert errors(await d.everything(0.2)) == [101]
        a.send(CANCEL_MARKET_DATA, 2, 0)
        await a.everything(0.1)
        d.writer.write(market_data(2, contracts[10]))
        seen = await d.everything(0.2)
        assert errors(seen) == []
        assert {fields[2] for fields in seen if fields[0] == TICK_PRICE} == {"2"}
        assert gateway.lines.most_in_use == 10


async def test_the_control_port_tells_the_limits(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(control_port=0, lines=40, messages_per_second=None)
    shared = await start_gateway(control_port=0, lines=40, rules={"rate_per": "session", "cancels_count": False})
    (own,), (together,) = await converse(gateway, {"op": "stats"}), await converse(shared, {"op": "stats"})
    limits = {"lines": 40, "messages_per_second": 20.0, "rate_per": "connection", "cancels_count": True, "clients": 32}
    assert own["limits"] == limits
    assert together["limits"] == limits | {
        "messages_per_second": 2000.0,
        "rate_per": "session",
        "cancels_count": False,
    }
