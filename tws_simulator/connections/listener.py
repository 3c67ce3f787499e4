"""A listening port that can be closed and opened again while the gateway runs."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

_STOP_SECONDS = 2.0
_log = structlog.get_logger(__name__)


class Listener:
    """Listens on one port; ``port`` is known once it is open and stays the same from then on."""

    def __init__(self, protocol: Callable[[], asyncio.Protocol], host: str, port: int) -> None:
        self.port = port
        self._protocol = protocol
        self._host = host
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen. Raises OSError when the port cannot be had."""
        server = await asyncio.get_running_loop().create_server(self._protocol, self._host, self.port)
        self._server = server
        self.port = int(server.sockets[0].getsockname()[1])

    def pause(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._server is not None:
            self._server.close()
            self._server = None

    def resume(self) -> None:
        """Take connections again."""
        if self._server is None and self._opening is None:
            self._opening = asyncio.create_task(self._reopen(), name="gateway-listen")

    async def close(self) -> None:
        """Listen no more."""
        server = self._server
        self.pause()
        if server is not None:
            # from Python 3.12 on this waits for every client, also for one that does not read what was sent to it
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wait_closed(), _STOP_SECONDS)

    async def _reopen(self) -> None:
        try:
            await self.open()
        except OSError as reason:
            _log.error("cannot listen again", host=self._host, port=self.port, reason=reason.strerror or str(reason))
        self._opening = None
