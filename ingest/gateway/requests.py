"""What each request of a client is answered with."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import structlog

from ingest.gateway import codes, messages
from ingest.gateway.errors import GatewayError
from ingest.gateway.history import FIRST_DAY, BadRequest, format_first_instant, parse_history
from ingest.gateway.instruments import Instrument, OptionSeries, Underlying
from ingest.gateway.lookup import CONTRACT_FIELDS, ContractQuery, match
from ingest.gateway.market import MARKET_DATA_TYPES
from ingest.gateway.messages import message
from ingest.gateway.subscriptions import Subscription, parse_generics, refused_generics
from ingest.sessions import NEW_YORK, session_on

if TYPE_CHECKING:
    from ingest.gateway.connection import ClientConnection

_log = structlog.get_logger(__name__)

Handler = Callable[["ClientConnection", list[str]], None]

# Exchanges named in answers to reqSecDefOptParams.
_PARAMETER_EXCHANGES = ("SMART", "CBOE", "AMEX")
_MOST_SYMBOL_SAMPLES = 16
# Price steps of market rules, as (from price, step): options quoted in pennies below 3 dollars, and stocks.
_MARKET_RULES = {26: ((0.0, 0.01),), 32: ((0.0, 0.01), (3.0, 0.05)), 109: ((0.0, 0.05), (3.0, 0.1))}


def answer(client: "ClientConnection", kind: int, fields: list[str]) -> None:
    """Answer one request; never silence, never an exception for what a client sent."""
    handler = _HANDLERS.get(kind)
    try:
        if handler is not None:
            handler(client, fields)
        elif kind in _UNSERVED:
            position, what = _UNSERVED[kind]
            _invalid(client, int(fields[position]) if position else -1, f"{what} is not simulated")
        else:
            _invalid(client, -1, f"message {kind} is not known")
    except GatewayError as reason:
        _invalid(client, -1, str(reason))
    except (IndexError, ValueError, TypeError) as reason:
        _log.warning("request could not be read", message=kind, reason=repr(reason))
        client.error(-1, codes.SERVER_READ_ERROR, f"Server error when reading an API client request: message {kind}")


def _invalid(client: "ClientConnection", req_id: int, cause: str) -> None:
    client.error(req_id, codes.VALIDATION_ERROR, f"Error validating request.-'sim' : cause - {cause}")


def _now(client: "ClientConnection") -> datetime:
    return client.state.market.clock.now()


# -- account, orders, housekeeping: there is no account behind the simulation


def _nothing(client: "ClientConnection", fields: list[str]) -> None:
    """Accepted, and nothing to answer."""


def _fixed(*reply: object) -> Handler:
    def handler(client: "ClientConnection", fields: list[str]) -> None:
        client.send(message(*reply))

    return handler


def _end_of(reply: int, position: int) -> Handler:
    """An end marker that carries the request's id, found at `position`."""

    def handler(client: "ClientConnection", fields: list[str]) -> None:
        client.send(message(reply, 1, int(fields[position])))

    return handler


def _account_updates(client: "ClientConnection", fields: list[str]) -> None:
    if fields[2] == "1":
        client.send(message(54, 1, client.state.options.account))


def _managed_accounts(client: "ClientConnection", fields: list[str]) -> None:
    client.send(message(15, 1, client.state.options.account))


def _user_info(client: "ClientConnection", fields: list[str]) -> None:
    client.send(message(107, int(fields[1]), ""))


def _soft_dollar_tiers(client: "ClientConnection", fields: list[str]) -> None:
    client.send(message(77, int(fields[1]), 0))


def _market_rule(client: "ClientConnection", fields: list[str]) -> None:
    rule = int(fields[1])
    if rule not in _MARKET_RULES:
        _invalid(client, -1, f"market rule {rule} is not known")
        return
    steps = _MARKET_RULES[rule]
    client.send(message(93, rule, len(steps), *[value for step in steps for value in step]))


def _current_time(client: "ClientConnection", fields: list[str]) -> None:
    client.send(message(49, 1, int(_now(client).timestamp())))


# -- contracts


def _contract_details(client: "ClientConnection", fields: list[str]) -> None:
    req_id = int(fields[2])
    now = _now(client)
    found = match(client.state.market.world, ContractQuery.parse(fields[3 : 3 + CONTRACT_FIELDS]), now)
    if not found:
        client.error(req_id, codes.NO_SECURITY_DEFINITION, codes.NO_SECURITY_DEFINITION_TEXT)
        return
    hours = _trading_hours(now.astimezone(NEW_YORK).date().toordinal())
    encode = client.encoder.contract_details
    client.send(b"".join([encode(req_id, instrument, exchange, hours) for instrument, exchange in found]))
    client.send(message(52, 1, req_id))


