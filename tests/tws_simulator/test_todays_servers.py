"""Faults and options by which the gateway behaves as servers of 2026 do, as ib_insync and a bare socket see them."""

import pytest
from ib_insync import Stock
from pydantic import ValidationError

from tests.tws_simulator.conftest import ConnectClient, StartGateway
from tests.tws_simulator.raw import RawClient, greeting, market_data
from tws_simulator import GatewayOptions, SimulatedGateway
from tws_simulator.faults import parse_fault

STOCK = Stock("AAPL", "SMART", "USD")


def add(gateway: SimulatedGateway, **fault: object) -> None:
    gateway._state.faults.add(parse_fault(fault))


async def ticks_of(gateway: SimulatedGateway, *, kinds: tuple[str, ...]) -> dict[str, list[str]]:
    """The ticks of a stock's first quote by tick type, as they are written on the wire."""
    conid = gateway.world.underlyings()[0].conid
    async with RawClient.ready(gateway.port) as client:
        client.writer.write(market_data(1, conid))
        seen = await client.everything(0.5)
    return {fields[3]: fields for fields in seen if fields[0] in kinds}


async def test_half_a_share_is_written_as_a_fraction(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    add(gateway, fault="fractional_sizes")
    ticks = await ticks_of(gateway, kinds=("1", "2"))
    assert ticks["5"][-1] == "0.5"
    assert ticks["4"][5] == "0.5"
    assert ticks["8"][-1].endswith(".5")


async def test_a_client_reads_fractions_as_they_are(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway()
    add(gateway, fault="fractional_sizes")
    ticker = await (await connect(gateway)).quote(STOCK)
    assert ticker.lastSize == 0.5
    assert ticker.bidSize % 1 == 0.25


async def test_odd_lots_come_beside_the_market(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    add(gateway, fault="odd_lots")
    ticks = await ticks_of(gateway, kinds=("1", "2", "46"))
    assert {"105", "106", "107", "108", "109", "110"} <= ticks.keys()
    assert float(ticks["105"][4]) == pytest.approx(float(ticks["1"][4]) + 0.01)


async def test_an_advisory_comes_with_the_request_and_data_flows(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway()
    add(gateway, fault="advisory", code=2187, message="look here")
    client = await connect(gateway)
    ticker = await client.quote(STOCK)
    assert ticker.bid > 0
    assert [(code, text) for req_id, code, text in client.errors if req_id > 0] == [(2187, "look here")]


async def test_a_gateway_names_the_time_zone_as_its_host_does(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(greeting_zone="China Standard Time")
    client = await RawClient.open(gateway.port)
    client.writer.write(greeting())
    assert await client.receive() == ["176", "20261120 10:00:00 China Standard Time"]
    client.close()


@pytest.mark.parametrize(("high", "agreed"), [(176, "176"), (226, "178")])
async def test_a_server_of_today_comes_down_to_the_client_and_to_what_is_simulated(
    start_gateway: StartGateway, high: int, agreed: str
) -> None:
    gateway = await start_gateway(protocol_versions=(157, 226))
    client = await RawClient.open(gateway.port)
    client.writer.write(greeting(157, high))
    answer = await client.receive()
    assert answer is not None
    assert answer[0] == agreed
    client.close()


async def test_a_server_that_does_not_come_down_refuses(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(protocol_versions=(201, 226))
    client = await RawClient.open(gateway.port)
    client.writer.write(greeting())
    answer = await client.receive()
    assert answer is not None
    assert answer[3] == "503"
    assert "201 to 226" in answer[4]
    assert await client.closed()


def test_versions_are_ascending_and_none_is_older_than_what_is_spoken() -> None:
    for wrong in ((100, 178), (178, 157)):
        with pytest.raises(ValidationError, match="ascending"):
            GatewayOptions(protocol_versions=wrong)
