"""The delivery log says of each request when its complete answer had left for the client, and of no other."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.tws_simulator.conftest import StartGateway
from tests.tws_simulator.raw import ERROR, TICK_PRICE, RawClient, market_data
from tests.tws_simulator.test_limits import CHAIN, conids, unread
from tws_simulator import GatewayError, GatewayOptions, SimulatedGateway
from tws_simulator.worlds.instruments import Option

MODEL = "21"
BEFORE_OPEN = datetime(2026, 11, 20, 14, 25, tzinfo=UTC)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


async def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def options(gateway: SimulatedGateway, wanted: Callable[[Option], bool]) -> list[Option]:
    now = gateway.clock.now()
    return [
        one
        for series in gateway.world.series(gateway.world.underlyings()[0], now)
        for one in series.options()
        if wanted(one)
    ]


async def test_each_complete_answer_is_one_line_with_what_was_told(start_gateway: StartGateway, tmp_path: Path) -> None:
    file = tmp_path / "deliveries.jsonl"
    gateway = await start_gateway(delivery_log=file)
    now = gateway.clock.now()
    two_sided = options(gateway, lambda one: None not in gateway.world.option_quote(one, now)[0:3:2])[:2]
    no_bid = options(gateway, lambda one: gateway.world.option_quote(one, now).bid is None)[0]
    stock = gateway.world.underlyings()[0]
    started = datetime.now(UTC)
    async with RawClient.ready(gateway.port, 1) as one, RawClient.ready(gateway.port, 2) as other:
        one.writer.write(market_data(11, two_sided[0].conid, "101") + market_data(12, no_bid.conid))
        other.writer.write(market_data(11, two_sided[1].conid) + market_data(12, stock.conid))
        # updates of a contract that has been answered are no answers
        await eventually(lambda: len(lines(file)) == 4)
        gateway.clock.set(now.replace(hour=17))
        seen = await one.until(lambda fields: fields[0] == TICK_PRICE)
        await one.everything(0.1)
    assert seen
    noted = {(line["client_id"], line["req_id"]): line for line in lines(file)}
    assert len(lines(file)) == len(noted) == 4
    told = {key: (line["conid"], line["bid"], line["ask"], line["model"]) for key, line in noted.items()}
    quotes = [gateway.world.option_quote(option, now) for option in (*two_sided, no_bid)]
    assert told == {
        (1, 11): (two_sided[0].conid, quotes[0].bid, quotes[0].ask, True),
        (2, 11): (two_sided[1].conid, quotes[1].bid, quotes[1].ask, True),
        (1, 12): (no_bid.conid, None, quotes[2].ask, quotes[2].model is not None and quotes[2].model.iv is not None),
        (2, 12): (stock.conid, *gateway.world.underlying_quote(stock, now)[0:3:2], False),
    }
    for line in noted.values():
        assert started <= datetime.fromisoformat(line["at"]) <= datetime.now(UTC)
        assert datetime.fromisoformat(line["now"]) == now


async def test_what_is_not_answered_in_full_is_not_noted(start_gateway: StartGateway, tmp_path: Path) -> None:
    file, scenario = tmp_path / "deliveries.jsonl", tmp_path / "faults.yaml"
    scenario.write_text("faults: [{fault: no_model, rights: [C]}, {fault: one_sided, side: ask, rights: [P]}]")
    gateway = await start_gateway(delivery_log=file, scenario=scenario)
    async with RawClient.ready(gateway.port) as client:
        contracts = conids(gateway, 500)
        client.writer.write(b"".join(market_data(number, conid) for number, conid in enumerate(contracts)))
        seen = await client.everything(0.3)
        assert {fields[2] for fields in seen if fields[0] == TICK_PRICE} == {str(n) for n in range(len(contracts))}
        assert lines(file) == []
        client.writer.write(market_data(1000, gateway.world.underlyings()[0].conid))
        await eventually(lambda: len(lines(file)) == 1)
    assert [line["req_id"] for line in lines(file)] == [1000]


async def test_a_model_that_comes_late_completes_the_answer_when_it_comes(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    file, scenario = tmp_path / "deliveries.jsonl", tmp_path / "faults.yaml"
    scenario.write_text("faults: [{fault: empty_model, seconds: 0.4}]")
    gateway = await start_gateway(delivery_log=file, scenario=scenario)
    async with RawClient.ready(gateway.port) as client:
        client.writer.write(market_data(1, conids(gateway, 1)[0]))
        await client.until(lambda fields: fields[0] == MODEL)
        assert lines(file) == []
        await client.until(lambda fields: fields[0] == MODEL)
        await eventually(lambda: len(lines(file)) == 1)
    assert lines(file)[0]["model"]


async def test_before_the_open_an_answer_has_no_market_and_no_model(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    file = tmp_path / "deliveries.jsonl"
    gateway = await start_gateway(delivery_log=file, at=BEFORE_OPEN)
    async with RawClient.ready(gateway.port) as client:
        client.writer.write(market_data(1, conids(gateway, 1)[0]))
        await eventually(lambda: len(lines(file)) == 1)
    assert [(line["bid"], line["ask"], line["model"]) for line in lines(file)] == [(None, None, False)]


async def test_an_answer_that_the_client_has_not_taken_is_not_noted_until_it_does(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    file = tmp_path / "deliveries.jsonl"
    gateway = await start_gateway(delivery_log=file, messages_per_second=1e6, latency_ms=(400, 400))
    client = await unread(gateway.port, 1)
    client.writer.write(market_data(1, conids(gateway, 1)[0]) + CHAIN * 20)
    async with RawClient.ready(gateway.port, 2) as good:
        good.writer.write(market_data(2, conids(gateway, 1)[0]))
        await eventually(lambda: bool(lines(file)))
        await asyncio.sleep(0.5)
        assert [line["client_id"] for line in lines(file)] == [2]
    await client.until(lambda fields: fields[0] == MODEL, 20)
    await eventually(lambda: len(lines(file)) == 2)
    assert [line["client_id"] for line in lines(file)] == [2, 1]
    client.close()


async def test_what_was_queued_for_a_client_that_went_away_is_never_noted(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    file = tmp_path / "deliveries.jsonl"
    gateway = await start_gateway(delivery_log=file, messages_per_second=1e6, latency_ms=(400, 400))
    client = await unread(gateway.port, 1)
    client.writer.write(market_data(1, conids(gateway, 1)[0]) + CHAIN * 20)
    await asyncio.sleep(0.8)
    client.writer.transport.abort()
    await eventually(lambda: not gateway._state.connections)
    await asyncio.sleep(0.1)
    assert lines(file) == []


async def test_lines_are_added_to_what_the_file_has(start_gateway: StartGateway, tmp_path: Path) -> None:
    file = tmp_path / "deliveries.jsonl"
    for _ in range(2):
        gateway = await start_gateway(delivery_log=file)
        before = len(lines(file))
        async with RawClient.ready(gateway.port) as client:
            client.writer.write(market_data(1, conids(gateway, 1)[0]))
            await eventually(lambda before=before: len(lines(file)) == before + 1)  # type: ignore[misc]
        await gateway.stop()
    assert len(lines(file)) == 2


async def test_a_log_that_cannot_be_written_is_said_before_anybody_connects(tmp_path: Path) -> None:
    gateway = SimulatedGateway(GatewayOptions(port=0, delivery_log=tmp_path / "none" / "deliveries.jsonl"))
    with pytest.raises(GatewayError, match="No such file"):
        await gateway.start()


async def test_a_log_that_can_no_longer_be_written_ends_and_clients_are_served_on(start_gateway: StartGateway) -> None:
    # every write to it says that the disk is full (full(4))
    gateway = await start_gateway(delivery_log=Path("/dev/full"))
    async with RawClient.ready(gateway.port) as client:
        for number, conid in enumerate(conids(gateway, 2)):
            client.writer.write(market_data(number, conid))
            await client.until(lambda fields: fields[0] == MODEL)
        await eventually(lambda: gateway._state.deliveries is None)
        client.writer.write(market_data(9, conids(gateway, 3)[2]))
        await client.until(lambda fields: fields[0] == MODEL)


async def test_without_the_option_nothing_is_noted(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    async with RawClient.ready(gateway.port) as client:
        client.writer.write(market_data(1, conids(gateway, 1)[0]))
        seen = await client.until(lambda fields: fields[0] == MODEL)
    assert all(fields[0] != ERROR or int(fields[3]) > 2000 for fields in seen)
    assert gateway._state.deliveries is None