@lru_cache(maxsize=8)
def _trading_hours(ordinal: int) -> str:
    """Hours of six days from `ordinal` on, as IB writes them: ``20151224:0930-20151224:1300;20151225:CLOSED``."""
    parts = []
    for day in (datetime.fromordinal(ordinal).date() + timedelta(days=k) for k in range(6)):
        session = session_on(day)
        if session is None:
            parts.append(f"{day:%Y%m%d}:CLOSED")
        else:
            opened, closed = session.open.astimezone(NEW_YORK), session.close.astimezone(NEW_YORK)
            parts.append(f"{opened:%Y%m%d:%H%M}-{closed:%Y%m%d:%H%M}")
    return ";".join(parts)


def _option_parameters(client: "ClientConnection", fields: list[str]) -> None:
    req_id, symbol, _, sec_type, conid = int(fields[1]), *fields[2:5], int(fields[5] or 0)
    world = client.state.market.world
    underlying = world.underlying(symbol)
    if underlying is None or underlying.sec_type != sec_type or conid not in (0, underlying.conid):
        client.error(req_id, codes.NO_SECURITY_DEFINITION, codes.NO_SECURITY_DEFINITION_TEXT)
        return
    classes: dict[tuple[str, float], list[OptionSeries]] = {}
    for series in world.series(underlying, _now(client)):
        classes.setdefault((series.trading_class, series.multiplier), []).append(series)
    for exchange in _PARAMETER_EXCHANGES:
        for listed in classes.values():
            client.send(messages.option_parameters(req_id, exchange, listed))
    client.send(message(76, req_id))


def _matching_symbols(client: "ClientConnection", fields: list[str]) -> None:
    req_id, pattern = int(fields[1]), fields[2].upper()
    found = [one for one in client.state.market.world.underlyings() if one.symbol.startswith(pattern)]
    client.send(client.encoder.symbol_samples(req_id, found[:_MOST_SYMBOL_SAMPLES]))


# -- market data


def _market_data_type(client: "ClientConnection", fields: list[str]) -> None:
    requested = int(fields[2])
    if requested in MARKET_DATA_TYPES:
        client.requested_type = requested
    else:
        _invalid(client, -1, f"market data type {requested} is none of 1, 2, 3, 4")


def _market_data(client: "ClientConnection", fields: list[str]) -> None:
    req_id = int(fields[2])
    query = ContractQuery.parse(fields[3 : 3 + CONTRACT_FIELDS])
    generic_text, snapshot = fields[-4], fields[-3] == "1" or fields[-2] == "1"
    instrument = _unique(client, req_id, query)
    if instrument is None:
        return
    try:
        generics = parse_generics(generic_text)
    except ValueError:
        _invalid(client, req_id, f"Incorrect generic tick list of {generic_text}")
        return
    if snapshot and generics:
        _invalid(client, req_id, "Snapshot market data subscription is not applicable to generic ticks")
        return
    if refused := refused_generics(instrument, generics, client.requested_type):
        kind = query.sec_type or ("STK" if isinstance(instrument, Underlying) else "OPT")
        _invalid(client, req_id, f"Incorrect generic tick list of {','.join(map(str, refused))} for ({kind})")
        return
    if req_id in client.subscriptions:
        client.error(req_id, codes.DUPLICATE_TICKER, "Duplicate ticker id")
        return
    if not client.state.lines.take():
        client.error(req_id, codes.MAX_TICKERS, codes.MAX_TICKERS_TEXT)
        return
    stats = client.state.stats
    stats.subscriptions += 1
    stats.snapshots += snapshot
    subscription = Subscription(
        client.delivery,
        req_id,
        instrument,
        client.requested_type,
        generics,
        snapshot=snapshot,
        on_end=client.end_subscription,
    )
    client.subscriptions[req_id] = subscription
    subscription.start()


def _unique(client: "ClientConnection", req_id: int, query: ContractQuery) -> Instrument | None:
    """The one instrument that `query` describes; else the client is told and the answer is None."""
    found = {instrument.conid: instrument for instrument, _ in match(client.state.market.world, query, _now(client))}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        text = f"The contract description specified for {query.symbol} is ambiguous."
        client.error(req_id, codes.NO_SECURITY_DEFINITION, text)
    else:
        client.error(req_id, codes.NO_SECURITY_DEFINITION, codes.NO_SECURITY_DEFINITION_TEXT)
    return None


