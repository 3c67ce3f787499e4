"""Whatever bytes arrive, on either port and in every phase: the gateway goes on serving, and keeps nothing of it."""

import asyncio
import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ib_insync import IB, Contract, Option, Stock

from tests.tws_simulator.raw import (
    CURRENT_TIME,
    CURRENT_TIME_ANSWER,
    LENGTH,
    START_API,
    TICK_PRICE,
    RawClient,
    frame,
    greeting,
    market_data,
)
from tws_simulator import GatewayOptions, SimulatedGateway
from tws_simulator.control import ControlConnection

AT = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
OPEN_FILES = Path("/proc/self/fd")
START = greeting() + frame(START_API, 2, 77, "")
SLOWEST_REQUEST = 3.0

fuzzed = settings(
    max_examples=int(os.environ.get("CHAINLAKE_FUZZ_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)


class Bench:
    """One gateway that all examples of this file meet, and what it held before any of them."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.unhandled: list[dict[str, Any]] = []
        self.gateway = SimulatedGateway(
            GatewayOptions(
                port=0,
                control_port=0,
                at=AT,
                speed=0,
                latency_ms=(0, 1),
                lines=50,
                snapshot_seconds=0.01,
                messages_per_second=1e6,
                history_latency_ms=(0, 1),
                history_pacing="off",
                rules={"greeting_seconds": 1},  # type: ignore[arg-type]
            )
        )
        self.session = self.runner.run(self._start())
        self.files = self._open_files()
        self.tasks = self.runner.run(self._tasks())

    async def _start(self) -> list[list[str]]:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: self.unhandled.append(context))
        await self.gateway.start()
        session = await recorded_session(self.gateway)
        await self.serves_a_good_client()
        await self.at_rest()
        return session

    async def _tasks(self) -> int:
        return len(asyncio.all_tasks())

    @staticmethod
    def _open_files() -> int:
        return len(list(OPEN_FILES.iterdir())) if OPEN_FILES.exists() else 0

    def meets(self, example: Awaitable[None]) -> None:
        """Run one example and hold the gateway against what it was before."""

        async def run() -> None:
            started = time.perf_counter()
            await example
            assert time.perf_counter() - started < SLOWEST_REQUEST
            await self.serves_a_good_client()
            await self.at_rest()

        with structlog.testing.capture_logs() as logged:
            self.runner.run(run())
        assert self.unhandled == []
        assert [entry for entry in logged if entry["log_level"] in ("error", "critical")] == []
        assert self._open_files() == self.files
        assert self.runner.run(self._tasks()) == self.tasks

    async def serves_a_good_client(self) -> None:
        state = self.gateway._state
        state.market.clock.set(AT)
        state.market.clock.set_speed(0)
        (stock,) = self.gateway.world.underlyings()
        async with RawClient.ready(self.gateway.port, 1) as client:
            client.send(CURRENT_TIME, 1)
            seen = await client.until(lambda fields: fields[0] == CURRENT_TIME_ANSWER)
            assert seen[-1] == ["49", "1", str(int(AT.timestamp()))]
            client.writer.write(market_data(1, stock.conid))
            seen = await client.until(lambda fields: fields[0] == TICK_PRICE and fields[3] == "1")
            assert float(seen[-1][4]) == self.gateway.world.underlying_quote(stock, AT).bid

    async def at_rest(self) -> None:
        state = self.gateway._state
        deadline = time.monotonic() + 4
        while state.connections or state.control_connections or len(state.timers):
            assert time.monotonic() < deadline, (state.connections, state.control_connections, len(state.timers))
            await asyncio.sleep(0.001)
        assert (state.clients, state.lines.in_use, state.history.open) == ({}, 0, 0)

    def close(self) -> None:
        self.runner.run(self.gateway.stop())
        self.runner.close()


async def recorded_session(gateway: SimulatedGateway) -> list[list[str]]:
    """The requests of a real ib_insync session, as fields, taken down between the client and the gateway."""
    taken = bytearray()

    async def pass_on(client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        server_in, server_out = await asyncio.open_connection("127.0.0.1", gateway.port)

        async def requests() -> None:
            while data := await client_in.read(1 << 16):
                taken.extend(data)
                server_out.write(data)
            server_out.close()

        async def answers() -> None:
            while data := await server_in.read(1 << 16):
                client_out.write(data)
            client_out.close()

        await asyncio.gather(requests(), answers())

    proxy = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    ib = IB()
    await ib.connectAsync("127.0.0.1", proxy.sockets[0].getsockname()[1], 5)
    stock = Stock("AAPL", "SMART", "USD")
    (underlying,) = gateway.world.underlyings()
    option = next(iter(gateway.world.series(underlying, AT)[0].options()))
    await ib.reqContractDetailsAsync(stock)
    await ib.reqContractDetailsAsync(Option("AAPL", "20261218", 300, "C", "SMART"))
    await ib.reqSecDefOptParamsAsync("AAPL", "", "STK", underlying.conid)
    await ib.reqMatchingSymbolsAsync("AA")
    ib.reqMarketDataType(2)
    for contract in (stock, Contract(conId=option.conid, exchange="SMART")):
        ib.reqMktData(contract, "101,106" if contract is stock else "101")
        ib.cancelMktData(contract)
        ib.reqMktData(contract, "", snapshot=True)
    await ib.reqHistoricalDataAsync(stock, "20261119 23:59:59 UTC", "5 D", "1 day", "TRADES", True, timeout=2)
    await ib.reqHeadTimeStampAsync(stock, "TRADES", True, 1)
    await ib.reqCurrentTimeAsync()
    ib.reqRealTimeBars(stock, 5, "TRADES", True)
    ib.client.send(91, 26)
    ib.client.send(98)
    await asyncio.sleep(0.05)
    ib.disconnect()
    proxy.close()
    await proxy.wait_closed()
    await asyncio.sleep(0.05)
    frames, start = [], 4
    while start < len(taken):
        (length,) = LENGTH.unpack_from(taken, start)
        frames.append(bytes(taken[start + 4 : start + 4 + length]))
        start += 4 + length
    # without the greeting and startApi
    return [payload.decode().split("\0")[:-1] for payload in frames[2:]]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


# -- what is sent

NUMBERS = ["0", "1", "-1", "2147483648", "-2147483649", "9" * 30, "9" * 5000, "1e308", "1e999", "nan", "inf", "-0.0"]
TEXTS = ["", "1.7976931348623157E308", "True", "١٢", "\x01", "\ufeff", "SMART", "AAPL", "OPT", "STK", "233,", "1 day"]
DATES = ["20261231", "00000000", "99999999", "202613", "20261120 25:61:61", "999999999 Y", "-5 D", "0 S"]
NASTY = st.one_of(
    st.sampled_from(NUMBERS + TEXTS + DATES),
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(repr),
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=40),
)
FIELDS = st.lists(NASTY, max_size=30)
KINDS = st.one_of(st.integers(0, 110).map(str), NASTY)


def mutated(fields: list[str], draw: Callable[[st.SearchStrategy[Any]], Any]) -> list[str]:
    """`fields` with a few of them dropped, repeated, replaced or exchanged; mostly not the message's number."""
    changed = list(fields)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(
            st.integers(0 if draw(st.integers(0, 9)) == 0 else min(1, len(changed) - 1), max(len(changed) - 1, 0))
        )
        match draw(st.sampled_from(["drop", "repeat", "replace", "exchange", "cut", "append"])):
            case "drop":
                del changed[at : at + 1]
            case "repeat":
                changed[at:at] = changed[at : at + 1] * draw(st.integers(1, 50))
            case "replace" if changed:
                changed[at] = draw(NASTY)
            case "exchange" if changed:
                changed[at], changed[-1] = changed[-1], changed[at]
            case "cut":
                del changed[max(at, 1) :]
            case _:
                changed.append(draw(NASTY))
    return changed or [""]


def broken(data: bytes, draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
    """`data` with a few bytes flipped, cut away or put in, wherever they fall: lengths, numbers, ends."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, max(len(changed) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "insert", "length", "nuls"])):
            case "flip" if changed:
                changed[at] ^= draw(st.integers(1, 255))
            case "cut":
                del changed[at : at + draw(st.integers(1, 20))]
            case "insert":
                changed[at:at] = draw(st.binary(max_size=20))
            case "length":
                changed[at : at + 4] = struct.pack(
                    ">i", draw(st.sampled_from([-1, 0, 1, 1 << 20, (1 << 20) + 1, -(1 << 31)]))
                )
            case _:
                changed[at:at] = b"\0" * draw(st.integers(1, 5000))
    return bytes(changed)


async def send(port: int, data: bytes, chunk: int = 1 << 20) -> None:
    """Send it all, read until nothing comes for a moment, and go without a word."""
    client = await RawClient.open(port)
    try:
        for start in range(0, len(data), chunk):
            client.writer.write(data[start : start + chunk])
            if chunk < len(data):
                await asyncio.sleep(0)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while await asyncio.wait_for(client.reader.read(1 << 18), 0.02):
                pass
    finally:
        client.writer.transport.abort()


@fuzzed
@given(data=st.binary(max_size=400), greeted=st.sampled_from([b"", b"API\0", greeting(), START]))
def test_random_bytes_in_every_phase(bench: Bench, data: bytes, greeted: bytes) -> None:
    bench.meets(send(bench.gateway.port, greeted + data))


@fuzzed
@given(frames=st.lists(st.tuples(KINDS, FIELDS), min_size=1, max_size=8), started=st.booleans())
def test_random_frames_before_and_after_the_start(
    bench: Bench, frames: list[tuple[str, list[str]]], started: bool
) -> None:
    data = b"".join([frame(kind, *fields) for kind, fields in frames])
    bench.meets(send(bench.gateway.port, (START if started else greeting()) + data))


@fuzzed
@given(data=st.data())
def test_a_recorded_session_with_wrong_fields(bench: Bench, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(bench.session), min_size=1, max_size=8))
    frames = [frame(*mutated(fields, data.draw)) for fields in chosen]
    bench.meets(send(bench.gateway.port, START + b"".join(frames)))


@fuzzed
@given(data=st.data(), chunk=st.sampled_from([1, 3, 7, 1 << 20]))
def test_a_recorded_session_with_broken_bytes(bench: Bench, data: st.DataObject, chunk: int) -> None:
    session = START + b"".join(frame(*fields) for fields in bench.session)
    start = data.draw(st.sampled_from([0, len(START)]))
    sent = session[:start] + broken(session[start:], data.draw)
    bench.meets(send(bench.gateway.port, sent[:2000] if chunk == 1 else sent, chunk))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["now", "set", "speed", "stats", "fault", "faults", "clear"]) | JSON},
    optional={
        "at": JSON
        | st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
        | st.sampled_from(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-11-20T15:00:00Z"]),
        "speed": JSON | st.sampled_from([0, 1e6, -1, 1e999, "fast"]),
        "fault": JSON | st.dictionaries(st.sampled_from(["fault", "symbols", "code", "at", "for"]), JSON, max_size=4),
    },
)


async def converse(port: int, data: bytes) -> None:
    await send(port, data)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b'{"op": "clear"}\n{"op": "speed", "speed": 0}\n')
    for _ in range(2):
        assert json.loads(await asyncio.wait_for(reader.readline(), 2))["ok"]
    writer.close()


@fuzzed
@given(st.lists(JSON | OPERATIONS, min_size=1, max_size=6))
def test_the_control_port_with_wrong_requests(bench: Bench, requests: list[Any]) -> None:
    bench.meets(
        converse(bench.gateway.control_port or 0, b"".join(json.dumps(one).encode() + b"\n" for one in requests))
    )


@fuzzed
@given(st.binary(max_size=300))
def test_the_control_port_with_random_bytes(bench: Bench, data: bytes) -> None:
    bench.meets(converse(bench.gateway.control_port or 0, data + b"\n"))


# -- what no random draw finds soon

FLOODS = {
    "tiny frames": START + frame(CURRENT_TIME, 1) * 5000,
    "empty frames": START + LENGTH.pack(0) * 5000,
    "NULs only": START + (LENGTH.pack(1000) + b"\0" * 1000) * 50,
    "one huge field": START + frame("x" * 900_000),
    "many fields": START + frame(*(["1"] * 400_000)),
    "the longest frame, never sent": START + LENGTH.pack(1 << 20) + b"9\0" * 1000,
    "a negative length": START + struct.pack(">i", -1) + b"9\0" * 1000,
    "not UTF-8": START + LENGTH.pack(6) + b"9\0\xff\xfe\xc3\0",
    "half a greeting": b"AP",
    "half a version": greeting()[:-3],
    "versions that are not": b"API\0" + LENGTH.pack(4000) + b"v" + b"1" * 3999,
    "start again and again": START + frame(START_API, 2, 77, "") * 500,
    "an id as long as a line": START + frame(1, 11, "7" * 4000, *[""] * 12, 0, "", 0, 0, ""),
    "every request with its number only": START + b"".join(frame(kind) for kind in range(150)),
    "one subscription id many times": START + market_data(1, 265598) * 500,
    "more lines than there are": START + b"".join(market_data(number, 265598) for number in range(500)),
    "cancels of nothing": START + b"".join(frame(2, 2, number) for number in range(2000)),
    "snapshots": START + b"".join(market_data(number, 265598, snapshot=True) for number in range(500)),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_floods(bench: Bench, flood: bytes) -> None:
    bench.meets(send(bench.gateway.port, flood))


CONTROL_FLOODS = {
    "brackets": b"[" * 60_000 + b"\n",
    "a long line without an end": b"x" * 200_000,
    "many lines": b'{"op": "now"}\n' * 5000,
    "a number too long to read": b'{"op": "speed", "speed": ' + b"9" * 6000 + b"}\n",
    "empty lines": b"\n" * 5000,
    "before the calendar": b'{"op": "set", "at": "0001-01-01T00:00:00+14:00"}\n',
    "after the calendar": b'{"op": "set", "at": "9999-12-31T23:59:59-14:00"}\n',
}


@pytest.mark.parametrize("flood", CONTROL_FLOODS.values(), ids=CONTROL_FLOODS.keys())
def test_floods_on_the_control_port(bench: Bench, flood: bytes) -> None:
    bench.meets(converse(bench.gateway.control_port or 0, flood))


def test_a_control_peer_that_does_not_read_is_asked_nothing_more(bench: Bench) -> None:
    async def example() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", bench.gateway.control_port)
        writer.write(b'{"op": "stats"}\n' * 2_000_000)
        await asyncio.sleep(0.5)
        (peer,) = bench.gateway._state.control_connections
        assert isinstance(peer, ControlConnection)
        assert peer._transport is not None
        assert peer._transport.get_write_buffer_size() < 16_000_000
        writer.transport.abort()

    bench.meets(example())


PHASES = {
    "connected": b"",
    "in the greeting": b"API\0\0\0",
    "greeted": greeting(),
    "in startApi": START[:-3],
    "started": START,
    "subscribed": START + b"".join(market_data(number, 265598) for number in range(20)),
    "in a snapshot": START + market_data(1, 265598, snapshot=True),
    "in a request": START + market_data(1, 265598)[:-20],
    "in a long answer": START
    + frame(9, 8, 1, 0, "AAPL", "OPT", "20261218", 0, "", "", "SMART", "", "", "", "", 0, "", ""),
    "cancelling": START + market_data(1, 265598) + frame(2, 2, 1),
}


@pytest.mark.parametrize("sent", PHASES.values(), ids=PHASES.keys())
def test_two_hundred_that_leave_in_the_middle(bench: Bench, sent: bytes) -> None:
    async def one(way: int) -> None:
        client = await RawClient.open(bench.gateway.port)
        client.writer.write(sent)
        for _ in range(way % 5):
            await asyncio.sleep(0)
        match way % 3:
            case 0:
                client.close()
            case 1:
                client.writer.transport.abort()
            case _:
                client.writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                client.writer.transport.abort()

    async def example() -> None:
        for batch in range(10):
            await asyncio.gather(*(one(20 * batch + number) for number in range(20)))

    bench.meets(example())


def test_a_client_that_closes_its_half_only(bench: Bench) -> None:
    async def example() -> None:
        client = await RawClient.open(bench.gateway.port)
        client.writer.write(START + market_data(1, 265598))
        client.writer.write_eof()
        assert await client.closed(2)
        client.close()

    bench.meets(example())
