"""Who may ask Prefect's server: who has the password of the state folder, and no page but its own."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from flows.prefect.service import Answer, ServerFailed, ask, require, server
from flows.simulated_gateway import free_port
from tests.flows.prefect.conftest import credentials

OURS = "chainlake:ours"


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_without_the_password_the_server_says_only_that_it_is_there(api: str) -> None:
    foreign = {"Origin": "https://other.example"}
    async with httpx.AsyncClient(base_url=api, headers=foreign) as http:
        assert (await http.get("/health")).status_code == 200
        secrets = await http.post("/block_documents/filter", json={"include_secrets": True})
        made = await http.post("/deployments/", json={"name": "x", "flow_id": "00000000-0000-0000-0000-000000000000"})
        wrong = await http.post("/block_documents/filter", json={}, auth=("chainlake", "wrong"))
        assert [answer.status_code for answer in (secrets, made, wrong)] == [401, 401, 401]
        preflight = await http.options("/deployments/", headers={"Access-Control-Request-Method": "POST"})
        known = await http.post("/block_documents/filter", json={}, auth=credentials())
        assert known.status_code == 200
        for answer in (secrets, preflight, known):
            assert "access-control-allow-origin" not in answer.headers
        own = await http.options(
            "/deployments/",
            headers={"Origin": api.removesuffix("/api"), "Access-Control-Request-Method": "POST"},
        )
        assert own.headers["access-control-allow-origin"] == api.removesuffix("/api")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("token", [None, "wrong"])
async def test_without_the_password_no_events_are_read(api: str, token: str | None) -> None:
    address = api.replace("http", "ws", 1) + "/events/out"
    async with connect(address, subprotocols=[Subprotocol("prefect")], proxy=None) as socket:
        await socket.send(json.dumps({"type": "auth", "token": token}))
        with pytest.raises(ConnectionClosed):
            await socket.recv()


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_our_own_server_is_used_and_no_second_one_is_started(api: str) -> None:
    assert await ask(api) is Answer.OURS
    async with server(api) as process:
        assert process is None


@contextmanager
def program(takes: str | None) -> Iterator[tuple[str, list[str | None]]]:
    """A program at a port of loopback that is healthy, and lets in whom it `takes` (None: all). What it was told."""
    told: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization")
            told.append(given)
            let_in = self.path == "/api/health" or takes is None or given == takes
            self.send_response(200 if let_in else 401)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}/api", told
    finally:
        listening.shutdown()
        listening.server_close()


@pytest.fixture
def our_password() -> Iterator[None]:
    with temporary_settings({PREFECT_API_AUTH_STRING: OURS}):
        yield


@pytest.mark.usefixtures("our_password")
async def test_a_server_that_asks_for_no_password_is_not_ours_and_is_not_told_it() -> None:
    with program(takes=None) as (url, told):
        for attempt in (require(url), server(url).__aenter__()):
            with pytest.raises(ServerFailed, match="asks for no password"):
                await attempt
        assert told
        assert set(told) == {None}


@pytest.mark.usefixtures("our_password")
async def test_a_server_with_another_password_is_not_ours() -> None:
    with program(takes="Basic of somebody else") as (url, _):
        assert await ask(url) is Answer.NOT_OURS
        for attempt in (require(url), server(url).__aenter__()):
            with pytest.raises(ServerFailed, match="refuses the password"):
                await attempt


@pytest.mark.usefixtures("our_password")
async def test_who_has_the_port_is_named() -> None:
    silent = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        with pytest.raises(ServerFailed, match=rf"port {port} is taken by .+PREFECT_API_URL"):
            await server(f"http://127.0.0.1:{port}/api").__aenter__()


@pytest.mark.usefixtures("our_password")
@pytest.mark.timeout(300)
async def test_the_last_words_of_a_server_that_does_not_start_are_said(tmp_path: Path) -> None:
    wrong = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": "nonsense://", "PREFECT_HOME": str(tmp_path)}
    log = tmp_path / "server.log"
    with pytest.raises(ServerFailed, match="it said last: ") as failed:
        await server(f"http://127.0.0.1:{free_port()}/api", log, wrong).__aenter__()
    last = log.read_text().strip().splitlines()[-1].strip()
    assert last
    assert last in str(failed.value)
