"""A simulated TWS gateway: a TCP server that speaks the TWS wire protocol, for demos, tests and benchmarks."""

from ingest.gateway.clock import MarketClock
from ingest.gateway.errors import GatewayError
from ingest.gateway.instruments import UnderlyingSpec
from ingest.gateway.options import GatewayOptions
from ingest.gateway.server import SimulatedGateway, run
from ingest.gateway.state import GatewayStats

__all__ = [
    "GatewayError",
    "GatewayOptions",
    "GatewayStats",
    "MarketClock",
    "SimulatedGateway",
    "UnderlyingSpec",
    "run",
]
