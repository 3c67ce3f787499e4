"""A gateway and a workplace as a user has them: processes of their own, and a folder."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.simulated_gateway import free_port

Chainlake = Callable[..., subprocess.CompletedProcess[str]]
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


@pytest.fixture(scope="module")
def gateway_port() -> Iterator[int]:
    """The port of a stepped synthetic gateway with AAPL and MSFT, in a process of its own."""
    port = free_port()
    command = [
        *(*CLI, "gateway", "--port", str(port), "--control-port", str(free_port()), "--symbols", "AAPL,MSFT"),
        *("--at", "2026-11-19 09:25", "--speed", "0", "--latency", "5-20"),
        *("--lines", "500", "--messages-per-second", "2000"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        assert "simulated gateway" in process.stdout.readline()
        yield port
    finally:
        process.kill()


@pytest.fixture(scope="module")
def environment(gateway_port: int) -> dict[str, str]:
    """The environment of commands against the gateway."""
    return {**os.environ, **SMALL, "IB_PORT": str(gateway_port)}


@pytest.fixture(scope="module")
def chainlake(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Chainlake:
    """Runs a chainlake command in a folder of its own; gives what it printed and its exit code."""
    place = tmp_path_factory.mktemp("workplace")

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, *arguments], cwd=place, env={**environment, **more}, capture_output=True, text=True, timeout=200
        )

    return run


def killed(arguments: tuple[str, ...], place: Path, environment: dict[str, str], after: float) -> None:
    """Start a chainlake command and kill it, without any warning, after some seconds."""
    process = subprocess.Popen([*CLI, *arguments], cwd=place, env=environment)
    time.sleep(after)
    process.kill()
    process.wait()
