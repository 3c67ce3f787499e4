"""A simulated gateway of our own: its process, its port, and the limits that demos and rehearsals give it."""

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.processes import child
from ingest.errors import BrokerUnreachable
from ingest.settings import Settings

# Far above IB's 100 lines and 50 messages a second: a demo shall take a minute, not an hour.
LINES = 1_000
MESSAGES_PER_SECOND = 5_000
LATENCY_MS = "20-60"
START_TIMEOUT_S = 60


def free_port() -> int:
    """A port of loopback that is free now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class GatewayCommand:
    """How a simulated gateway starts: its clock stands at `start`; it replays `files`, or makes a market."""

    symbols: Sequence[str]
    start: datetime
    files: Sequence[Path] = ()
    port: int = field(default_factory=free_port)
    control_port: int = field(default_factory=free_port)

    @property
    def arguments(self) -> list[str]:
        """The arguments of Python that start it."""
        replay = [argument for file in self.files for argument in ("--replay", str(file))]
        return [
            *("-m", "chainlake.cli", "gateway", "--port", str(self.port), "--control-port", str(self.control_port)),
            *("--at", self.start.isoformat(), "--speed", "0", "--latency", LATENCY_MS),
            *("--lines", str(LINES), "--messages-per-second", str(MESSAGES_PER_SECOND)),
            *("--symbols", ",".join(self.symbols), *replay),
        ]


@asynccontextmanager
async def gateway_process(
    settings: Settings,
    command: GatewayCommand,
    log_name: str = "demo_gateway",
    variables: Mapping[str, str] | None = None,
) -> AsyncIterator[None]:
    """A simulated gateway in a process of its own, as a user would start it; it ends with the block.

    `variables` are added to its environment. Raises BrokerUnreachable when it does not start.
    """
    log = Path(settings.state.dir) / "run_logs" / f"{log_name}.log"
    async with child(*command.arguments, log=log, variables=variables) as process:
        await listening(command.port, process, log)
        yield


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
