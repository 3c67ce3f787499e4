"""What each request of a client is answered with: one handler for each kind of message.

A connection imports `answer` and nothing else from here; the handlers know it as `connections.state.Client` only.
"""

import structlog

from tws_simulator.connections.outages import apply_faults
from tws_simulator.connections.state import Client
from tws_simulator.errors import GatewayError
from tws_simulator.faults.scenario import Download
from tws_simulator.protocol import codes
from tws_simulator.requests import account, calculations, contracts, history, market_data
from tws_simulator.requests.replies import Handler, invalid, now

__all__ = ["answer"]

_log = structlog.get_logger(__name__)


def answer(client: Client, kind: int, fields: list[str]) -> None:
    """Answer one request; never silence, never an exception for what a client sent."""
    handler = _HANDLERS.get(kind)
    try:
        if client.state.faults:
            apply_faults(client.state, now(client))
        if kind in _DOWNLOADS and client.state.faults.never_ends(_DOWNLOADS[kind]):
            return
        if handler is not None:
            handler(client, fields)
        elif kind in _UNSERVED:
            position, what = _UNSERVED[kind]
            invalid(client, int(fields[position]) if position else -1, f"{what} is not simulated")
        else:
            invalid(client, -1, f"message {kind} is not known")
    except GatewayError as reason:
        invalid(client, -1, str(reason))
    except (IndexError, ValueError, TypeError) as reason:
        _log.warning("request could not be read", message=kind, reason=repr(reason))
        client.error(-1, codes.SERVER_READ_ERROR, f"Server error when reading an API client request: message {kind}")


_HANDLERS: dict[int, Handler] = {
    1: market_data.market_data,
    2: market_data.cancel_market_data,
    5: account.fixed(53, 1),
    6: account.account_updates,
    7: account.end_of(55, 2),
    8: account.fixed(9, 1, 1),
    9: contracts.contract_details,
    11: account.nothing,
    13: account.nothing,
    14: account.nothing,
    15: account.nothing,
    16: account.fixed(53, 1),
    17: account.managed_accounts,
    20: history.historical_data,
    23: account.nothing,
    25: history.cancel_historical_data,
    49: account.current_time,
    51: account.nothing,
    53: account.nothing,
    54: calculations.implied_volatility,
    55: calculations.option_price,
    56: account.nothing,
    57: account.nothing,
    58: account.nothing,
    59: market_data.market_data_type,
    61: account.fixed(62, 1),
    62: account.account_summary,
    63: account.nothing,
    64: account.nothing,
    70: account.nothing,
    74: account.end_of(72, 2),
    75: account.nothing,
    76: account.account_updates_multi,
    77: account.nothing,
    78: contracts.option_parameters,
    79: account.soft_dollar_tiers,
    80: account.fixed(78, 0),
    81: contracts.matching_symbols,
    82: account.fixed(80, 0),
    83: contracts.smart_components,
    85: account.fixed(85, 0),
    87: history.head_timestamp,
    89: account.nothing,
    90: history.cancel_head_timestamp,
    91: account.market_rule,
    93: account.nothing,
    95: account.nothing,
    98: account.nothing,
    99: account.fixed(102),
    101: account.nothing,
    103: account.nothing,
    104: account.user_info,
}

# What ends with a marker, and is asked for by client libraries when they connect.
_DOWNLOADS: dict[int, Download] = {
    5: "open_orders",
    16: "open_orders",
    6: "account_updates",
    7: "executions",
    61: "positions",
    76: "account_updates_multi",
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
    67: (2, "display groups"),
    68: (2, "display groups"),
    69: (2, "display groups"),
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
