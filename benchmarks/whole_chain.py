"""A slot of the whole S&P 500 on 100 lines: ``python benchmarks/whole_chain.py [--underlyings 503]``.

The frozen set is discovered first, on a simulated gateway without tight limits. Then another gateway of the same world
starts at the slot's instant, in real time, and enforces IB's limits: 100 lines, 50 messages a second a connection,
quotes after 200 to 500 ms. One command captures the slot over its connections, inside the slot's half-hour. Printed:
contracts, rows and failures as the lake has them, skew, time, errors 100 and 101, CPU a contract, peak memory of
client and gateway. The full run takes about as long as the slot; 20 underlyings prove it in a minute or two.
"""

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import structlog

from flows.simulated_gateway import free_port
from flows.steps import PipelineContext, connect_broker
from ingest.calendar.sessions import next_session
from ingest.capacity.probe_result import ProbeResult, store
from ingest.contracts import Underlying
from ingest.settings import Settings, load
from ingest.universe import read_universe
from lake.reads import reader
from lake.store import Lake

DAY = next_session(date(2026, 11, 16))
SLOT = DAY.slots[2]
MEGABYTE = 1024
# As a probe of this gateway measures it: quotes after 200 to 500 ms, the model up to 100 ms later.
HOLDING_MS = 450.0


def peak_mb(pid: int | str) -> float:
    """Peak resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / MEGABYTE
    return 0.0


@contextmanager
def gateway(
    symbols: Sequence[str], at: datetime, *, lines: int, latency: str, speed: float
) -> Iterator[tuple[int, int]]:
    """A simulated gateway in a process of its own: its port and process id."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "chainlake.cli", "gateway", "--port", str(port), "--control-port", str(free_port())),
        *("--symbols", ",".join(symbols), "--at", at.isoformat(), "--speed", str(speed)),
        *("--latency", latency, "--lines", str(lines)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(10)


def settings_for(folder: Path, port: int, lines: int, connections: str, batch_size: int) -> Settings:
    return load(
        ib={"port": port, "lines": lines, "connections": int(connections) if connections.isdigit() else connections},
        acquisition={"batch_size": batch_size},
        lake={"root": str(folder / "lake")},
        state={"dir": folder / "state"},
    )


async def freeze(folder: Path, universe: Sequence[Underlying]) -> int:
    """Discover and freeze the day's contracts; how many there are."""
    symbols = [underlying.symbol for underlying in universe]
    with gateway(symbols, DAY.open - timedelta(hours=1), lines=20_000, latency="0-5", speed=0) as (port, _):
        context = PipelineContext(settings_for(folder, port, 20_000, "1", 0), tuple(universe), "manual")
        async with connect_broker(context) as broker:
            await broker.session.step_clock(DAY.open - timedelta(minutes=5))
            return (await broker.discover(DAY)).captured


async def capture(folder: Path, universe: Sequence[Underlying], given: argparse.Namespace) -> dict[str, float]:
    """Capture the slot in real time; what it took."""
    symbols = [underlying.symbol for underlying in universe]
    # The slot begins when the client is ready: a moment after the gateway has started.
    start = SLOT.sample_time - timedelta(seconds=given.lead)
    with gateway(symbols, start, lines=given.lines, latency="200-500", speed=1) as (port, pid):
        settings = settings_for(folder, port, given.lines, given.connections, given.batch_size)
        probed = ProbeResult(
            chainlake="benchmark",
            probed_at=start,
            gateway=f"127.0.0.1:{port}",
            origin="simulated",
            lines=given.lines,
            messages_per_second=settings.ib.message_limit,
            cancels_count=True,
            rate_per="connection",
            streaming_hold_ms=HOLDING_MS,
        )
        store(probed, folder / "state")
        async with connect_broker(PipelineContext(settings, tuple(universe), "manual")) as broker:
            control = broker.session.control
            assert control is not None
            await asyncio.sleep(max(0.0, broker.session.clock.wall_seconds_until(SLOT.sample_time)))
            before, cpu, began = await control.call({"op": "stats"}), time.process_time(), time.monotonic()
            runs = await broker.snapshot(DAY, SLOT)
            seconds, cpu = time.monotonic() - began, time.process_time() - cpu
            after = await control.call({"op": "stats"})
            asked = sum(run.asked for run in runs)
            return {
                "connections": len(broker.pools[0].sessions),
                "batches": len(runs),
                "asked": asked,
                "failed": sum(run.failed for run in runs),
                "seconds": round(seconds, 1),
                "contracts_per_second": round(asked / seconds, 1),
                "error_100": after["violations"] - before["violations"],
                "errors": after["errors"] - before["errors"],
                "most_lines": after["most_lines_in_use"],
                "client_cpu_us": round(cpu / asked * 1e6),
                "gateway_cpu_us": round((after["cpu_seconds"] - before["cpu_seconds"]) / asked * 1e6),
                "client_peak_mb": round(peak_mb("self")),
                "gateway_peak_mb": round(peak_mb(pid)),
            }


def stored(folder: Path, frozen: int) -> dict[str, float]:
    """Rows, failures and skew of the slot as the lake has them."""

    with reader(Lake.open(str(folder / "lake"))) as reads:
        (row,) = reads.rows(
            "raw/option_quotes",
            f"trade_date = date '{DAY.trade_date}' and slot_30m = {SLOT.slot_30m}",
            "count(*) as rows, count(distinct conid) as contracts, count(*) filter (where snapshot_error) as failures, "
            "quantile_cont(epoch(asof_ts) - epoch(sample_time), 0.5) as skew_p50_s, "
            "quantile_cont(epoch(asof_ts) - epoch(sample_time), 0.99) as skew_p99_s",
        )
    return {"frozen": frozen, **row}


async def run(given: argparse.Namespace, folder: Path) -> bool:
    universe = [replace(u, conid=None) for u in read_universe(load().universe.file)][: given.underlyings]
    frozen = await freeze(folder, universe)
    print(json.dumps({"underlyings": len(universe), "frozen": frozen}), flush=True)
    took = await capture(folder, universe, given)
    print(json.dumps(took), flush=True)
    rows = stored(folder, frozen)
    print(json.dumps(rows), flush=True)
    return rows["rows"] == rows["contracts"] == frozen and not took["error_100"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--underlyings", type=int, default=503)
    parser.add_argument("--lines", type=int, default=100)
    parser.add_argument("--connections", default="auto")
    parser.add_argument("--batch-size", type=int, default=25, help="underlyings a batch: each is one commit")
    parser.add_argument("--lead", type=float, default=5.0, help="seconds from its start to the slot")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="chainlake-whole-chain-") as folder:
        raise SystemExit(0 if asyncio.run(run(given, Path(folder))) else 1)


if __name__ == "__main__":
    main()
