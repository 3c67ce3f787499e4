"""Several connections to one gateway: ``python benchmarks/capture_pool.py [--seconds 60] [--only NAME ...]``.

A simulated gateway that enforces its limits (100 lines, 50 messages a second a connection) runs in its own process; the
production capture engine runs here. For each scenario, with one connection and with as many as ``ib.connections =
"auto"`` opens by what a probe knows (whose the message rate is, and how long a contract holds its line):

- steady: contracts a second, answered or timed out at their first attempt, without the first and last seconds;
- bound: lines / holding time where each connection has the rate, else messages / 2 if that is less;
- CPU a contract of client and gateway, and the errors 100 and 101 that came.

At last the skew of a slot of the largest underlyings: seconds from the start to the last tick of a row.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Literal

from capture_speed import AT, SYMBOLS, metered, quiet

from ingest.broker import BrokerPool
from ingest.calendar.clock import ControlPort
from ingest.capacity.probe_result import ProbeResult, connections_for
from ingest.capture import CaptureEngine, CaptureRules, Outcome, QuoteRequest
from ingest.capture.readiness import option_ready
from ingest.contracts import OptionContract
from ingest.settings import load
from tws_simulator import GatewayOptions, SimulatedGateway

LINES, RATE, TIMEOUT_S = 100, 50.0, 11.0


@dataclass(frozen=True)
class Scenario:
    """One setting of the gateway, and the share of the bound that the pool is held to."""

    name: str
    latency_ms: tuple[float, float]
    target: float
    silent: float = 0.0
    rate_per: Literal["connection", "session"] = "connection"

    @property
    def holding_s(self) -> float:
        """Mean seconds for which a contract holds its line, as a probe would have it: model ticks come 100 ms later."""
        answered = sum(self.latency_ms) / 2000 + 0.05
        return (1 - self.silent) * answered + self.silent * TIMEOUT_S


SCENARIOS = (
    Scenario("fast", (200, 500), 0.90),
    Scenario("slow", (1000, 3000), 0.90),
    Scenario("10 % silent", (200, 500), 0.85, silent=0.1),
    Scenario("slow, 10 % silent", (1000, 3000), 0.85, silent=0.1),
    Scenario("rate per session", (200, 500), 0.97, rate_per="session"),
)


def serve(scenario: Scenario, pipe: Connection) -> None:
    quiet()

    async def run() -> None:
        options = GatewayOptions.model_validate(
            {
                "port": 0,
                "control_port": 0,
                "symbols": SYMBOLS,
                "at": AT,
                "speed": 0,
                "lines": LINES,
                "messages_per_second": RATE,
                "latency_ms": scenario.latency_ms,
                "rules": {"rate_per": scenario.rate_per},
            }
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
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=serve, args=(scenario, there))
    process.start()
    try:
        port, control, contracts = here.recv()
        yield port, ControlPort("127.0.0.1", control), contracts
    finally:
        here.send("end")
        process.join(10)


def auto(scenario: Scenario) -> int:
    """How many connections ``auto`` opens where a probe has measured the scenario."""
    probed = ProbeResult(
        chainlake="benchmark",
        probed_at=AT,
        gateway="127.0.0.1:0",
        origin="simulated",
        lines=LINES,
        messages_per_second=RATE,
        cancels_count=True,
        rate_per=scenario.rate_per,
        streaming_hold_ms=1000 * scenario.holding_s,
    )
    return connections_for("auto", probed, LINES, RATE, scenario.holding_s)


async def capture(
    port: int, contracts: list[OptionContract], connections: int, seconds: float | None
) -> tuple[float, list[tuple[float, Outcome]], BrokerPool]:
    """When it began, and outcomes with the time of each (monotonic), of `seconds` or of all contracts."""
    settings = load(ib={"port": port, "lines": LINES, "messages_per_second": RATE})
    settled: list[tuple[float, Outcome]] = []
    async with BrokerPool.connect(settings.ib, connections) as pool:
        engine = CaptureEngine(
            pool,
            pool.pace(settings.acquisition),
            CaptureRules(timeout_s=TIMEOUT_S, retries=0),
            on_outcome=lambda outcome: settled.append((time.monotonic(), outcome)),
        )
        ready = option_ready(settings.acquisition.greeks_patience_s)
        began = time.monotonic()
        task = asyncio.create_task(engine.capture([QuoteRequest(one, "101", ready) for one in contracts]))
        await asyncio.wait([task], timeout=seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return began, settled, pool


async def measure(scenario: Scenario, seconds: float) -> bool:
    """Print a row for one connection and one for ``auto``; whether the latter keeps to its target."""
    edge = min(TIMEOUT_S + 3, seconds / 4)
    fine = True
    with gateway_of(scenario) as (port, control, contracts):
        if scenario.silent:
            await control.call({"op": "fault", "fault": {"fault": "silent", "share": scenario.silent}})
        for wanted, is_auto in ((1, False), (auto(scenario), True)):
            async with metered(control) as used:
                began, settled, pool = await capture(port, contracts, wanted, seconds)
            steady = [outcome for at, outcome in settled if began + edge <= at < began + seconds - edge]
            rate = len(steady) / (seconds - 2 * edge)
            holding = statistics.fmean(outcome.latency_s for outcome in steady)
            rates = wanted if scenario.rate_per == "connection" else 1
            bound = LINES / holding if is_auto and rates > 1 else min(LINES / holding, rates * RATE / 2)
            share = rate / bound
            if is_auto:
                fine = share >= scenario.target and not pool.pacing_errors and used["client"] / len(settled) < 2.5e-3
            target = f"{scenario.target:.2f}" if is_auto else ""
            print(
                f"| {scenario.name} | {len(pool.sessions)}{' (auto)' if is_auto else ''} | {holding:.2f} s "
                f"| {bound:.1f} | {rate:.1f} | {share:.3f} | {target} | {pool.pacing_errors} "
                f"| {used['client'] / len(settled) * 1e6:.0f} | {used['gateway'] / len(settled) * 1e6:.0f} |",
                flush=True,
            )
    return fine


async def skew(contracts_each: int) -> None:
    """One whole slot with one connection and with ``auto``: how long after its start the rows' last ticks came."""
    scenario = SCENARIOS[0]
    print("\n| slot of ten underlyings | connections | s | skew p50 s | skew p99 s |\n|---|---|---|---|---|")
    with gateway_of(replace(scenario, name="skew")) as (port, _, contracts):
        chosen: dict[str, list[OptionContract]] = {}
        for contract in contracts:
            chosen.setdefault(contract.underlying, []).append(contract)
        asked = [one for chain in list(chosen.values())[:10] for one in chain[:contracts_each]]
        for connections in (1, auto(scenario)):
            began, settled, _pool = await capture(port, asked, connections, None)
            late = sorted(at - began for at, outcome in settled if outcome.quote is not None)
            p50, p99 = late[len(late) // 2], late[int(0.99 * len(late))]
            print(
                f"| {len(asked):,} contracts | {connections} | {settled[-1][0] - began:.1f} | {p50:.1f} | {p99:.1f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each scenario and number of connections")
    parser.add_argument("--only", nargs="*", help="names of scenarios")
    parser.add_argument("--skew-contracts", type=int, default=500, help="of each of ten underlyings; 0 leaves it out")
    given: Any = parser.parse_args()
    quiet()
    print("| scenario | connections | holding | bound/s | steady/s | share | target | 100/101 ", end="")
    print("| client us | gateway us |\n|---|---|---|---|---|---|---|---|---|---|", flush=True)
    fine = True
    for scenario in SCENARIOS:
        if not given.only or scenario.name in given.only:
            fine &= asyncio.run(measure(scenario, given.seconds))
    if given.skew_contracts:
        asyncio.run(skew(given.skew_contracts))
    raise SystemExit(0 if fine else 1)


if __name__ == "__main__":
    main()
