"""A simulated TWS gateway: a TCP server that speaks the TWS wire protocol, for demos, tests and benchmarks."""

from tws_simulator.clock import MarketClock
from tws_simulator.connections.state import GatewayStats
from tws_simulator.errors import GatewayError
from tws_simulator.options import GatewayOptions
from tws_simulator.server import SimulatedGateway, run
from tws_simulator.worlds.instruments import UnderlyingSpec

__all__ = [
    "GatewayError",
    "GatewayOptions",
    "GatewayStats",
    "MarketClock",
    "SimulatedGateway",
    "UnderlyingSpec",
    "run",
]
