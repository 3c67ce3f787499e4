"""Requests for market data: type, subscribe, cancel."""

from tws_simulator.connections.generics import incorrect_text, legal_generics, parse_generics
from tws_simulator.connections.state import Client
from tws_simulator.connections.subscriptions import MarketDataRequest, Subscription
from tws_simulator.market import DELAYED, DELAYED_FROZEN, FROZEN, LIVE, MARKET_DATA_TYPES
from tws_simulator.protocol import codes
from tws_simulator.requests.replies import invalid, refused, unique
from tws_simulator.worlds.instruments import Instrument, Underlying
from tws_simulator.worlds.lookup import CONTRACT_FIELDS, ContractQuery


def market_data_type(client: Client, fields: list[str]) -> None:
    requested = int(fields[2])
    if requested in MARKET_DATA_TYPES:
        client.requested_type = requested
    else:
        invalid(client, -1, f"market data type {requested} is none of 1, 2, 3, 4")


def market_data(client: Client, fields: list[str]) -> None:
    req_id = int(fields[2])
    query = ContractQuery.parse(fields[3 : 3 + CONTRACT_FIELDS])
    generic_text, snapshot = fields[-4], fields[-3] == "1" or fields[-2] == "1"
    instrument = unique(client, req_id, query)
    if instrument is None:
        return
    requested_type = _served_type(client, instrument)
    legal = legal_generics(instrument, requested_type)
    try:
        generics = parse_generics(generic_text)
    except ValueError:
        generics = None
    if snapshot and generics:
        invalid(client, req_id, "Snapshot market data subscription is not applicable to generic ticks")
        return
    if generics is None or generics - legal:
        kind = query.sec_type or (instrument.sec_type if isinstance(instrument, Underlying) else "OPT")
        invalid(client, req_id, incorrect_text(generic_text, legal, kind))
        return
    if req_id in client.subscriptions:
        client.error(req_id, codes.DUPLICATE_TICKER, codes.DUPLICATE_TICKER_TEXT)
        return
    if refused(client, req_id, "market_data", instrument):
        return
    if client.holds_line(snapshot) and not client.state.lines.take():
        client.error(req_id, codes.MAX_TICKERS, codes.MAX_TICKERS_TEXT)
        return
    stats = client.state.stats
    stats.subscriptions += 1
    stats.snapshots += snapshot
    request = MarketDataRequest(req_id, instrument, requested_type, generics, snapshot)
    subscription = Subscription(client.delivery, request, on_end=client.end_subscription)
    client.subscriptions[req_id] = subscription
    for advisory in client.state.faults.advisories(instrument, requested_type):
        client.error(req_id, advisory.code, advisory.text)
    subscription.start()


def _served_type(client: Client, instrument: Instrument) -> int:
    """The type a request is served with: IB's page has it that delayed data is only for who may not see live data."""
    state = client.state
    if state.options.delayed_requests == "ignored" and not state.faults.delayed_only(instrument):
        return {DELAYED: LIVE, DELAYED_FROZEN: FROZEN}.get(client.requested_type, client.requested_type)
    return client.requested_type


def cancel_market_data(client: Client, fields: list[str]) -> None:
    req_id = int(fields[2])
    subscription = client.subscriptions.get(req_id)
    if subscription is None:
        client.error(req_id, codes.UNKNOWN_TICKER, f"Can't find EId with tickerId:{req_id}")
    else:
        client.end_subscription(subscription)
