"""What all connections of one gateway share, and what a connection offers to those that answer its requests."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Protocol

from tws_simulator.connections.deliveries import DeliveryLog
from tws_simulator.connections.limits import MarketDataLines, MessageBucket
from tws_simulator.connections.listener import Listener
from tws_simulator.connections.subscriptions import Delivery, Subscription
from tws_simulator.connections.timers import Timers
from tws_simulator.faults import Faults
from tws_simulator.history.pacing import HistoryLimits
from tws_simulator.history.queries import HistoryQueries
from tws_simulator.market import Market
from tws_simulator.options import GatewayOptions
from tws_simulator.protocol.messages import Encoder


@dataclass(slots=True)
class GatewayStats:
    """Counts since the start of the gateway."""

    connections: int = 0
    messages: int = 0
    violations: int = 0
    subscriptions: int = 0
    snapshots: int = 0
    errors: int = 0


@dataclass(slots=True)
class GatewayState:
    """The market and the account, as every client meets them."""

    options: GatewayOptions
    market: Market
    lines: MarketDataLines
    timers: Timers
    random: Random
    faults: Faults
    history: HistoryLimits
    stats: GatewayStats = field(default_factory=GatewayStats)
    clients: dict[int, "Client"] = field(default_factory=dict)
    connections: set["Client"] = field(default_factory=set)
    control_connections: set["Closable"] = field(default_factory=set)
    # the clock was set, or the faults are others: subscribers see another market
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    # where the rate is the session's; None: each connection has its own
    shared_bucket: MessageBucket | None = None
    # set when the gateway starts
    deliveries: DeliveryLog | None = None
    listener: Listener = field(init=False)
    control_port: int | None = None


class Closable(Protocol):
    """A peer of the control port, as far as the gateway knows it."""

    def close(self) -> None:
        """Close the connection."""


class Client(Protocol):
    """One client's connection, as requests, faults and the gateway see it. `ClientConnection` is the one there is.

    Handlers depend on this and not on the connection, because the connection depends on them.
    """

    state: GatewayState
    encoder: Encoder
    client_id: int | None
    requested_type: int
    subscriptions: dict[int, Subscription]
    delivery: Delivery
    history: HistoryQueries
    frozen: bool

    def send(self, data: bytes) -> None:
        """Queue framed messages."""

    def error(self, req_id: int, code: int, text: str) -> None:
        """Send an error; `req_id` is -1 when it concerns no request."""

    def inform(self, code: int, text: str) -> None:
        """Send a notice, which is no error of the client's own."""

    def refresh(self, now: datetime) -> None:
        """Send the quotes that have changed by `now`, the market's time."""

    def freeze(self) -> None:
        """Read nothing and send nothing from now on, and keep the socket open."""

    def drop(self, *, reset: bool) -> None:
        """Close at once, sending nothing more."""

    def close(self, *, linger: bool = True) -> None:
        """Send what is queued and close."""

    def holds_line(self, snapshot: bool) -> bool:
        """Whether a request for market data uses a line."""

    def end_subscription(self, subscription: Subscription) -> None:
        """Stop a subscription and free its line."""
