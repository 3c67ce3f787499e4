"""``chainlake serve``: one host in one process. A server where none answers, what it needs, and all flows."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog
from prefect.runner import Runner

from chainlake.ops.incidents.alerts import Channel
from flows.prefect.bootstrap import bootstrap
from flows.prefect.deployments import deployments
from flows.processes import child
from ingest.errors import ChainlakeError
from ingest.settings import Settings

log = structlog.get_logger(__name__)

# A busy host takes 16 s to start Prefect's server.
START_S = 120


class ServerFailed(ChainlakeError):
    """Prefect's server did not start, or has ended."""


async def serve(settings: Settings, channel: Channel, api_url: str, on_ready: Callable[[str], None]) -> None:
    """Serve every deployment until cancelled, or ended by SIGTERM; runs are processes of their own.

    Runs in progress are cancelled then. Raises ServerFailed.
    """
    async with server(api_url) as process:
        # By default schedules are paused when a service stops, and stay so.
        runner = _Runner(pause_on_shutdown=False, limit=None)
        chosen = deployments(settings)
        for each in chosen:
            await runner.aadd_deployment(each.to_prefect())
        for line in (await bootstrap(settings, channel, pool=False)).lines:
            log.info("bootstrap", line=line)
        serving = asyncio.create_task(runner.start())
        watching = asyncio.create_task(_ended(process))
        on_ready(f"serving {', '.join(each.name for each in chosen)}")
        try:
            done, _ = await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            # While the server is still there: what ends tells it so.
            if runner.started and not watching.done():
                await runner.astop()
            watching.cancel()
            serving.cancel()
            await asyncio.gather(serving, watching, return_exceptions=True)


class _Runner(Runner):
    """Prefect's runner, which on SIGTERM ends its runs as cancelled before it returns.

    Prefect's own handler makes a coroutine for that, awaits it nowhere, and exits.
    """

    _stopping: "asyncio.Task[None] | None" = None

    def handle_sigterm(self, *_: Any, **__: Any) -> None:
        """Stop, unless that goes on already."""
        self._stopping = self._stopping or asyncio.get_running_loop().create_task(self.astop())


@asynccontextmanager
async def server(
    api_url: str, log_file: Path | None = None, variables: Mapping[str, str] | None = None
) -> AsyncIterator["subprocess.Popen[Any] | None"]:
    """Prefect's server at `api_url`: the one that answers there, else one of our own that ends with the block.

    Ours has `variables` in its environment, and writes to `log_file`: by default to where this process does, as a
    service manager keeps and rotates that.
    """
    if await _healthy(api_url):
        yield None
        return
    address = urlsplit(api_url)
    if address.hostname not in ("127.0.0.1", "localhost"):
        raise ServerFailed(f"no Prefect server answers at {api_url}: start it there, or correct PREFECT_API_URL")
    arguments = ("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(address.port))
    async with child(*arguments, log=log_file, variables=variables) as process:
        await _until_healthy(api_url, process)
        yield process


async def require(api_url: str) -> None:
    """Raise ServerFailed unless Prefect's server answers."""
    if not await _healthy(api_url):
        raise ServerFailed(
            f"no Prefect server answers at {api_url}: start one (`prefect server start`, or `chainlake serve` for all "
            "in one process), or correct PREFECT_API_URL"
        )


async def _until_healthy(api_url: str, process: "subprocess.Popen[Any]") -> None:
    for _ in range(START_S * 2):
        if process.poll() is not None:
            raise ServerFailed(f"Prefect's server ended as it started, with {process.poll()}: is its port taken?")
        if await _healthy(api_url):
            return
        await asyncio.sleep(0.5)
    raise ServerFailed(f"Prefect's server did not answer at {api_url} within {START_S} s: start it again")


async def _healthy(api_url: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=5) as client:
            return (await client.get(f"{api_url}/health")).is_success
    except httpx.HTTPError:
        return False


async def _ended(process: "subprocess.Popen[Any] | None") -> None:
    """Return never for a server that is not ours; raise when ours has ended."""
    while process is None or process.poll() is None:
        await asyncio.sleep(1)
    raise ServerFailed("Prefect's server has ended: see what it wrote last, and start again")
