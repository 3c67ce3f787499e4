"""The simulated gateway as a running thing."""

import asyncio
import contextlib
from random import Random
from types import TracebackType
from typing import Self

import structlog

from ingest.gateway.clock import MarketClock
from ingest.gateway.connection import ClientConnection
from ingest.gateway.control import ControlConnection
from ingest.gateway.errors import GatewayError
from ingest.gateway.limits import MarketDataLines
from ingest.gateway.market import Market
from ingest.gateway.options import GatewayOptions
from ingest.gateway.replay import ReplayWorld
from ingest.gateway.state import GatewayState, GatewayStats
from ingest.gateway.synthetic import SyntheticWorld
from ingest.gateway.timers import Timers
from ingest.gateway.world import World

# Wall-clock seconds between two looks at the market while the clock runs.
REFRESH_SECONDS = 0.25
STOP_SECONDS = 2.0
_log = structlog.get_logger(__name__)


def build_world(options: GatewayOptions) -> World:
    """The world that `options` describe. Raises `GatewayError`."""
    if options.world == "replay":
        return ReplayWorld(
            options.replay,
            specs=options.underlyings,
            previous_close=options.previous_close,
            oi_published_at=options.oi_published_at,
            rate=options.rate,
            dividend_yield=options.dividend_yield,
        )
    return SyntheticWorld(
        options.underlyings,
        seed=options.seed,
        oi_published_at=options.oi_published_at,
        rate=options.rate,
        dividend_yield=options.dividend_yield,
    )


class SimulatedGateway:
    """A TCP server that speaks the TWS protocol; start and stop it, or use it as an async context manager.

    ``port`` and ``control_port`` are the ports it listens on, known after `start`.
    """

    def __init__(self, options: GatewayOptions) -> None:
        self.options = options
        self.clock = MarketClock(options.at, options.speed)
        self._state = GatewayState(
            options,
            Market(build_world(options), self.clock, options.delayed_by),
            MarketDataLines(options.lines),
            Timers(),
            Random(options.seed),  # noqa: S311 - latencies, nothing secret
        )
        self.port = options.port
        self.control_port = options.control_port
        self._servers: list[asyncio.Server] = []
        self._refresher: asyncio.Task[None] | None = None
        self._clock_moved = asyncio.Event()
        self.clock.on_change(self._clock_moved.set)

    @property
    def stats(self) -> GatewayStats:
        """Counts since the start."""
        return self._state.stats

    @property
    def lines(self) -> MarketDataLines:
        """The account's market data lines."""
        return self._state.lines

    @property
    def world(self) -> World:
        """The market that is shown."""
        return self._state.market.world

    async def start(self) -> Self:
        """Listen. Raises `GatewayError` when a port cannot be had."""
        options = self.options
        now = self.clock.now()
        self.world.check(now)
        # lists the date's contracts before the first client waits for them: 2.7 s for 500 underlyings
        self.world.series(self.world.underlyings()[0], now)
        loop = asyncio.get_running_loop()
        try:
            if options.control_port is not None:
                control = await loop.create_server(
                    lambda: ControlConnection(self._state), options.host, options.control_port
                )
                self._servers.append(control)
                self.control_port = self._state.control_port = _port_of(control)
            server = await loop.create_server(lambda: ClientConnection(self._state), options.host, options.port)
        except OSError as reason:
            await self.stop()
            raise GatewayError(
                f"cannot listen on {options.host}, port {options.port} or control port {options.control_port}: "
                f"{reason.strerror or reason}; choose a free port, or 0 for any"
            ) from reason
        self._servers.append(server)
        self.port = _port_of(server)
        self._refresher = asyncio.create_task(self._refresh_while_running(), name="gateway-refresh")
        _log.info(
            "gateway listening",
            host=options.host,
            port=self.port,
            control_port=self.control_port,
            world=self.world.name,
            now=self.clock.now().isoformat(),
            speed=self.clock.speed,
        )
        return self

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        if self._refresher is not None:
            self._refresher.cancel()
            await asyncio.gather(self._refresher, return_exceptions=True)
            self._refresher = None
        self._state.timers.close()
        for server in self._servers:
            server.close()
        for client in list(self._state.connections):
            client.close()
        for peer in list(self._state.control_connections):
            peer.close()
        for server in self._servers:
            # from Python 3.12 on this waits for every client, also for one that does not read what was sent to it
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wait_closed(), STOP_SECONDS)
        self._servers.clear()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _refresh_while_running(self) -> None:
        """Send changed quotes at once when the clock is set, and every quarter of a second while it runs."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._clock_moved.wait(), REFRESH_SECONDS if self.clock.speed else None)
            self._clock_moved.clear()
            now = self.clock.now()
            for connection in list(self._state.connections):
                try:
                    connection.refresh(now)
                except Exception:
                    _log.exception("quotes could not be refreshed", client_id=connection.client_id, now=now.isoformat())
                    connection.close()


async def run(options: GatewayOptions) -> None:
    """Serve until cancelled."""
    async with SimulatedGateway(options):
        await asyncio.get_running_loop().create_future()


def _port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])
