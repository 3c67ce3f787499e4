"""Running chainlake in tests: in this process, which imports it once, or where a test needs one in its own."""

import asyncio
import contextvars
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import date, time
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from chainlake.cli import main
from ingest.calendar.sessions import new_york
from tws_simulator import GatewayOptions, SimulatedGateway

Result = subprocess.CompletedProcess[str]
Chainlake = Callable[..., Result]
# For a process that is killed, signalled or read while it runs; `run_chainlake` serves all else.
CLI = (sys.executable, "-m", "chainlake.cli")
SMALL = {
    # A dozen strikes of the two next monthly expiries.
    "CHAINLAKE_FILTERS__MONEYNESS_PCT": "0.04",
    "CHAINLAKE_FILTERS__EXPIRY_MONTHS_AHEAD": "2",
    "CHAINLAKE_IB__LINES": "500",
    "CHAINLAKE_IB__MESSAGES_PER_SECOND": "2000",
    # Wide enough for a busy machine: no value may depend on how fast it was captured.
    "CHAINLAKE_ACQUISITION__GREEKS_PATIENCE_S": "3",
}


def run_chainlake(*arguments: str, place: Path | None = None, environment: Mapping[str, str] | None = None) -> Result:
    """Run a chainlake command in this process, in the folder `place`; gives what it printed and its exit code.

    `environment` comes on top of the process's. Environment, folder, logging and context are afterwards as they were.
    """
    with TemporaryFile("w+", encoding="utf-8") as out, TemporaryFile("w+", encoding="utf-8") as err:
        with _process_as_it_was(), redirect_stdout(out), redirect_stderr(err):
            os.environ.update(environment or {})
            os.chdir(place or Path())
            code = contextvars.copy_context().run(_exit_code, arguments)
        out.seek(0)
        err.seek(0)
        return Result(["chainlake", *arguments], code, out.read(), err.read())


def _exit_code(arguments: tuple[str, ...]) -> int:
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@contextmanager
def _process_as_it_was() -> Iterator[None]:
    environment, place, hook, root = dict(os.environ), Path.cwd(), sys.excepthook, logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        os.chdir(place)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        root.handlers[:], sys.excepthook = handlers, hook
        root.setLevel(level)


@contextmanager
def gateway_thread(options: GatewayOptions) -> Iterator[int]:
    """A simulated gateway in a thread of this process; gives its port."""
    listening: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        ended = asyncio.Event()
        async with SimulatedGateway(options) as gateway:
            listening.set_result((gateway.port, asyncio.get_running_loop(), ended))
            await ended.wait()

    def thread() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if listening.done():
                raise
            listening.set_exception(error)

    serving = threading.Thread(target=thread, name="gateway", daemon=True)
    serving.start()
    port, loop, ended = listening.result()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(ended.set)
        serving.join()


@pytest.fixture(scope="module")
def gateway_port() -> Iterator[int]:
    """The port of a stepped synthetic gateway with AAPL and MSFT. Its clock only goes on: each module has its own."""
    options = GatewayOptions(
        port=0,
        control_port=0,
        symbols=("AAPL", "MSFT"),
        at=new_york(date(2026, 11, 19), time(9, 25)),
        speed=0,
        latency_ms=(5, 20),
        lines=500,
        messages_per_second=2000,
    )
    with gateway_thread(options) as port:
        yield port


@pytest.fixture(scope="module")
def environment(gateway_port: int) -> dict[str, str]:
    """What commands against the gateway find in their environment beside the process's own."""
    return {**SMALL, "IB_PORT": str(gateway_port)}


@pytest.fixture(scope="module")
def chainlake(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Chainlake:
    """Runs a chainlake command against the gateway, in a folder of its own."""
    place = tmp_path_factory.mktemp("workplace")
    return lambda *arguments, **more: run_chainlake(*arguments, place=place, environment={**environment, **more})
