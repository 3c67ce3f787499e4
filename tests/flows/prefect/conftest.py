"""A real Prefect server in a process of its own, and what is asked of it."""

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest
from prefect.context import _temporary_global_settings_context, get_settings_context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_SERVER_EPHEMERAL_ENABLED,
    temporary_settings,
)

from flows.prefect.service import server
from flows.prefect_environment import prefect_environment
from flows.prefect_password import CLIENT, password_variables
from flows.simulated_gateway import free_port

# Generous: these tests share two cores with others, and wait for conditions, never for a time.
PATIENCE_S = 180
T = TypeVar("T")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that is empty as yet; this process is its client, and so are those that it starts."""
    state = tmp_path_factory.mktemp("state")
    (state / "prefect").mkdir()
    url = f"http://127.0.0.1:{free_port()}/api"
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        for name, value in {**prefect_environment(state, url), **password_variables(state, {}, url)}.items():
            patch.setenv(name, value)
        patch.delenv("CHAINLAKE_ALERT_URLS", raising=False)
        running = server(url, state / "prefect_server.log")
        with client_of(url):
            runner.run(running.__aenter__())
            try:
                yield url
                # Otherwise they seek the server at the end of this process.
                runner.run(_drained())
            finally:
                runner.run(running.__aexit__(None, None, None))


@contextmanager
def client_of(url: str) -> Iterator[None]:
    """Let this process be a client of a server: Prefect has read its environment when it was imported."""
    settings = {
        PREFECT_API_URL: url,
        PREFECT_API_AUTH_STRING: os.environ[CLIENT],
        PREFECT_SERVER_EPHEMERAL_ENABLED: False,
    }
    # As prefect_test_harness does: threads that have no settings of their own would start a server each.
    with temporary_settings(settings), _temporary_global_settings_context(get_settings_context()):
        yield


def credentials() -> tuple[str, str]:
    """User and password of the server of this process's environment."""
    user, _, password = os.environ[CLIENT].partition(":")
    return user, password


async def _drained() -> None:
    """Send what this process still has to tell the server."""
    for draining in (APILogWorker.instance().drain(), EventsWorker.drain_all(timeout=20)):
        if inspect.isawaitable(draining):
            await draining


async def until(ask: Callable[[], Awaitable[T]], satisfied: Callable[[T], object], patience_s: float = PATIENCE_S) -> T:
    """Ask again and again until the answer is satisfying; it is returned, and after `patience_s` as it stands."""
    ends = time.monotonic() + patience_s
    while not satisfied(answer := await ask()) and time.monotonic() < ends:
        await asyncio.sleep(1)
    return answer
