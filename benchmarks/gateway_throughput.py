"""How much the simulated gateway serves, and what it costs: ``python benchmarks/gateway_throughput.py [--seconds 5]``.

The gateway runs in this process, so that its CPU time can be told apart; raw clients run in another. Measured:

- subscriptions a second: a window of them is kept open, each is cancelled once its open interest, the last tick, is in;
- the same against a server that sends the same bytes for the same requests with no market behind: what the sockets,
  the event loop and the client cost by themselves;
- 1,000 subscriptions that stay open while the market clock runs;
- the same with a client that has stopped reading.
"""

import argparse
import asyncio
import contextlib
import logging
import multiprocessing
import resource
import socket
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from tws_simulator import GatewayOptions, SimulatedGateway
from tws_simulator.protocol.wire import FrameReader
from tws_simulator.worlds.instruments import Option

AT = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
LENGTH = struct.Struct(">I")
# Ids of one width, so that the bytes of one subscription serve for all of them.
FIRST_ID = 1_000_001
STREAMS = 1000
FIRST_TICKS = 2.0
Contract = tuple[object, ...]


def frame(*fields: object) -> bytes:
    payload = "".join(f"{field}\0" for field in fields).encode()
    return LENGTH.pack(len(payload)) + payload


def hello(client_id: int = 9) -> bytes:
    return b"API\0" + LENGTH.pack(9) + b"v157..178" + frame(71, 2, client_id, "")


def subscription(req_id: int, contract: Contract) -> bytes:
    return frame(1, 11, req_id, *contract, 0, "101", 0, 0, "")


def last_tick(payload: bytes) -> int | None:
    """The request's id when this is the put's open interest, tick 28: the last of the first ticks."""
    if payload[:4] != b"2\x006\x00":
        return None
    _, _, req_id, tick, *_ = payload.split(b"\0")
    return int(req_id) if tick == b"28" else None


def payloads(buffer: bytearray) -> list[bytes]:
    """Cut the complete messages off the buffer."""
    found, start = [], 0
    while len(buffer) - start >= 4:
        end = start + 4 + LENGTH.unpack_from(buffer, start)[0]
        if end > len(buffer):
            break
        found.append(bytes(buffer[start + 4 : end]))
        start = end
    del buffer[:start]
    return found


# -- clients, in a process of their own


async def drive(port: int, contracts: list[Contract], window: int, seconds: float) -> tuple[int, int, float]:
    """Subscribe and cancel for `seconds`; (subscriptions finished, messages received, seconds taken)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(hello())
    finished = received = 0
    asked = FIRST_ID
    buffer = bytearray()
    open_requests: set[int] = set()

    def subscribe() -> None:
        nonlocal asked
        asked += 1
        open_requests.add(asked)
        writer.write(subscription(asked, contracts[asked % len(contracts)]))

    started = time.perf_counter()
    for _ in range(window):
        subscribe()
    while time.perf_counter() - started < seconds:
        data = await reader.read(1 << 18)
        if not data:
            raise SystemExit("the gateway closed the connection")
        buffer += data
        for payload in payloads(buffer):
            received += 1
            req_id = last_tick(payload)
            if req_id in open_requests:
                open_requests.discard(req_id)
                finished += 1
                writer.write(frame(2, 2, req_id))
                subscribe()
    writer.close()
    return finished, received, time.perf_counter() - started


async def listen(port: int, contracts: list[Contract], seconds: float, reads: bool) -> tuple[int, int, float]:
    """Keep subscriptions open and count what comes for `seconds` after the first ticks; or read nothing at all."""
    raw = socket.socket()
    if not reads:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", port))
    raw.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=raw, limit=1 << 18 if reads else 1024)
    writer.write(hello())
    for number in range(STREAMS):
        writer.write(subscription(FIRST_ID + number, contracts[number * 7 % len(contracts)]))
    received, buffer = 0, bytearray()

    async def count(period: float) -> None:
        nonlocal received
        async with asyncio.timeout(period):
            while data := await reader.read(1 << 18):
                buffer.extend(data)
                received += len(payloads(buffer))

    for period in (FIRST_TICKS, seconds):
        received, started = 0, time.perf_counter()
        with contextlib.suppress(TimeoutError):
            await (count(period) if reads else asyncio.sleep(period))
    writer.close()
    return STREAMS, received, time.perf_counter() - started


def in_process(results: Any, coroutine: Callable[..., Any], *arguments: object) -> None:
    results.put("ready")
    results.put(asyncio.run(coroutine(*arguments)))


async def measured(coroutine: Callable[..., Any], *arguments: object, wait: float = 0) -> tuple[int, int, float, float]:
    """What a client in another process reports, and the CPU seconds of this process, from `wait` seconds on."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=in_process, args=(results, coroutine, *arguments))
    process.start()
    await asyncio.to_thread(results.get)
    await asyncio.sleep(wait)
    before = time.process_time()
    count, received, took = await asyncio.to_thread(results.get)
    cpu = time.process_time() - before
    await asyncio.to_thread(process.join)
    return count, received, took, cpu


