"""A simulated TWS gateway: a TCP server that speaks the TWS wire protocol, for demos, tests and benchmarks.

It is the oracle of the client: of the client it imports `ingest.calendar` and `ingest.errors` and nothing else, and
programs import the names below and `worlds.synthetic.SyntheticWorld` (tests may go deeper). So a rule that both need is
written twice, on purpose, in these places and in no others. Do not merge such twins: a mistake would then be made on
both sides, and no test could show it.

| rule | client | simulated gateway |
|---|---|---|
| IB's message codes | `ingest.broker.codes` | `protocol.codes` |
| messages a second, and market data lines | `ingest.broker.pacing` | `connections.limits` |
| generic ticks that delayed data has | `ingest.broker.codes` | `connections.generics` |
| the shape of an OCC symbol | `ingest.contracts` | `worlds.instruments` |
| monthly expiries, on Saturdays until 2015 | `ingest.discovery.selection` | `worlds.synthetic.expiries` |
| the rows of `corporate_actions.csv` | `ingest.corporate_actions`, dbt's macros | `worlds.synthetic.events` |
| when open interest turns over | `ingest.open_interest.enrichment` | `worlds` (`oi_published_at`) |
| columns of a recorded day | `lake.replay`, which writes it | `worlds.replay.files`, which reads it |
| the control port | `ingest.calendar.clock`, the client | `control`, the server |
"""

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
