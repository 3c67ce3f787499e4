"""The broker: the only package that imports the IB client library."""

from ingest.broker.quotes import Quote
from ingest.broker.session import BrokerSession, RequestError, Subscription

__all__ = ["BrokerSession", "Quote", "RequestError", "Subscription"]