# -- the server with no market behind


class Canned(asyncio.Protocol):
    """Answers every subscription with the bytes that one was answered with, and nothing else."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self.frames = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        out = [
            self.blob.replace(b"%d" % FIRST_ID, payload.split(b"\0", 3)[2])
            for payload in self.frames.feed(data)
            if payload.startswith(b"1\0")
        ]
        if out:
            self.transport.write(b"".join(out))  # type: ignore[attr-defined]


async def bytes_of_one(port: int, contract: Contract) -> bytes:
    """All first ticks of one subscription."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(hello() + subscription(FIRST_ID, contract))
    blob = b""
    while True:
        length = await reader.readexactly(4)
        payload = await reader.readexactly(LENGTH.unpack(length)[0])
        if b"\0%d\0" % FIRST_ID in payload:
            blob += length + payload
        if last_tick(payload) is not None:
            writer.close()
            return blob


def wire_fields(option: Option) -> Contract:
    series, underlying = option.series, option.underlying
    last = f"{series.last_trade_date:%Y%m%d}"
    return (
        *(option.conid, underlying.symbol, "OPT", last, option.strike, option.right, f"{series.multiplier:g}", "SMART"),
        *("", "USD", option.local_symbol, series.trading_class),
    )


def gateway_with(latency: tuple[float, float], speed: float) -> SimulatedGateway:
    symbols = tuple(f"SYM{number}" for number in range(20))
    return SimulatedGateway(
        GatewayOptions(
            port=0, symbols=symbols, at=AT, speed=speed, lines=100_000, messages_per_second=1e6, latency_ms=latency
        )
    )


def contracts_of(gateway: SimulatedGateway) -> list[Contract]:
    world, now = gateway.world, gateway.clock.now()
    return [wire_fields(o) for u in world.underlyings() for s in world.series(u, now) for o in s.options()]


def row(what: str, window: int, finished: int, received: int, took: float, cpu: float) -> float:
    rate, cost = finished / took, 1e6 * cpu / finished
    print(
        f"| {what} | {window} | {rate:,.0f} | {received / took:,.0f} | {cpu / took:.0%} | {cost:.0f} µs |", flush=True
    )
    return rate


async def throughput(seconds: float) -> None:
    print("| ticks arrive | at once | subscriptions/s | messages/s | CPU of one core | CPU each |")
    print("|---|---|---|---|---|---|")
    async with gateway_with((0, 0), 0) as gateway:
        contracts = contracts_of(gateway)
        blob = await bytes_of_one(gateway.port, contracts[len(contracts) // 2])
    rates = {}
    server = await asyncio.get_running_loop().create_server(lambda: Canned(blob), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rates["canned"] = row("no market behind", 50, *await measured(drive, port, contracts, 50, seconds))
    server.close()
    for latency, window, speed in (((0, 0), 50, 0), ((5, 20), 100, 0), ((50, 200), 400, 0), ((50, 200), 400, 1)):
        async with gateway_with(latency, speed) as gateway:
            what = "at once" if latency == (0, 0) else f"after {latency[0]:g}-{latency[1]:g} ms"
            what += ", clock running" if speed else ""
            rates[what] = row(what, window, *await measured(drive, gateway.port, contracts, window, seconds))
    print(f"\nratio to the server with no market behind: {rates['at once'] / rates['canned']:.2f}\n")


async def streaming(seconds: float) -> None:
    print(f"| {STREAMS:,} subscriptions open | messages/s | CPU of one core | memory gained |")
    print("|---|---|---|---|")
    for what, speed, reads in (
        ("clock standing", 0, True),
        ("clock running", 1, True),
        ("60 times as fast", 60, True),
        ("clock running, not read", 1, False),
    ):
        async with gateway_with((50, 200), speed) as gateway:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            _, received, took, cpu = await measured(
                listen, gateway.port, contracts_of(gateway), seconds, reads, wait=FIRST_TICKS
            )
            gained = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"| {what} | {received / took:,.0f} | {cpu / took:.1%} | {gained:.0f} MB |", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    seconds = parser.parse_args().seconds
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    await throughput(seconds)
    await streaming(seconds)


if __name__ == "__main__":
    asyncio.run(main())