def _cancel_market_data(client: "ClientConnection", fields: list[str]) -> None:
    req_id = int(fields[2])
    subscription = client.subscriptions.get(req_id)
    if subscription is None:
        client.error(req_id, codes.UNKNOWN_TICKER, f"Can't find EId with tickerId:{req_id}")
    else:
        client.end_subscription(subscription)


# -- history


def _historical_data(client: "ClientConnection", fields: list[str]) -> None:
    req_id = int(fields[1])
    try:
        request = parse_history(fields, _now(client))
    except BadRequest as reason:
        _invalid(client, req_id, str(reason))
        return
    instrument = _unique(client, req_id, request.query)
    if instrument is None:
        return
    bars = client.state.market.world.daily_bars(instrument, request.what, request.first, request.end)
    if not bars:
        text = f"Historical Market Data Service error message:HMDS query returned no data: {request.query.symbol}"
        client.error(req_id, codes.HISTORICAL_ERROR, text)
        return
    end = request.end.astimezone(NEW_YORK)
    client.send(
        messages.historical_bars(
            req_id,
            f"{request.first:%Y%m%d}  00:00:00",
            f"{end:%Y%m%d  %H:%M:%S}",
            ((f"{bar.day:%Y%m%d}", bar) for bar in bars),
        )
    )


def _head_timestamp(client: "ClientConnection", fields: list[str]) -> None:
    req_id = int(fields[1])
    instrument = _unique(client, req_id, ContractQuery.parse(fields[2 : 2 + CONTRACT_FIELDS]))
    if instrument is None:
        return
    now = _now(client)
    bars = client.state.market.world.daily_bars(instrument, "MIDPOINT", FIRST_DAY, now)
    if not bars:
        client.error(req_id, codes.HISTORICAL_ERROR, "Historical Market Data Service error message:No head time stamp")
        return
    client.send(message(88, req_id, format_first_instant(bars[0].day, fields[-1])))


_HANDLERS: dict[int, Handler] = {
    1: _market_data,
    2: _cancel_market_data,
    5: _fixed(53, 1),
    6: _account_updates,
    7: _end_of(55, 2),
    8: _fixed(9, 1, 1),
    9: _contract_details,
    11: _nothing,
    13: _nothing,
    14: _nothing,
    15: _nothing,
    16: _fixed(53, 1),
    17: _managed_accounts,
    20: _historical_data,
    23: _nothing,
    25: _nothing,
    49: _current_time,
    51: _nothing,
    53: _nothing,
    56: _nothing,
    57: _nothing,
    58: _nothing,
    59: _market_data_type,
    61: _fixed(62, 1),
    62: _end_of(64, 2),
    63: _nothing,
    64: _nothing,
    70: _nothing,
    74: _end_of(72, 2),
    75: _nothing,
    76: _end_of(74, 2),
    77: _nothing,
    78: _option_parameters,
    79: _soft_dollar_tiers,
    80: _fixed(78, 0),
    81: _matching_symbols,
    82: _fixed(80, 0),
    85: _fixed(85, 0),
    87: _head_timestamp,
    89: _nothing,
    90: _nothing,
    91: _market_rule,
    93: _nothing,
    95: _nothing,
    98: _nothing,
    99: _fixed(102),
    101: _nothing,
    103: _nothing,
    104: _user_info,
}

# Requests that are answered with error 321: where their id stands (0: they have none), and what they are.
_UNSERVED: dict[int, tuple[int, str]] = {
    3: (1, "placing orders"),
    4: (2, "cancelling orders"),
    10: (2, "market depth"),
    12: (0, "news bulletins"),
    18: (0, "financial adviser configuration"),
    19: (0, "financial adviser configuration"),
    21: (2, "exercising options"),
    22: (1, "the market scanner"),
    24: (0, "the market scanner"),
    50: (2, "real-time bars"),
    52: (2, "fundamental data"),
    54: (2, "calculating implied volatility"),
    55: (2, "calculating option prices"),
    67: (2, "display groups"),
    68: (2, "display groups"),
    69: (2, "display groups"),
    83: (1, "smart components"),
    84: (1, "news"),
    86: (1, "news"),
    88: (1, "histogram data"),
    92: (1, "profit and loss"),
    94: (1, "profit and loss"),
    96: (1, "historical ticks"),
    97: (1, "tick-by-tick data"),
    100: (1, "the event calendar"),
    102: (1, "the event calendar"),
}
