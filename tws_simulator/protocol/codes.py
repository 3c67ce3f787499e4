"""IB's message codes and texts that this gateway sends (TWS API, message codes page)."""

MAX_RATE = 100
MAX_TICKERS = 101
MAX_TICKERS_TEXT = "Max number of tickers has been reached"
HISTORICAL_ERROR = 162
NO_SECURITY_DEFINITION = 200
NO_SECURITY_DEFINITION_TEXT = "No security definition has been found for the request"
UNKNOWN_TICKER = 300
UNKNOWN_HISTORY = 366
PROCESSING_ERROR = 322
DUPLICATE_TICKER = 322
DUPLICATE_TICKER_TEXT = "Error processing request.-'sim' : cause - Duplicate ticker id"
SERVER_READ_ERROR = 320
VALIDATION_ERROR = 321
CLIENT_ID_IN_USE = 326
CLIENT_ID_IN_USE_TEXT = "Unable to connect as the client id is already in use. Retry with a unique client id."
TOO_MANY_CLIENTS = 322
UNSUPPORTED_VERSION = 503
NOT_SUBSCRIBED = 354
CONNECTION_LOST, RESTORED_DATA_LOST, RESTORED_DATA_KEPT = 1100, 1101, 1102
SERVER_BROKEN = 2110
DELAYED_IS_SHOWN, DELAYED_NOT_ENABLED, COMPETING_SESSION = 10167, 10168, 10197
HISTORY_FARM_DOWN_TEXT = (
    "Historical Market Data Service error message:HMDS server disconnect occurred. Attempting reconnection"
)
# By server farm: stocks, options, history, contract definitions.
FARM_OK = {"usfarm": 2104, "usopt": 2104, "ushmds": 2106, "secdefnj": 2158}
FARM_BROKEN = {"usfarm": 2103, "usopt": 2103, "ushmds": 2105, "secdefnj": 2157}
SIMULATED = 2199

_TEXTS = {
    MAX_RATE: "Max rate of messages per second has been exceeded",
    MAX_TICKERS: MAX_TICKERS_TEXT,
    HISTORICAL_ERROR: "Historical Market Data Service error message:injected by the scenario",
    NO_SECURITY_DEFINITION: NO_SECURITY_DEFINITION_TEXT,
    VALIDATION_ERROR: "Error validating request.-'sim' : cause - injected by the scenario",
    NOT_SUBSCRIBED: "Requested market data is not subscribed. Delayed market data is available",
    420: "Invalid Real-time Query: pacing violation",
    CONNECTION_LOST: "Connectivity between IB and Trader Workstation has been lost.",
    RESTORED_DATA_LOST: "Connectivity between IB and Trader Workstation has been restored - data lost.",
    RESTORED_DATA_KEPT: "Connectivity between IB and Trader Workstation has been restored - data maintained.",
    2103: "Market data farm connection is broken",
    2104: "Market data farm connection is OK",
    2105: "HMDS data farm connection is broken",
    2106: "HMDS data farm connection is OK",
    SERVER_BROKEN: "Connectivity between Trader Workstation and server is broken. It will be restored automatically.",
    2157: "Sec-def data farm connection is broken",
    2158: "Sec-def data farm connection is OK",
    10089: "Requested market data requires additional subscription for API. Delayed market data is available",
    DELAYED_IS_SHOWN: "Requested market data is not subscribed. Displaying delayed market data.",
    DELAYED_NOT_ENABLED: "Requested market data is not subscribed. Delayed market data is not enabled.",
    COMPETING_SESSION: "No market data during competing live session",
}


def partial_text(*, delayed: bool) -> str:
    """Text of 10090 and 10091 as TWS words it, with what it says of delayed data."""
    start = "Part of requested market data requires additional subscription for API.Delayed market data is"
    return f"{start} available." if delayed else f"{start} not available."


def text_of(code: int) -> str:
    """The text of a message code, where it is one of those that faults send; else a plain one."""
    return _TEXTS.get(code, f"Error {code}")


def max_rate_text(rate: float, received: int, violations: int) -> str:
    """Text of error 100 as TWS words it: the limit, the messages of the last second, and the count of violations."""
    return f"Max rate of messages per second has been exceeded:max={rate:g} rec={received} ({violations})"
