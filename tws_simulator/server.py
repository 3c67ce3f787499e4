"""The simulated gateway as a running thing."""

import asyncio
import contextlib
import ipaddress
from random import Random
from types import TracebackType
from typing import Self

import structlog

from tws_simulator.clock import MarketClock
from tws_simulator.connections import outages
from tws_simulator.connections.connection import ClientConnection
from tws_simulator.connections.deliveries import DeliveryLog
from tws_simulator.connections.limits import MarketDataLines, MessageBucket
from tws_simulator.connections.listener import Listener
from tws_simulator.connections.state import GatewayState, GatewayStats
from tws_simulator.connections.timers import Timers
from tws_simulator.control import ControlConnection
from tws_simulator.errors import GatewayError
from tws_simulator.faults import Faults, Scenario, load_scenario
from tws_simulator.history.pacing import HistoryLimits, HistoryPacing
from tws_simulator.market import Market
from tws_simulator.options import GatewayOptions
from tws_simulator.worlds.replay import ReplayWorld
from tws_simulator.worlds.synthetic import SyntheticWorld, read_corporate_actions
from tws_simulator.worlds.world import ModelSettings, World

LOOPBACK = "127.0.0.1"
# Wall-clock seconds between two looks at the market while the clock runs.
REFRESH_SECONDS = 0.25
# The same where faults begin and end by the wall clock.
FAULT_SECONDS = 0.05
_log = structlog.get_logger(__name__)


def build_world(options: GatewayOptions) -> World:
    """The world that `options` describe. Raises `GatewayError`."""
    model = ModelSettings(options.rate, options.dividend_yield)
    if options.world == "replay":
        return ReplayWorld(
            options.replay,
            specs=options.underlyings,
            previous_close=options.previous_close,
            oi_published_at=options.oi_published_at,
            model=model,
        )
    return SyntheticWorld(
        options.underlyings,
        seed=options.seed,
        oi_published_at=options.oi_published_at,
        model=model,
        actions=read_corporate_actions(options.corporate_actions) if options.corporate_actions else (),
        minis=options.minis,
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
            Faults(load_scenario(options.scenario) if options.scenario else Scenario(), options.seed),
            HistoryLimits(HistoryPacing(options.history_pacing)),
            shared_bucket=MessageBucket(options.message_rate) if options.rules.rate_per == "session" else None,
        )
        self.port = options.port
        self.control_port = options.control_port
        self._listeners: list[Listener] = []
        self._refresher: asyncio.Task[None] | None = None
        self.clock.on_change(self._state.changed.set)

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
        """Listen. Raises `GatewayError` when a port, or the delivery log, cannot be had."""
        options = self.options
        now = self.clock.now()
        self.world.check(now)
        # lists the date's contracts before the first client waits for them: 2.7 s for 500 underlyings
        self.world.series(self.world.underlyings()[0], now)
        state = self._state
        if options.delivery_log is not None:
            try:
                state.deliveries = DeliveryLog(options.delivery_log)
            except OSError as reason:
                raise GatewayError(f"delivery log {options.delivery_log}: {reason.strerror or reason}") from reason
        state.listener = Listener(lambda: ClientConnection(state), options.host, options.port)
        self._listeners = [state.listener]
        try:
            if options.control_port is not None:
                # Whoever reaches it sets the clock and the faults: it is for this host, wherever clients come from.
                control = Listener(lambda: ControlConnection(state), _loopback(options.host), options.control_port)
                self._listeners.append(control)
                await control.open()
                self.control_port = state.control_port = control.port
            await state.listener.open()
        except OSError as reason:
            await self.stop()
            raise GatewayError(
                f"cannot listen on {options.host}, port {options.port} or control port {options.control_port}: "
                f"{reason.strerror or reason}; choose a free port, or 0 for any"
            ) from reason
        self.port = state.listener.port
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
        for listener in self._listeners:
            listener.pause()
        for client in list(self._state.connections):
            client.close(linger=False)
        for peer in list(self._state.control_connections):
            peer.close()
        for listener in self._listeners:
            await listener.close()
        self._listeners.clear()
        if self._state.deliveries is not None:
            self._state.deliveries.close()
            self._state.deliveries = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _refresh_while_running(self) -> None:
        """Send changed quotes at once when the clock is set, and every quarter of a second while it runs."""
        state = self._state
        while True:
            # not wait_for: in Python 3.11 it can take a cancellation for its own time-out, and stop() waits for ever
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await state.changed.wait()
            moved = state.changed.is_set() or self.clock.speed > 0
            state.changed.clear()
            now = self.clock.now()
            if not (outages.apply_faults(state, now) or moved):
                continue
            for connection in list(state.connections):
                try:
                    connection.refresh(now)
                except Exception:
                    _log.exception("quotes could not be refreshed", client_id=connection.client_id, now=now.isoformat())
                    connection.close()

    def _pause(self) -> float | None:
        """Wall-clock seconds until the next look at the market; None: until the clock is set."""
        if self._state.faults:
            return FAULT_SECONDS
        return REFRESH_SECONDS if self.clock.speed else None


async def run(options: GatewayOptions) -> None:
    """Serve until cancelled."""
    async with SimulatedGateway(options):
        await asyncio.get_running_loop().create_future()


def _loopback(host: str) -> str:
    """`host` where it is an address of this host for itself, else 127.0.0.1."""
    try:
        return host if host == "localhost" or ipaddress.ip_address(host).is_loopback else LOOPBACK
    except ValueError:
        return LOOPBACK
