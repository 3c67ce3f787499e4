"""How many subscriptions the simulated gateway serves: ``python benchmarks/gateway_throughput.py [--seconds 10]``.

The gateway runs in this process, so that its CPU time can be told apart; a raw client in another process keeps a window
of subscriptions open: subscribe, wait for the model tick and open interest, cancel. Prints one line per setting.
"""

import argparse
import asyncio
import multiprocessing
import resource
import struct
import time
from datetime import UTC, datetime

from ingest.gateway import GatewayOptions, SimulatedGateway
from ingest.gateway.instruments import Option

AT = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
LENGTH = struct.Struct(">I")


def frame(*fields: object) -> bytes:
    payload = "".join(f"{field}\0" for field in fields).encode()
    return LENGTH.pack(len(payload)) + payload


async def drive(port: int, contracts: list[tuple[object, ...]], window: int, seconds: float) -> tuple[int, int, float]:
    """Subscribe and cancel for `seconds`; (subscriptions finished, messages received, seconds taken)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"API\0" + LENGTH.pack(9) + b"v157..178")
    writer.write(frame(71, 2, 9, ""))
    finished = received = asked = 0
    started = time.perf_counter()
    buffer = bytearray()
    open_requests: set[int] = set()

    def subscribe() -> None:
        nonlocal asked
        asked += 1
        open_requests.add(asked)
        writer.write(frame(1, 11, asked, *contracts[asked % len(contracts)], 0, "101", 0, 0, ""))

    for _ in range(window):
        subscribe()
    while time.perf_counter() - started < seconds:
        data = await reader.read(1 << 18)
        if not data:
            raise SystemExit("the gateway closed the connection")
        buffer += data
        start = 0
        while len(buffer) - start >= 4:
            end = start + 4 + LENGTH.unpack_from(buffer, start)[0]
            if end > len(buffer):
                break
            received += 1
            # the put's open interest, tick 28, is the last of the first ticks
            if buffer[start + 4 : start + 8] == b"2\x006\x00":
                _, _, req_id, tick, *_ = bytes(buffer[start + 4 : end]).split(b"\0")
                if tick == b"28" and int(req_id) in open_requests:
                    open_requests.discard(int(req_id))
                    finished += 1
                    writer.write(frame(2, 2, int(req_id)))
                    subscribe()
            start = end
        del buffer[:start]
    writer.close()
    return finished, received, time.perf_counter() - started


def client(port: int, contracts: list[tuple[object, ...]], window: int, seconds: float, results: object) -> None:
    results.put(asyncio.run(drive(port, contracts, window, seconds)))


def wire_fields(option: Option) -> tuple[object, ...]:
    series, underlying = option.series, option.underlying
    last = f"{series.last_trade_date:%Y%m%d}"
    return (
        *(option.conid, underlying.symbol, "OPT", last, option.strike, option.right, f"{series.multiplier:g}", "SMART"),
        *("", "USD", option.local_symbol, series.trading_class),
    )


async def measure(latency: tuple[float, float], window: int, speed: float, seconds: float) -> None:
    symbols = tuple(f"SYM{number}" for number in range(20))
    options = GatewayOptions(
        port=0, symbols=symbols, at=AT, speed=speed, lines=100_000, messages_per_second=1e6, latency_ms=latency
    )
    async with SimulatedGateway(options) as gateway:
        world, now = gateway.world, gateway.clock.now()
        contracts = [wire_fields(o) for u in world.underlyings() for s in world.series(u, now) for o in s.options()]
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        process = context.Process(target=client, args=(gateway.port, contracts, window, seconds, results))
        process.start()
        while not gateway.stats.subscriptions:
            await asyncio.sleep(0.01)
        cpu = time.process_time()
        finished, received, took = await asyncio.to_thread(results.get)
        cpu = time.process_time() - cpu
        await asyncio.to_thread(process.join)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"latency {latency[0]:g}-{latency[1]:g} ms, {window} at once, speed {speed:g}: {finished / took:,.0f} "
        f"subscriptions/s, {received / took:,.0f} messages/s, server CPU {cpu:.2f} s in {took:.2f} s "
        f"({1e6 * cpu / max(finished, 1):.0f} us a subscription), peak memory {memory:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    seconds = parser.parse_args().seconds
    for latency, window, speed in (((0, 0), 50, 0), ((5, 20), 100, 0), ((50, 200), 400, 0), ((50, 200), 400, 1)):
        asyncio.run(measure(latency, window, speed, seconds))


if __name__ == "__main__":
    main()
