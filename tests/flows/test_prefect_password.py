"""The password of Prefect's server: made once, for its owner only; loopback is asked without a proxy."""

import stat
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
import requests

from flows.loopback import no_proxy
from flows.prefect_environment import page_origins
from flows.prefect_password import CLIENT, FILE, SERVER, password, password_variables
from ingest.errors import UsageError

LOCAL = "http://127.0.0.1:4200/api"


def test_it_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    made = password(tmp_path / "state")
    user, colon, secret = made.partition(":")
    assert (user, colon) == ("chainlake", ":")
    assert len(secret) >= 43
    assert password(tmp_path / "state") == made
    assert password(tmp_path / "other") != made
    assert stat.S_IMODE((tmp_path / "state" / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_processes_that_start_at_once_agree_on_one(tmp_path: Path) -> None:
    code = "import sys, pathlib, flows.prefect_password as p; print(p.password(pathlib.Path(sys.argv[1])))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    several = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {each.communicate(timeout=120)[0] for each in several}
    assert said == {f"{password(tmp_path)}\n"}


def test_one_that_is_not_ours_alone_or_is_none_is_not_used(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    password(elsewhere)
    (tmp_path / FILE).symlink_to(elsewhere / FILE)
    with pytest.raises(UsageError, match="is a symbolic link"):
        password(tmp_path)
    (tmp_path / FILE).unlink()
    password(tmp_path)
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(UsageError, match="can be read by others"):
        password(tmp_path)
    (tmp_path / FILE).chmod(0o600)
    (tmp_path / FILE).write_text("")
    with pytest.raises(UsageError, match="is empty"):
        password(tmp_path)
    for text in ("a:b\nHOME='/x'\n", "a:b'c\n", "no colon\n"):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(UsageError, match="holds no line user:password"):
            password(tmp_path)


def test_the_environment_goes_first_and_no_other_host_is_told_this_one_s(tmp_path: Path) -> None:
    given = "chainlake:given"
    for name in (CLIENT, SERVER):
        assert password_variables(tmp_path, {name: given}, LOCAL) == {CLIENT: given, SERVER: given}
    assert password_variables(tmp_path, {}, "http://prefect.example.com:4200/api") == {}
    assert not (tmp_path / FILE).exists()
    assert password_variables(tmp_path, {}, LOCAL) == {CLIENT: password(tmp_path), SERVER: password(tmp_path)}


def test_prefect_s_page_is_the_only_one_that_may_ask() -> None:
    assert page_origins(LOCAL) == "http://127.0.0.1:4200,http://localhost:4200"
    assert page_origins("https://prefect.example.com/api") == "https://prefect.example.com"


@contextmanager
def answering() -> Iterator[int]:
    """The port of a server of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("excepted", [{}, {"NO_PROXY": "10.0.0.0/8,127.0.0.1"}, {"no_proxy": "example.com"}])
def test_loopback_is_asked_directly_whatever_the_proxy(
    monkeypatch: pytest.MonkeyPatch, excepted: dict[str, str]
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name, value in (excepted | no_proxy(excepted)).items():
        monkeypatch.setenv(name, value)
    for host in (each for text in excepted.values() for each in text.split(",")):
        assert host in no_proxy(excepted)["no_proxy"].split(",")
    # The two that ask Prefect's server, and that by which alerts go; nothing listens where the proxy should be.
    with answering() as port:
        for host in ("127.0.0.1", "localhost"):
            url = f"http://{host}:{port}/"
            assert httpx.get(url).status_code == 200
            assert requests.get(url, timeout=10).status_code == 200
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert answer.status == 200
