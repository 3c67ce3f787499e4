"""What all connections of one gateway share."""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from tws_simulator.connections.limits import MarketDataLines
from tws_simulator.connections.listener import Listener
from tws_simulator.connections.timers import Timers
from tws_simulator.faults import Faults
from tws_simulator.history.pacing import HistoryLimits
from tws_simulator.market import Market
from tws_simulator.options import GatewayOptions

if TYPE_CHECKING:
    from tws_simulator.connections.connection import ClientConnection
    from tws_simulator.control import ControlConnection


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
    clients: dict[int, "ClientConnection"] = field(default_factory=dict)
    connections: set["ClientConnection"] = field(default_factory=set)
    control_connections: set["ControlConnection"] = field(default_factory=set)
    # the clock was set, or the faults are others: subscribers see another market
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    # set when the gateway starts
    listener: Listener = field(init=False)
    control_port: int | None = None
