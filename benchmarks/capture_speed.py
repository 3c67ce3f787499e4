"""How near capture comes to IB's limit: ``python benchmarks/capture_speed.py [--seconds 60] [--only NAME ...]``.

A simulated gateway that enforces its limits runs in a process of its own; the production capture engine runs here. For
each scenario:

- steady: contracts a second, answered or timed out at their first attempt, without the first and last 10 s;
- bound: min(messages / 2, lines / holding time), where messages are IB's limit and holding time is how long a contract
  kept its line, from request to answer or time-out, in the same run;
- CPU a contract of client and gateway, and the errors 100 and 101 that the gateway sent.

Beside it, in the same run and against the same gateway, the usual ways: ``reqTickers`` in batches of 50, and subscribe,
sleep, cancel one by one. At last the memory of repeated slots.
"""

import argparse
import asyncio
import gc
import logging
import multiprocessing
import resource
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog
from ib_insync import IB, Contract

from ingest.broker import BrokerSession
from ingest.calendar.clock import ControlPort
from ingest.capture import CaptureEngine, CaptureRules, Outcome, Pace, QuoteRequest
from ingest.capture.readiness import option_ready
from ingest.contracts import OptionContract
from ingest.settings import Settings, load
from tws_simulator import GatewayOptions, SimulatedGateway

AT = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
SYMBOLS = ("AAPL", "MSFT", "NVDA", "AMZN", "META", "GOOGL", "TSLA", "JPM", "XOM", "UNH", "AVGO", "LLY")
EDGE_S = 10.0
SLEEP_S = 2.0
BATCH = 50


@dataclass(frozen=True)
class Scenario:
    """One setting of the gateway, and the share of the bound that capture is held to."""

    name: str
    messages_per_second: int
    latency_ms: tuple[float, float]
    target: float
    silent: float = 0.0


SCENARIOS = (
    Scenario("50/s", 50, (200, 500), 0.95),
    Scenario("250/s", 250, (200, 500), 0.95),
    Scenario("500/s", 500, (200, 500), 0.95),
    Scenario("50/s slow", 50, (1000, 3000), 0.90),
    Scenario("50/s 10 % silent", 50, (200, 500), 0.90, silent=0.1),
    Scenario("50/s slow, 10 % silent", 50, (1000, 3000), 0.90, silent=0.1),
)


# -- the gateway, in a process of its own


def serve(scenario: Scenario, pipe: Connection) -> None:
    quiet()

    async def run() -> None:
        options = GatewayOptions(
            port=0,
            control_port=0,
            symbols=SYMBOLS,
            at=AT,
            speed=0,
            lines=2 * scenario.messages_per_second,
            latency_ms=scenario.latency_ms,
        )
        async with SimulatedGateway(options) as gateway:
            found = (
                OptionContract(
                    option.conid, underlying.symbol, option.local_symbol, option.series.trading_class,
                    option.series.expiry, option.series.last_trade_date, option.right, option.strike,
                    option.series.multiplier, "SMART",
                )
                for underlying in gateway.world.underlyings()
                for series in gateway.world.series(underlying, AT)
                for option in series.options()
            )  # fmt: skip
            pipe.send((gateway.port, gateway.control_port, list(islice(found, 60_000))))
            await asyncio.to_thread(pipe.recv)

    asyncio.run(run())


@contextmanager
def gateway_of(scenario: Scenario) -> Iterator[tuple[int, ControlPort, list[OptionContract]]]:
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(scenario, there))
    process.start()
    try:
        port, control, contracts = here.recv()
        yield port, ControlPort("127.0.0.1", control), contracts
    finally:
        here.send("end")
        process.join(10)


# -- measuring


@dataclass(frozen=True)
class Measured:
    """What one way of asking achieved."""

    contracts_per_second: float
    client_cpu_us: float
    gateway_cpu_us: float
    errors: int


@asynccontextmanager
async def metered(control: ControlPort) -> AsyncIterator[dict[str, float]]:
    """CPU seconds of client and gateway, and violations and line errors, spent inside."""
    used: dict[str, float] = {}
    before, cpu = await control.call({"op": "stats"}), time.process_time()
    yield used
    used["client"] = time.process_time() - cpu
    after = await control.call({"op": "stats"})
    used["gateway"] = after["cpu_seconds"] - before["cpu_seconds"]
    used["errors"] = after["errors"] - before["errors"]


def settings_of(scenario: Scenario, port: int, **acquisition: Any) -> Settings:
    return load(ib={"port": port, "lines": 2 * scenario.messages_per_second}, acquisition=acquisition)


async def capture_steadily(
    scenario: Scenario, port: int, control: ControlPort, contracts: list[OptionContract], seconds: float
) -> tuple[Measured, float, float]:
    """The engine's figures, the bound, and the mean holding time in seconds."""
    settings = settings_of(scenario, port)
    acquisition = settings.acquisition
    settled: list[tuple[float, Outcome]] = []
    async with BrokerSession.connect(settings.ib) as session, metered(control) as used:
        engine = CaptureEngine(
            session,
            Pace(settings.ib, settings.acquisition),
            CaptureRules(timeout_s=acquisition.contract_timeout_s, retries=0),
            on_outcome=lambda outcome: settled.append((time.monotonic(), outcome)),
        )
        ready = option_ready(acquisition.greeks_patience_s)
        began = time.monotonic()
        task = asyncio.create_task(engine.capture([QuoteRequest(contract, "101", ready) for contract in contracts]))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    low, high = began + EDGE_S, began + seconds - EDGE_S
    steady = [outcome for at, outcome in settled if low <= at < high]
    rate = len(steady) / (high - low)
    holding = statistics.fmean(outcome.latency_s for outcome in steady)
    bound = min(scenario.messages_per_second / 2, 2 * scenario.messages_per_second / holding)
    count = len(settled)
    measured = Measured(rate, used["client"] / count * 1e6, used["gateway"] / count * 1e6, session.pacing_errors)
    return measured, bound, holding


