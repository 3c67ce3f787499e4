"""The page as a server that answers this host only: what ``chainlake dashboard`` runs by ``streamlit run``.

It listens on loopback, where a page of somebody else can still reach it: by a name that its owner lets point to
127.0.0.1 once the page is loaded (DNS rebinding), or by a WebSocket. Both tell in their headers where they come from.
"""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OURS = frozenset({"127.0.0.1", "localhost", "::1"})
REFUSED = "This page is for its own host: open it as http://127.0.0.1 with its port.\n"


class OwnHostOnly:
    """ASGI middleware: 403 for requests and WebSockets whose Host or Origin is another than this host's loopback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what comes from here."""
        if scope["type"] in ("http", "websocket") and not is_ours(scope["headers"]):
            await PlainTextResponse(REFUSED, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def is_ours(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether there is one Host, which is this host's loopback, and so is each Origin."""
    named = [(name.lower(), value.decode("latin-1")) for name, value in headers]
    hosts = [f"//{value}" for name, value in named if name == b"host"]
    origins = [value for name, value in named if name == b"origin"]
    return len(hosts) == 1 and all(_hostname(address) in OURS for address in (*hosts, *origins))


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


app = st.App(Path(__file__).with_name("app.py"), middleware=[Middleware(OwnHostOnly)])
