"""The demo: a simulated gateway and one whole day through every real part."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from flows.day import DayReport, run_day
from flows.steps import Workplace, desk
from ingest.contracts import Underlying
from ingest.errors import BrokerUnreachable, UsageError
from ingest.sessions import NEW_YORK, Session, last_completed, session_on
from ingest.settings import Settings

SYMBOLS = ("AAPL", "MSFT", "NVDA")
# Far above IB's 100 lines and 50 messages a second: a demo shall take a minute, not an hour.
LINES = 1_000
MESSAGES_PER_SECOND = 5_000
LATENCY_MS = "20-60"
GREEKS_PATIENCE_S = 0.5
START_TIMEOUT_S = 60
NO_BOUND = {"moneyness_pct": 0, "expiry_types": ("all",), "expiry_months_ahead": 0}


@dataclass(frozen=True, slots=True)
class RecordedDay:
    """A trade date in replay files, and its underlyings."""

    session: Session
    symbols: tuple[str, ...]


def recorded_days(files: Sequence[Path]) -> list[RecordedDay]:
    """The days in replay files, in order. Raises UsageError for a file that is missing or not a recorded day."""
    symbols: dict[date, set[str]] = {}
    for file in files:
        try:
            frame = pl.scan_parquet(file).select("ts", "underlying").unique().collect()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UsageError(f"replay file {file} cannot be read: {str(error).splitlines()[0]}") from None
        days = frame.select(
            pl.col("ts").dt.convert_time_zone(str(NEW_YORK)).dt.date().alias("day"), "underlying"
        ).unique()
        for day, symbol in days.iter_rows():
            symbols.setdefault(day, set()).add(symbol)
    recorded = []
    for day in sorted(symbols):
        session = session_on(day)
        if session is None:
            raise UsageError(f"the replay files have quotes of {day}, which is no session of XNYS")
        recorded.append(RecordedDay(session, tuple(sorted(symbols[day]))))
    return recorded


def demo_settings(settings: Settings, port: int, all_contracts: bool) -> Settings:
    """`settings` against the demo's own gateway, with its raised limits."""
    ib = settings.ib.model_copy(
        update={
            "host": "127.0.0.1",
            "port": port,
            "gateways": (),
            "lines": LINES,
            "messages_per_second": float(MESSAGES_PER_SECOND),
        }
    )
    acquisition = settings.acquisition.model_copy(
        update={"preset": "ib-limit", "greeks_patience_s": GREEKS_PATIENCE_S, "contract_timeout_s": 5.0}
    )
    filters = settings.filters.model_copy(update=NO_BOUND) if all_contracts else settings.filters
    return settings.model_copy(update={"ib": ib, "acquisition": acquisition, "filters": filters})


async def run_demo(
    settings: Settings,
    files: Sequence[Path],
    all_contracts: bool,
    now: datetime,
    on_step: Callable[[str], None],
) -> list[DayReport]:
    """Run the last completed session of three underlyings, or the days of `files`, in a gateway of its own."""
    days = recorded_days(files) if files else [RecordedDay(last_completed(now), SYMBOLS)]
    port, control_port = free_port(), free_port()
    settings = demo_settings(settings, port, all_contracts)
    reports = []
    recorded = sorted({symbol for day in days for symbol in day.symbols})
    start = days[0].session.at(settings.schedule.freeze_at)
    async with gateway_process(settings, port, control_port, recorded, start, files):
        for day in days:
            universe = tuple(Underlying(symbol, group="demo") for symbol in day.symbols)
            async with desk(Workplace(settings, universe, "demo", chosen=True)) as place:
                say = partial(_say_step, on_step, day.session.trade_date)
                reports.append(await run_day(place, day.session, True, say))
    return reports


def _say_step(on_step: Callable[[str], None], day: date, step: str) -> None:
    on_step(f"{day}, {step}")


@asynccontextmanager
async def gateway_process(
    settings: Settings,
    port: int,
    control_port: int,
    symbols: Sequence[str],
    start: datetime,
    files: Sequence[Path] = (),
) -> AsyncIterator[None]:
    """A simulated gateway in a process of its own, as a user would start it; it ends with the block.

    Its clock stands at `start` until it is stepped; it replays `files`, or makes a market of `symbols`.
    """
    replay = [argument for file in files for argument in ("--replay", str(file))]
    command = [
        *(sys.executable, "-m", "flows.cli", "gateway", "--port", str(port), "--control-port", str(control_port)),
        *("--at", start.isoformat(), "--speed", "0", "--latency", LATENCY_MS),
        *("--lines", str(LINES), "--messages-per-second", str(MESSAGES_PER_SECOND)),
        *("--symbols", ",".join(symbols), *replay),
    ]
    log = Path(settings.state.dir) / "run_logs" / "demo_gateway.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ})  # noqa: S603, ASYNC220
        try:
            await listening(port, process, log)
            yield
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()


async def listening(port: int, process: "subprocess.Popen[Any]", log: Path) -> None:
    """Return once the gateway listens. Raises BrokerUnreachable, with its last words, when it ends before."""
    for _ in range(START_TIMEOUT_S * 10):
        if process.poll() is not None:
            words = log.read_text().strip().splitlines()  # noqa: ASYNC240 - a few lines
            raise BrokerUnreachable(f"the simulated gateway did not start: {words[-1] if words else 'no message'}")
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.1)
    raise BrokerUnreachable(f"the simulated gateway did not start within {START_TIMEOUT_S} s: see {log}")


def free_port() -> int:
    """A port of loopback that is free now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
