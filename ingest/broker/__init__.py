"""The broker: the only package that imports the IB client library."""

from ingest.broker.outages import Outage, OutageKind
from ingest.broker.quotes import Quote
from ingest.broker.session import BrokerSession
from ingest.broker.subscription import Nobody, RequestError, Subscription, Watcher

__all__ = ["BrokerSession", "Nobody", "Outage", "OutageKind", "Quote", "RequestError", "Subscription", "Watcher"]
