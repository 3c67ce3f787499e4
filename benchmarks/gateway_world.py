"""How fast the synthetic world of the whole universe starts: ``python benchmarks/gateway_world.py [--universe FILE]``.

Starts a gateway over every symbol of the universe file and asks it, as a client would, for the details of one expiry's
calls: once after the start, then at the next two dates of the market clock. Prints the wall-clock seconds to each
answer, the contracts listed, and the peak memory with and without the libraries.
"""

import argparse
import asyncio
import resource
import struct
import time
from datetime import date
from pathlib import Path

from ingest.calendar.sessions import NEW_YORK, next_session
from ingest.discovery.selection import wants_expiry, wants_strike
from ingest.settings import FilterSettings
from ingest.universe import read_universe
from tws_simulator import GatewayOptions, SimulatedGateway, UnderlyingSpec
from tws_simulator.worlds.synthetic import SyntheticWorld

FIRST = date(2026, 11, 19)
DATES = 3
LENGTH = struct.Struct(">I")
END_OF_DETAILS = b"52\0"


def frame(*fields: object) -> bytes:
    payload = "".join(f"{field}\0" for field in fields).encode()
    return LENGTH.pack(len(payload)) + payload


async def first_answer(port: int, client_id: int, symbol: str, expiry: date) -> None:
    """Connect, ask for one expiry's calls, and wait until the answer has ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"API\0" + LENGTH.pack(9) + b"v157..178")
    writer.write(frame(71, 2, client_id, ""))
    terms = (0, symbol, "OPT", f"{expiry:%Y%m%d}", 0, "C", "100", "SMART", "", "USD", "", "")
    writer.write(frame(9, 8, 1, *terms, 0, "", ""))
    while True:
        (size,) = LENGTH.unpack(await reader.readexactly(4))
        if (await reader.readexactly(size)).startswith(END_OF_DETAILS):
            break
    writer.close()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def measure(universe: Path) -> None:
    specs = tuple(UnderlyingSpec(one.symbol, conid=one.conid) for one in read_universe(universe))
    libraries, started = peak_mb(), time.perf_counter()
    session = next_session(FIRST)
    options = GatewayOptions(port=0, symbols=specs, at=session.open, speed=0, lines=1000)
    async with SimulatedGateway(options) as gateway:
        for number in range(DATES):
            if number:
                session = next_session(session.trade_date)
                started = time.perf_counter()
                gateway.clock.set(session.open)
            symbol = specs[number].symbol
            await first_answer(gateway.port, number, symbol, date(2026, 12, 18))
            what = "from nothing to the first answer" if not number else f"to the first answer on {session.trade_date}"
            print(f"{time.perf_counter() - started:.2f} s {what}")
        world = gateway.world
        assert isinstance(world, SyntheticWorld)
        now = gateway.clock.now()
        peak = peak_mb()
        print(
            f"{len(specs)} underlyings, {world.contract_count(now):,} contracts listed on {session.trade_date}, "
            f"{captured(world, gateway):,} of them within the default filters"
        )
        print(f"peak memory {peak:.0f} MB, {peak - libraries:.0f} MB above the libraries")


def captured(world: SyntheticWorld, gateway: SimulatedGateway) -> int:
    """Contracts that discovery would freeze: standard expiries within a year, strikes within 30 %."""
    now, filters, count = gateway.clock.now(), FilterSettings(), 0
    today = now.astimezone(NEW_YORK).date()
    for underlying in world.underlyings(now):
        price = world.previous_close(underlying, now)
        assert price is not None
        for series in world.series(underlying, now):
            if wants_expiry(series.expiry, today, filters):
                near = [wants_strike(strike, price, filters) for strike in series.strikes.tolist()]
                count += int((series.conids[:, near] > 0).sum())
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--universe", type=Path, default=Path(__file__).parents[1] / "config" / "universe.csv")
    asyncio.run(measure(parser.parse_args().universe))


if __name__ == "__main__":
    main()
