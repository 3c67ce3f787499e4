"""How long a discovery takes: ``python benchmarks/discovery.py [--underlyings 500] [--messages-per-second 5000]``.

A simulated gateway in a process of its own lists the S&P 500's chains and enforces its message limit. Measured, in one
run, are a cold prewarm, the freeze after it, and the freeze of the next session, when the cache is warm: wall-clock
seconds, messages, error 100s, and the memory of client and gateway. A discovery is bound by messages, so the minutes at
IB's 50 a second follow from the count of messages; ``--messages-per-second 50 --underlyings 5`` measures them instead.

    cold = combinations of wanted expiries, strikes and rights + 4 an underlying
    warm = new combinations + 4 an underlying        (id, previous close and its cancel, chain)
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
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import structlog

from flows.demo import free_port
from ingest.broker import BrokerSession
from ingest.discovery import Mode, discover
from ingest.sessions import Session, next_session
from ingest.settings import Settings, load
from ingest.universe import read_universe
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


async def measure(
    lake: Lake, session: BrokerSession, day: Session, mode: Mode, settings: Settings, gateway_pid: int, count: int
) -> dict[str, float]:
    """Run one discovery, and print what it took."""
    assert session.control is not None
    await session.step_clock(
        day.open - timedelta(hours=5, minutes=30) if mode == "prewarm" else day.open - timedelta(minutes=5)
    )
    universe = [replace(u, conid=None) for u in read_universe(settings.universe.file)][:count]
    cpu, started = time.process_time(), time.perf_counter()
    before = await session.control.call({"op": "stats"})
    run = await discover(lake, session, day, universe, "all", settings, "manual", mode=mode)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    after = await session.control.call({"op": "stats"})
    messages = run.measures["messages"]
    limit = settings.ib.message_limit
    result = {
        "seconds": round(seconds, 1),
        "messages": messages,
        "asked": run.measures["questions"],
        "listed": run.measures["listed"],
        "frozen": run.captured,
        "failed": run.failed,
        "error_100": after["violations"] - before["violations"],
        "share_of_limit": round(messages / seconds / limit, 3),
        "minutes_at_50": round(messages / (IB_LIMIT * settings.acquisition.head_room) / 60, 1),
        "client_cpu_s": round(cpu, 1),
        "client_peak_mb": round(memory_mb("self", "VmHWM")),
        "gateway_peak_mb": round(memory_mb(gateway_pid, "VmHWM")),
    }
    print(f"{day.trade_date} {mode:8} {json.dumps(result)}", flush=True)
    return result


async def run(arguments: argparse.Namespace, folder: Path, port: int, gateway_pid: int) -> None:
    settings = load(
        ib={"port": port, "lines": 500, "messages_per_second": float(arguments.messages_per_second)},
        lake={"root": str(folder / "lake")},
        state={"dir": folder / "state"},
    )
    async with BrokerSession.connect(settings.ib) as session:
        lake = Lake.create(settings.lake.root, session.origin, session.clock.now())
        print(f"before the first discovery the client takes {memory_mb('self', 'VmRSS'):.0f} MB")
        await measure(lake, session, DAY, "prewarm", settings, gateway_pid, arguments.underlyings)
        await measure(lake, session, DAY, "freeze", settings, gateway_pid, arguments.underlyings)
        day = next_session(DAY.trade_date)
        await measure(lake, session, day, "freeze", settings, gateway_pid, arguments.underlyings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--underlyings", type=int, default=503)
    parser.add_argument("--messages-per-second", type=float, default=5000)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    port, control_port = free_port(), free_port()
    symbols = ",".join(u.symbol for u in read_universe(load().universe.file)[: arguments.underlyings])
    command = [
        *(sys.executable, "-m", "flows.cli", "gateway", "--port", str(port), "--control-port", str(control_port)),
        *(
            "--symbols",
            symbols,
            "--at",
            (DAY.open - timedelta(hours=6)).isoformat(),
            "--speed",
            "0",
            "--latency",
            "5-20",
        ),
        *("--lines", "500", "--messages-per-second", str(arguments.messages_per_second)),
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
