"""``chainlake serve``: one host in one process. A server where none answers, what it needs, and all flows."""

import asyncio
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog
from prefect.runner import Runner
from prefect.settings import PREFECT_API_AUTH_STRING

from chainlake.ops.incidents.alerts import Channel
from flows.loopback import holder, is_loopback, is_taken
from flows.prefect.bootstrap import bootstrap
from flows.prefect.deployments import deployments
from flows.prefect_password import FILE
from flows.processes import Terminated, child, ended_by_sigterm
from ingest.calendar.clock import HostClock
from ingest.errors import ChainlakeError
from ingest.recovery import recover_answers
from ingest.settings import Settings
from lake.errors import LakeMissing
from lake.store import Lake

log = structlog.get_logger(__name__)

# A busy host takes 16 s to start Prefect's server.
START_S = 120


class ServerFailed(ChainlakeError):
    """Prefect's server did not start, is not ours, or has ended."""


class Answer(Enum):
    """What is at a server's URL: nothing; a Prefect that takes our password, or another, or lets everybody in."""

    NONE = "none"
    OURS = "ours"
    NOT_OURS = "not ours"
    OPEN = "open"


async def serve(settings: Settings, channel: Channel, api_url: str, on_ready: Callable[[str], None]) -> None:
    """Serve every deployment until cancelled, or ended by SIGTERM; runs are processes of their own.

    Runs in progress are cancelled then. Raises ServerFailed.
    """
    # By default schedules are paused when a service stops, and stay so.
    runner = _Runner(pause_on_shutdown=False, limit=None)
    try:
        with ended_by_sigterm(runner.ends_by_itself):
            await _serve(runner, settings, channel, api_url, on_ready)
    except Terminated:
        log.info("stopped_while_starting")


async def _serve(
    runner: "_Runner", settings: Settings, channel: Channel, api_url: str, on_ready: Callable[[str], None]
) -> None:
    async with server(api_url) as process:
        chosen = deployments(settings)
        for each in chosen:
            await runner.aadd_deployment(each.to_prefect())
        for line in (await bootstrap(settings, channel, pool=False)).lines:
            log.info("bootstrap", line=line)
        with suppress(LakeMissing):
            await recover_answers(Path(settings.state.dir), Lake.open(settings.lake.root), HostClock())
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
        """Stop, unless that goes on already. One that has not started is stopped by `ended_by_sigterm`."""
        if self.started and self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self.astop())

    def ends_by_itself(self) -> bool:
        """Stop on SIGTERM; whether that goes on now."""
        self.handle_sigterm()
        return self._stopping is not None


@asynccontextmanager
async def server(
    api_url: str, log_file: Path | None = None, variables: Mapping[str, str] | None = None
) -> AsyncIterator["subprocess.Popen[Any] | None"]:
    """Prefect's server at `api_url`: the one that answers there, else one of our own that ends with the block.

    Ours has `variables` in its environment, and writes to `log_file`: by default to where this process does, as a
    service manager keeps and rotates that.
    """
    if await _is_ours(api_url):
        log.info("server_found", url=api_url)
        yield None
        return
    if not is_loopback(api_url):
        raise ServerFailed(f"no Prefect server answers at {api_url}: start it there, or correct PREFECT_API_URL")
    port = urlsplit(api_url).port or 80
    if is_taken(port):
        raise ServerFailed(f"port {port} is taken by {holder(port)}: end that, or set PREFECT_API_URL to another port")
    arguments = ("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    lines: deque[str] = deque(maxlen=20)
    async with child(*arguments, log=log_file, variables=variables, on_line=lines.append) as process:
        try:
            await _until_it_answers(api_url, process)
        except ServerFailed as failure:
            said = log_file.read_text(errors="replace").splitlines() if log_file else lines  # noqa: ASYNC240 - once
            last = next((line.strip() for line in reversed(said) if line.strip()), "nothing")
            raise ServerFailed(f"{failure}; it said last: {last}") from None
        yield process


async def require(api_url: str) -> None:
    """Raise ServerFailed unless Prefect's server answers, and is ours."""
    if not await _is_ours(api_url):
        raise ServerFailed(
            f"no Prefect server answers at {api_url}: start one (`prefect server start`, or `chainlake serve` for all "
            "in one process), or correct PREFECT_API_URL"
        )


async def _is_ours(api_url: str) -> bool:
    """Whether our server answers; False where none does. Raises ServerFailed for a server of somebody else.

    One of this host that asks for no password is somebody else's, or a stranger's in its place: it would be told alert
    URLs, and could run anything. Of another host it is what PREFECT_API_URL says.
    """
    answer = await ask(api_url)
    if answer is Answer.OPEN and not is_loopback(api_url):
        log.warning("server_without_password", url=api_url)
        return True
    if answer is Answer.OPEN:
        raise ServerFailed(
            f"the Prefect server at {api_url} asks for no password, so it is not this installation's "
            f"({holder(urlsplit(api_url).port or 80)}): end it, or set PREFECT_API_URL to another port"
        )
    if answer is Answer.NOT_OURS:
        raise ServerFailed(
            f"the Prefect server at {api_url} refuses the password of this state folder ({FILE}) or environment: set "
            "PREFECT_API_AUTH_STRING to that of the server, or PREFECT_API_URL to another port"
        )
    return answer is Answer.OURS


async def ask(api_url: str) -> Answer:
    """What answers at `api_url`."""
    known = PREFECT_API_AUTH_STRING.value()
    try:
        async with httpx.AsyncClient(timeout=5) as http:
            if not (await http.get(f"{api_url}/health")).is_success:
                return Answer.NONE
            # Before it is told the password: a server that does not ask for it shall not hear it.
            if (await http.get(f"{api_url}/admin/version")).is_success:
                return Answer.OPEN
            user, _, secret = (known or "").partition(":")
            knows_us = (await http.get(f"{api_url}/admin/version", auth=(user, secret))).is_success
    except httpx.HTTPError:
        return Answer.NONE
    return Answer.OURS if knows_us else Answer.NOT_OURS


async def _until_it_answers(api_url: str, process: "subprocess.Popen[Any]") -> None:
    for _ in range(START_S * 2):
        if process.poll() is not None:
            raise ServerFailed(f"Prefect's server ended as it started, with {process.poll()}")
        if await _is_ours(api_url):
            return
        await asyncio.sleep(0.5)
    raise ServerFailed(f"Prefect's server did not answer at {api_url} within {START_S} s: start it again")


async def _ended(process: "subprocess.Popen[Any] | None") -> None:
    """Return never for a server that is not ours; raise when ours has ended."""
    while process is None or process.poll() is None:
        await asyncio.sleep(1)
    raise ServerFailed("Prefect's server has ended: see what it wrote last, and start again")
