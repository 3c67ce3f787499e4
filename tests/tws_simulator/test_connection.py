"""Greeting, client ids, the message rate, and peers that do not speak the protocol."""

import asyncio
import struct

import pytest
from ib_insync import IB, Option, Stock

from tests.tws_simulator.conftest import Client, ConnectClient, StartGateway
from tws_simulator import SimulatedGateway
from tws_simulator.protocol.messages import Encoder
from tws_simulator.protocol.wire import BadFrame, FrameReader, frame

STOCK = Stock("AAPL", "SMART", "USD")


async def test_connecting_takes_no_time_out(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway()
    started = asyncio.get_running_loop().time()
    client = await connect(gateway)
    # any request of connecting that stays unanswered costs ib_insync four seconds
    assert asyncio.get_running_loop().time() - started < 2
    assert client.managedAccounts() == ["SIM0000001"]
    assert (client.positions(), client.openTrades(), client.fills()) == ([], [], [])
    assert [code for _, code, _ in client.errors] == [2104, 2104, 2106, 2158, 2199]


@pytest.mark.parametrize("version", [157, 163, 164, 166, 175, 176])
async def test_every_protocol_version_is_spoken(
    start_gateway: StartGateway, connect: ConnectClient, version: int
) -> None:
    client = await connect(await start_gateway(), version=version)
    assert client.client.serverVersion() == version
    (details,) = await client.reqContractDetailsAsync(STOCK)
    assert (details.contract.symbol, details.stockType, details.timeZoneId) == ("AAPL", "COMMON", "US/Eastern")
    assert details.suggestedSizeIncrement == (100 if version >= 163 else 0)
    assert details.minSize == (0.0001 if version >= 164 else 0)
    assert await client.reqContractDetailsAsync(Stock("NONE", "SMART", "USD")) == []
    assert client.codes() == [200]


async def test_a_client_without_a_common_version_is_refused(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"API\0" + struct.pack(">I", 9) + b"v201..210")
    answer = await asyncio.wait_for(reader.read(), 5)
    assert b"503" in answer
    assert b"157 to 178" in answer
    writer.close()


async def test_a_client_id_in_use_is_refused_with_326(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway()
    first = await connect(gateway, client_id=7)
    second = Client()
    with pytest.raises((asyncio.TimeoutError, ConnectionError)):
        await second.connectAsync("127.0.0.1", gateway.port, 7, timeout=1)
    assert 326 in second.codes()
    assert first.isConnected()
    first.disconnect()
    await first.until(lambda: gateway.stats.connections == 1)
    await asyncio.sleep(0.05)
    assert (await connect(gateway, client_id=7)).isConnected()


async def test_no_more_than_32_clients(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    clients = [IB() for _ in range(32)]
    try:
        await asyncio.gather(*(c.connectAsync("127.0.0.1", gateway.port, k) for k, c in enumerate(clients, 1)))
        last = Client()
        with pytest.raises((asyncio.TimeoutError, ConnectionError)):
            await last.connectAsync("127.0.0.1", gateway.port, 33, timeout=1)
        assert "32" in last.errors[-1][2]
    finally:
        for client in clients:
            client.disconnect()


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"API\0" + struct.pack(">I", 1 << 30),
        b"API\0" + struct.pack(">I", 5) + b"hello",
        b"API\0" + struct.pack(">I", 9) + b"v157..176" + frame("49\x001\x00"),
        b"API\0" + struct.pack(">I", 9) + b"v157..176" + struct.pack(">I", 3) + b"\xff\xfe\x00",
    ],
)
async def test_garbage_closes_only_its_own_connection(
    start_gateway: StartGateway, connect: ConnectClient, garbage: bytes
) -> None:
    gateway = await start_gateway()
    client = await connect(gateway)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(garbage)
    await asyncio.wait_for(reader.read(), 5)  # ends because the gateway closes
    writer.close()
    assert (await client.reqCurrentTimeAsync()) == gateway.clock.now()


async def test_a_request_that_cannot_be_read_is_an_error_and_nothing_more(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    client = await connect(await start_gateway())
    client.client.send(1, 11, "not a number")
    client.client.send(9, 8)
    client.client.send(4711)
    await client.until(lambda: client.codes() == [320, 320, 321])
    assert await client.qualifyContractsAsync(Stock("AAPL", "SMART", "USD"))


async def test_what_is_not_simulated_is_refused_and_not_ignored(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    client = await connect(await start_gateway())
    client.reqRealTimeBars(STOCK, 5, "TRADES", True)
    client.reqTickByTickData(STOCK, "Last")
    client.reqMktDepth(STOCK)
    await client.until(lambda: client.codes() == [321, 321, 321])
    assert "market depth is not simulated" in client.errors[-1][2]


def test_errors_have_a_seventh_field_from_version_166() -> None:
    assert Encoder(165).error(7, 200, "no") == frame("4\0002\0007\000200\0no\0")
    assert Encoder(166).error(7, 200, "no") == frame("4\0002\0007\000200\0no\0\0")


def test_frames_are_cut_wherever_the_bytes_break() -> None:
    stream = b"API\0" + frame("49\x001\x00") + frame("61\x001\x00")
    for size in (1, 2, 3, 7, len(stream)):
        reader = FrameReader()
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        payloads = [payload for piece in pieces for payload in reader.feed(piece)]
        assert payloads == [b"49\x001\x00", b"61\x001\x00"]
    with pytest.raises(BadFrame, match="does not begin"):
        list(FrameReader().feed(b"APX"))


async def test_error_100_and_at_the_third_the_end(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway: SimulatedGateway = await start_gateway(messages_per_second=20)
    client = await connect(gateway)
    gone = asyncio.Event()
    client.disconnectedEvent += gone.set
    for _ in range(40):
        client.client.reqCurrentTime()
    await asyncio.wait_for(gone.wait(), 5)
    assert client.codes() == [100, 100, 100]
    assert "Max rate of messages per second has been exceeded" in client.errors[-1][2]
    assert gateway.stats.violations == 3


async def test_cancels_count_as_messages(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(messages_per_second=20)
    client = await connect(gateway)
    before = gateway.stats.messages
    client.reqMktData(STOCK)
    client.cancelMktData(STOCK)
    await client.until(lambda: gateway.stats.messages == before + 2)


async def test_lines_are_shared_and_given_back(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(lines=3, messages_per_second=1000)
    one, other = await connect(gateway), await connect(gateway)
    series = gateway.world.series(gateway.world.underlyings()[0], gateway.clock.now())[0]
    contracts = [Option(conId=option.conid, exchange="SMART") for option in list(series.options())[:4]]
    for contract in contracts[:3]:
        one.reqMktData(contract)
    await one.until(lambda: gateway.lines.in_use == 3)
    refused = other.reqMktData(contracts[3])
    await other.until(lambda: other.codes() == [101])
    assert "Max number of tickers" in other.errors[-1][2]
    assert refused.bid != refused.bid, "nothing but the error"
    one.cancelMktData(contracts[0])
    other.cancelMktData(contracts[3])
    await one.until(lambda: gateway.lines.in_use == 2)
    again = other.reqMktData(contracts[3])
    await other.until(lambda: again.ask == again.ask)
    one.disconnect()
    await other.until(lambda: gateway.lines.in_use == 1)
    assert gateway.lines.most_in_use == 3
