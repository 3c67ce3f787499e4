"""The S&P 500 from discovery to a slot: ``python benchmarks/sp500.py [--underlyings 503] [--lines 5000]``.

A simulated gateway in a process of its own lists the chains and enforces its limits: lines, and lines / 2 messages a
second. Measured, in one run, are a cold prewarm, the freeze after it, one slot and the close view at ``ib-limit``, and
the freeze of the next session, when the cache is warm: wall-clock seconds, messages, error 100s, and the memory of
client and gateway. All of it is bound by messages, so the minutes at IB's 50 a second follow from their count;
``--lines 100 --underlyings 5`` measures them instead.

    cold = combinations of wanted expiries, strikes and rights + 4 an underlying
    warm = new combinations + 4 an underlying        (id, previous close and its cancel, chain)
    slot = 2 a contract and underlying
    seconds = messages / (limit x head-room)
"""

import argparse
import asyncio
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import structlog

from flows.simulated_gateway import free_port
from ingest.broker import BrokerSession
from ingest.calendar.sessions import Session, Slot, next_session
from ingest.capture.rows import View
from ingest.capture.snapshot import capture_slot
from ingest.context import StepContext
from ingest.contracts import Underlying
from ingest.discovery.discover import Mode, discover
from ingest.settings import Settings, load
from ingest.universe import read_universe
from lake.reads import reader
from lake.store import Lake

DAY = next_session(date(2026, 11, 16))
IB_LIMIT = 50
MEGABYTE = 1024


def memory_mb(pid: int | str, what: str) -> float:
    """`what` (VmRSS: now, VmHWM: at most) of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / MEGABYTE
    return 0.0


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    lake: Lake
    session: BrokerSession
    universe: list[Underlying]
    settings: Settings
    gateway_pid: int

    async def discover(self, day: Session, mode: Mode) -> None:
        """Run one discovery, and print what it took."""
        before_open = timedelta(hours=5, minutes=30) if mode == "prewarm" else timedelta(minutes=5)
        await self.session.step_clock(day.open - before_open)
        async with self.metered(f"{day.trade_date} {mode:8}") as found:
            run = await discover(
                StepContext(self.lake, day, self.universe, self.settings, "manual"), self.session, mode=mode
            )
            found |= {"asked": run.measures["questions"], "listed": run.measures["listed"]}
            found |= {"frozen": run.captured, "failed": run.failed, "messages": run.measures["messages"]}

    async def capture(self, day: Session, slot: Slot, view: View) -> None:
        """Capture one slot of the frozen set, and print what it took."""
        await self.session.step_clock(slot.sample_time if view == "intraday" else day.close + timedelta(hours=1))
        name = f"slot {slot.label}" if view == "intraday" else "close view"
        async with self.metered(f"{day.trade_date} {name}") as found:
            runs = await capture_slot(
                StepContext(self.lake, day, self.universe, self.settings, "manual"), self.session, slot, view
            )
            found |= {name: sum(getattr(run, name) for run in runs) for name in ("asked", "captured", "failed")}
            found["messages"] = sum(run.measures["messages"] for run in runs)
            found["latency_p99_ms"] = max(run.measures["latency_p99_ms"] for run in runs)
        with reader(self.lake) as reads:
            (stored,) = reads.rows(
                "raw/option_quotes",
                f"trade_date = date '{day.trade_date}' and view = '{view}' and slot_30m = {slot.slot_30m}",
                "count(*) as n, count(distinct conid) as contracts, count(*) filter (where snapshot_error) as errors",
            )
        print(f"{day.trade_date} {name} stored: {json.dumps(stored)}", flush=True)

    @asynccontextmanager
    async def metered(self, label: str) -> AsyncIterator[dict[str, float]]:
        """Yields what the caller found; then prints it with time, share of IB's limit, CPU and memory."""
        assert self.session.control is not None
        found: dict[str, float] = {}
        cpu, started = time.process_time(), time.perf_counter()
        before = await self.session.control.call({"op": "stats"})
        yield found
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        after = await self.session.control.call({"op": "stats"})
        settings = self.settings
        found |= {
            "seconds": round(seconds, 1),
            "error_100": after["violations"] - before["violations"],
            "share_of_limit": round(found["messages"] / seconds / settings.ib.message_limit, 3),
            "minutes_at_50": round(found["messages"] / (IB_LIMIT * settings.acquisition.head_room) / 60, 1),
            "client_cpu_s": round(cpu, 1),
            "gateway_cpu_s": round(after["cpu_seconds"] - before["cpu_seconds"], 1),
            "client_mb": round(memory_mb("self", "VmRSS")),
            "client_peak_mb": round(memory_mb("self", "VmHWM")),
            "gateway_peak_mb": round(memory_mb(self.gateway_pid, "VmHWM")),
        }
        print(f"{label} {json.dumps(found)}", flush=True)


async def run(arguments: argparse.Namespace, folder: Path, port: int, gateway_pid: int) -> None:
    settings = load(
        ib={"port": port, "lines": arguments.lines},
        acquisition={"batch_size": arguments.batch_size},
        lake={"root": str(folder / "lake")},
        state={"dir": folder / "state"},
    )
    universe = [replace(u, conid=None) for u in read_universe(settings.universe.file)][: arguments.underlyings]
    async with BrokerSession.connect(settings.ib) as session:
        lake = Lake.create(settings.lake.root, session.origin, session.clock.now())
        print(f"before the first discovery the client takes {memory_mb('self', 'VmRSS'):.0f} MB")
        bench = Bench(lake, session, universe, settings, gateway_pid)
        await bench.discover(DAY, "prewarm")
        await bench.discover(DAY, "freeze")
        await bench.capture(DAY, DAY.slots[2], "intraday")
        await bench.capture(DAY, DAY.close_slot, "close")
        await bench.discover(next_session(DAY.trade_date), "freeze")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--underlyings", type=int, default=503)
    parser.add_argument("--lines", type=int, default=5000)
    parser.add_argument("--batch-size", type=int, default=50, help="underlyings a batch: each is one commit")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    port, control_port = free_port(), free_port()
    symbols = ",".join(u.symbol for u in read_universe(load().universe.file)[: arguments.underlyings])
    start = (DAY.open - timedelta(hours=6)).isoformat()
    command = [
        *(sys.executable, "-m", "chainlake.cli", "gateway", "--port", str(port), "--control-port", str(control_port)),
        *("--symbols", symbols, "--at", start, "--speed", "0", "--latency", "200-500", "--lines", str(arguments.lines)),
    ]
    with tempfile.TemporaryDirectory(prefix="chainlake-discovery-") as folder:
        gateway = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert gateway.stdout is not None
            print(gateway.stdout.readline().strip())
            asyncio.run(run(arguments, Path(folder), port, gateway.pid))
        finally:
            gateway.terminate()
            gateway.wait(10)
    print(f"client: at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE:.0f} MB")


if __name__ == "__main__":
    main()
