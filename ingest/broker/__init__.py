"""The broker: connections to TWS or IB Gateway, their pacing, and the only module that imports the client library.

Everyone imports the names below, `codes`, `pacing` and `lookup`; `library`, `link` and the client behind a session stay
in this room.
"""

from ingest.broker.outages import Outage, OutageKind
from ingest.broker.pool import BrokerPool
from ingest.broker.quotes import Quote
from ingest.broker.session import BrokerSession
from ingest.broker.subscription import NullWatcher, RequestError, Subscription, Watcher

__all__ = [
    "BrokerPool",
    "BrokerSession",
    "NullWatcher",
    "Outage",
    "OutageKind",
    "Quote",
    "RequestError",
    "Subscription",
    "Watcher",
]