async def by_tickers(port: int, contracts: list[OptionContract], control: ControlPort, seconds: float) -> Measured:
    """``reqTickers`` in batches of 50, with the library's own throttle."""
    ib = IB()
    await ib.connectAsync("127.0.0.1", port, 90, readonly=True)
    pacing: list[int] = []
    ib.errorEvent += lambda request, code, text, contract: pacing.append(code) if code in (100, 101) else None
    began, done = time.monotonic(), 0
    async with metered(control) as used:
        while time.monotonic() - began < seconds and ib.isConnected():
            batch = contracts[done : done + BATCH]
            await ib.reqTickersAsync(*(Contract(conId=c.conid, exchange=c.exchange) for c in batch))
            done += len(batch)
    rate = done / (time.monotonic() - began)
    ib.disconnect()
    return Measured(rate, used["client"] / done * 1e6, used["gateway"] / done * 1e6, len(pacing))


async def one_by_one(port: int, contracts: list[OptionContract], control: ControlPort, seconds: float) -> Measured:
    """Subscribe, sleep for two seconds, cancel; the next."""
    ib = IB()
    await ib.connectAsync("127.0.0.1", port, 91, readonly=True)
    began, done = time.monotonic(), 0
    async with metered(control) as used:
        while time.monotonic() - began < seconds:
            contract = Contract(conId=contracts[done].conid, exchange="SMART")
            ib.reqMktData(contract, "101")
            await asyncio.sleep(SLEEP_S)
            ib.cancelMktData(contract)
            done += 1
    rate = done / (time.monotonic() - began)
    ib.disconnect()
    return Measured(rate, used["client"] / done * 1e6, used["gateway"] / done * 1e6, 0)


async def run_scenario(scenario: Scenario, seconds: float, usual_seconds: float) -> bool:
    with gateway_of(scenario) as (port, control, contracts):
        if scenario.silent:
            fault = {"fault": "silent", "share": scenario.silent}
            await control.call({"op": "fault", "fault": fault})
        measured, bound, holding = await capture_steadily(scenario, port, control, contracts, seconds)
        share = measured.contracts_per_second / bound
        fine = share >= scenario.target and not measured.errors
        print(
            f"| {scenario.name} | {scenario.latency_ms[0]:g}-{scenario.latency_ms[1]:g} ms | {holding:.2f} s "
            f"| {bound:.1f} | {measured.contracts_per_second:.1f} | {share:.3f} | {scenario.target:.2f} "
            f"| {measured.errors} | {measured.client_cpu_us:.0f} | {measured.gateway_cpu_us:.0f} |",
            flush=True,
        )
        if usual_seconds and not scenario.silent:
            for name, way in (("reqTickers by 50", by_tickers), ("one by one", one_by_one)):
                usual = await way(port, contracts, control, usual_seconds)
                print(
                    f"| {scenario.name}: {name} | | | {bound:.1f} | {usual.contracts_per_second:.2f} "
                    f"| {usual.contracts_per_second / bound:.3f} | | {usual.errors} | {usual.client_cpu_us:.0f} "
                    f"| {usual.gateway_cpu_us:.0f} |",
                    flush=True,
                )
        return fine


async def repeated_slots(contracts_each: int, slots: int) -> None:
    """Memory and CPU a contract over slots captured one after another on one connection."""
    scenario = Scenario("memory", 4000, (1, 5), 0)
    print(f"\n| slot of {contracts_each:,} | contracts/s | client CPU us each | resident MB | objects |")
    print("|---|---|---|---|---|", flush=True)
    with gateway_of(scenario) as (port, _, contracts):
        settings = settings_of(scenario, port)
        ready = option_ready(2.0)
        async with BrokerSession.connect(settings.ib) as session:
            pace = Pace(settings.ib, settings.acquisition)
            for slot in range(1, slots + 1):
                count = 0

                def settled(_outcome: Outcome) -> None:
                    nonlocal count
                    count += 1

                cpu, began = time.process_time(), time.monotonic()
                engine = CaptureEngine(session, pace, CaptureRules(timeout_s=11, retries=0), on_outcome=settled)
                await engine.capture([QuoteRequest(contract, "101", ready) for contract in contracts[:contracts_each]])
                seconds, used = time.monotonic() - began, time.process_time() - cpu
                del engine
                gc.collect()
                print(
                    f"| {slot} | {count / seconds:.0f} | {used / count * 1e6:.0f} | {resident_mb():.1f} "
                    f"| {len(gc.get_objects()):,} |",
                    flush=True,
                )


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def quiet() -> None:
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each scenario, more than 20")
    parser.add_argument("--usual-seconds", type=float, default=30.0, help="of each usual way; 0 leaves them out")
    parser.add_argument("--only", nargs="*", help="names of scenarios")
    parser.add_argument("--contracts", type=int, default=50_000, help="of each repeated slot")
    parser.add_argument("--slots", type=int, default=5, help="repeated slots; 0 leaves them out")
    given = parser.parse_args()
    quiet()
    print("| scenario | quotes after | holding | bound/s | steady/s | share | target ", end="")
    print("| 100/101 | client us | gateway us |\n|---|---|---|---|---|---|---|---|---|---|", flush=True)
    fine = True
    for scenario in SCENARIOS:
        if not given.only or scenario.name in given.only:
            fine &= asyncio.run(run_scenario(scenario, given.seconds, given.usual_seconds))
    if given.slots:
        asyncio.run(repeated_slots(given.contracts, given.slots))
    raise SystemExit(0 if fine else 1)


if __name__ == "__main__":
    main()
