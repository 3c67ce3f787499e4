"""What the simulated gateway does at, under and over each of IB's limits: ``python benchmarks/gateway_limits.py``.

Raw clients on real sockets, default options, wall-clock time: nothing is shortened but the ten minutes of the history
rule, whose end tests/tws_simulator/test_history_pacing.py looks at with its own clock. All measurements run side by
side, on a gateway each, and take half a minute. Prints a markdown table.
"""

import asyncio
import contextlib
import logging
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Self

import structlog

from tws_simulator import GatewayOptions, SimulatedGateway

OPEN, CLOSED = datetime(2026, 11, 20, 15, 0, tzinfo=UTC), datetime(2026, 11, 20, 22, 0, tzinfo=UTC)
LENGTH = struct.Struct(">I")
NOW, BARS, HISTORY_ANSWER, SNAPSHOT_END, ERROR = "49", 20, "17", "57", "4"
QUIET = 0.4
STOCKS = tuple(f"SYM{number}" for number in range(61))


def frame(*fields: object) -> bytes:
    payload = "".join(f"{field}\0" for field in fields).encode()
    return LENGTH.pack(len(payload)) + payload


class Client:
    """Frames on a socket, and what has come back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.codes: list[int] = []
        self.texts: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.closed = asyncio.Event()
        self.got = asyncio.Event()
        self._task = asyncio.create_task(self._read(reader))

    @classmethod
    async def connect(cls, port: int, client_id: int = 1, options: str = "") -> Self:
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        hello = f"v157..178{options}".encode()
        client.writer.write(b"API\0" + LENGTH.pack(len(hello)) + hello + frame(71, 2, client_id, ""))
        await asyncio.sleep(QUIET)
        client.kinds.clear()
        return client

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                payload = await reader.readexactly(LENGTH.unpack(await reader.readexactly(4))[0])
                kind, *fields = payload.decode().split("\0")
                self.kinds[kind] += 1
                if kind == ERROR and int(fields[2]) < 2000:
                    self.codes.append(int(fields[2]))
                    self.texts.append(fields[3])
                self.got.set()
        self.closed.set()

    def send(self, *fields: object, times: int = 1) -> None:
        self.writer.write(frame(*fields) * times)

    def now(self, times: int = 1) -> None:
        self.send(49, 1, times=times)

    def subscribe(self, req_id: int, conid: int, generics: str = "", snapshot: bool = False) -> None:
        contract = (conid, "", "", "", 0, "", "", "SMART", "", "", "", "")
        self.send(1, 11, req_id, *contract, 0, generics, int(snapshot), 0, "")

    def bars(self, req_id: int, conid: int, kind: str = "TRADES") -> None:
        contract = (conid, "", "", "", 0, "", "", "SMART", "", "", "", "")
        self.send(BARS, req_id, *contract, 0, "", "1 hour", "1 D", 1, kind, 1, 0, "")

    async def told(self) -> str:
        """The errors since the last look, once nothing more comes."""
        await self.quiet()
        codes, self.codes = Counter(self.codes), []
        told = ", ".join(f"error {code}" + (f" × {n}" if n > 1 else "") for code, n in codes.items()) or "no error"
        return told + ("; closed" if self.closed.is_set() else "")

    async def quiet(self, seconds: float = QUIET) -> None:
        with contextlib.suppress(TimeoutError):
            while not self.closed.is_set():
                self.got.clear()
                await asyncio.wait_for(self.got.wait(), seconds)

    async def come(self, kind: str) -> float:
        """Seconds until a message of this kind comes."""
        started, before = time.perf_counter(), self.kinds[kind]
        while self.kinds[kind] == before:
            await asyncio.sleep(0.002)
        return time.perf_counter() - started

    async def gone(self) -> None:
        self.writer.close()
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def gateway(**changes: object) -> AsyncIterator[SimulatedGateway]:
    settings: dict[str, object] = {"port": 0, "at": OPEN, "speed": 0, "symbols": ("AAPL", "MSFT")}
    async with SimulatedGateway(GatewayOptions.model_validate(settings | changes)) as running:
        yield running


def conids(running: SimulatedGateway, count: int) -> list[int]:
    world = running.world
    listed = [o for s in world.series(world.underlyings()[0], running.clock.now()) for o in s.options()]
    return [option.conid for option in listed[:count]]


def stocks(running: SimulatedGateway, count: int) -> list[int]:
    return [underlying.conid for underlying in running.world.underlyings()[:count]]


Row = tuple[str, str, str, str]


async def message_burst() -> Row:
    async def burst(count: int) -> str:
        async with gateway() as running:
            client = await Client.connect(running.port)
            await asyncio.sleep(1)  # the bucket is full again after startApi
            client.now(count)
            told = await client.told()
            return f"{count} at once: {told}, {client.kinds[NOW]} answered"

    under, at, over = await asyncio.gather(burst(49), burst(50), burst(51))
    return "messages a second: 50 (lines ÷ 2), a bucket", under, at, over


async def message_rate() -> Row:
    async def steady(rate: int, seconds: float) -> str:
        async with gateway() as running:
            client = await Client.connect(running.port)
            await asyncio.sleep(1)
            started = time.perf_counter()
            sent = 0
            while (elapsed := time.perf_counter() - started) < seconds and not client.codes:
                client.now(int(elapsed * rate) - sent)
                sent = int(elapsed * rate)
                await asyncio.sleep(0.005)
            return f"{rate}/s: {await client.told()} in {elapsed:.0f} s"

    under, at, over = await asyncio.gather(steady(45, 15), steady(50, 15), steady(55, 20))
    return "the same, steadily", under, at, over


async def third_violation() -> Row:
    async def burst(count: int) -> str:
        async with gateway() as running:
            client = await Client.connect(running.port)
            await asyncio.sleep(1)
            client.now(count)
            return f"{count} at once: {await client.told()}"

    under, at, over = await asyncio.gather(burst(52), burst(53), burst(60))
    return "the third violation ends the session", under, at, over


async def third_second() -> Row:
    async def bursts(number: int) -> str:
        async with gateway(rules={"violation_per": "second"}) as running:
            client = await Client.connect(running.port)
            for _ in range(number):
                client.now(120)
                await asyncio.sleep(1.05)
            return f"{number} seconds with 120: {await client.told()}"

    under, at, over = await asyncio.gather(bursts(2), bursts(3), bursts(4))
    return "the same with `--violation-per second`", under, at, over


async def paced() -> Row:
    async def burst(count: int) -> str:
        async with gateway(rules={"over_rate": "pace"}) as running:
            client = await Client.connect(running.port)
            await asyncio.sleep(1)
            started = time.perf_counter()
            client.now(count)
            while client.kinds[NOW] < count:
                await asyncio.sleep(0.002)
            took = time.perf_counter() - started
            return f"{count} at once: {await client.told()}, all answered in {took:.1f} s"

    under, at, over = await asyncio.gather(burst(49), burst(50), burst(200))
    return "the same with `--over-rate pace`", under, at, over


async def two_connections(rate_per: str) -> Row:
    async def burst(each: int) -> str:
        async with gateway(rules={"rate_per": rate_per, "violation_per": "second"}) as running:
            pair = [await Client.connect(running.port, number) for number in (1, 2)]
            await asyncio.sleep(1)
            for client in pair:
                client.now(each)
            told = await pair[0].told(), await pair[1].told()
            return f"{each} at once on each: {told[0] if told[0] == told[1] else ' and '.join(told)}"

    under, at, over = (24, 25, 30) if rate_per == "session" else (49, 50, 55)
    cells = await asyncio.gather(burst(under), burst(at), burst(over))
    label = "two connections" if rate_per == "connection" else "the same with `--rate-per session`"
    return f"{label}, `--violation-per second`" if rate_per == "connection" else label, *cells


async def lines() -> Row:
    async def hold(count: int) -> str:
        async with gateway(messages_per_second=5000) as running:
            # the last request is that of a connection that holds no line
            client, other = [await Client.connect(running.port, number) for number in (1, 2)]
            *most, last = enumerate(conids(running, count))
            for number, conid in most:
                client.subscribe(number, conid)
            held = await client.told()
            other.subscribe(*last)
            told = f"{count}: {await other.told()}" if held == "no error" else held
            if count > 100:
                client.send(2, 2, 0)
                await client.quiet()
                other.subscribe(999, conids(running, 1)[0])
                told += f"; after one cancel: {await other.told()}"
            return told

    under, at, over = await asyncio.gather(hold(99), hold(100), hold(101))
    return "market data lines: 100 for the account, over two connections", under, at, over


async def snapshot_time() -> Row:
    async def snapshot(at: datetime) -> float:
        async with gateway(at=at) as running:
            client = await Client.connect(running.port)
            client.subscribe(1, running.world.underlyings()[0].conid, snapshot=True)
            return await client.come(SNAPSHOT_END)

    full, partial = await asyncio.gather(snapshot(OPEN), snapshot(CLOSED))
    end = "tickSnapshotEnd after"
    return (
        "a snapshot lasts at most 11 s",
        f"all ticks in: {end} {full:.2f} s",
        f"no quotes: {end} {partial:.2f} s",
        "–",
    )


async def snapshot_generics() -> Row:
    async def ask(generics: str, snapshot: bool) -> str:
        async with gateway() as running:
            client = await Client.connect(running.port)
            client.subscribe(1, conids(running, 1)[0], generics, snapshot)
            return await client.told()

    none, stream, both = await asyncio.gather(ask("", True), ask("101", False), ask("101", True))
    return "no generic ticks in a snapshot", f"snapshot: {none}", f"101, streaming: {stream}", f"101, snapshot: {both}"


async def client_ids() -> Row:
    async with gateway() as running:
        first = await Client.connect(running.port, 7)
        other = await Client.connect(running.port, 8)
        again = await Client.connect(running.port, 7)
        beside, twice = f"id 8 beside 7: {await other.told()}", f"id 7 again: {await again.told()}"
        first.now()
        kept = f"the first: {await first.told()}, served {first.kinds[NOW]}"
        await first.gone()
        later = await Client.connect(running.port, 7)
        return "one connection a client id", beside, f"7 after it left: {await later.told()}", f"{twice}; {kept}"


async def clients() -> Row:
    async with gateway() as running:
        connected = await asyncio.gather(*(Client.connect(running.port, number) for number in range(31)))
        under = f"31: {await connected[30].told()}"
        at = f"32: {await (await Client.connect(running.port, 31)).told()}"
        over = f"33: {await (await Client.connect(running.port, 32)).told()}"
        await connected[0].gone()
        over += f"; after one left: {await (await Client.connect(running.port, 33)).told()}"
        return "32 clients", under, at, over


async def history_total(kind: str, most: int) -> Row:
    async def ask(count: int) -> str:
        async with gateway(messages_per_second=5000, history_latency_ms=(1, 5), symbols=STOCKS) as running:
            client = await Client.connect(running.port)
            for number, conid in enumerate(stocks(running, count)):
                client.bars(number, conid, kind)
                await asyncio.sleep(0.05)
            await client.quiet(2)
            return f"{count}: {await client.told()}, {client.kinds[HISTORY_ANSWER]} answered"

    under, at, over = await asyncio.gather(ask(most - 1), ask(most), ask(most + 1))
    counted = " (each counts twice)" if kind == "BID_ASK" else ""
    return f"history: 60 in 10 minutes, {kind}{counted}", under, at, over


async def history_identical() -> Row:
    async def ask(gap: float) -> str:
        async with gateway(history_latency_ms=(1, 5)) as running:
            client = await Client.connect(running.port)
            (conid,) = stocks(running, 1)
            client.bars(1, conid)
            await asyncio.sleep(gap)
            client.bars(2, conid)
            await client.quiet(2)
            return f"again after {gap:g} s: {await client.told()}"

    under, at, over = await asyncio.gather(ask(15.2), ask(15.1), ask(14.8))
    return "history: the same request not within 15 s", under, at, over


async def history_burst(kind: str, counts: tuple[int, int, int]) -> Row:
    async def ask(count: int) -> str:
        async with gateway(history_latency_ms=(1, 5), messages_per_second=5000) as running:
            client = await Client.connect(running.port)
            (conid,) = stocks(running, 1)
            contract = (conid, "", "", "", 0, "", "", "SMART", "", "", "", "")
            for number in range(count):
                client.send(BARS, number, *contract, 0, "", "1 hour", f"{number + 1} D", 1, kind, 1, 0, "")
            await client.quiet(2)
            return f"{count}: {await client.told()}"

    under, at, over = await asyncio.gather(*(ask(count) for count in counts))
    return f"history: fewer than 6 in 2 s for one contract, {kind}", under, at, over


async def history_open() -> Row:
    async def ask(count: int) -> str:
        async with gateway(
            messages_per_second=5000, history_latency_ms=(3000, 3000), history_pacing="off", symbols=STOCKS
        ) as running:
            client = await Client.connect(running.port)
            for number, conid in enumerate(stocks(running, count)):
                client.bars(number, conid)
            told = f"{count}: {await client.told()}"
            await client.come(HISTORY_ANSWER)
            await client.quiet()
            return f"{told}, {client.kinds[HISTORY_ANSWER]} answered"

    under, at, over = await asyncio.gather(ask(49), ask(50), ask(51))
    return "history: 50 requests open", under, at, over


async def request_ids() -> Row:
    async with gateway() as running:
        client = await Client.connect(running.port)
        one, other = conids(running, 2)
        client.subscribe(1, one)
        under = f"a new id: {await client.told()}"
        client.subscribe(1, other)
        at = f"an id in use: {await client.told()}"
        client.send(2, 2, 5)
        return "request ids", under, at, f"cancel of an unknown id: {await client.told()}"


async def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rows = await asyncio.gather(
        message_burst(),
        message_rate(),
        third_violation(),
        third_second(),
        paced(),
        two_connections("connection"),
        two_connections("session"),
        lines(),
        snapshot_time(),
        snapshot_generics(),
        request_ids(),
        client_ids(),
        clients(),
        history_total("TRADES", 60),
        history_total("BID_ASK", 30),
        history_identical(),
        history_burst("TRADES", (4, 5, 6)),
        history_burst("BID_ASK", (1, 2, 3)),
        history_open(),
    )
    print("| limit | under | at | over |")
    print("|---|---|---|---|")
    for cells in rows:
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    asyncio.run(main())
