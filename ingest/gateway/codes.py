"""IB's message codes and texts that this gateway sends (TWS API, message codes page)."""

MAX_RATE = 100
MAX_TICKERS = 101
MAX_TICKERS_TEXT = "Max number of tickers has been reached"
HISTORICAL_ERROR = 162
NO_SECURITY_DEFINITION = 200
NO_SECURITY_DEFINITION_TEXT = "No security definition has been found for the request"
UNKNOWN_TICKER = 300
DUPLICATE_TICKER = 322
SERVER_READ_ERROR = 320
VALIDATION_ERROR = 321
CLIENT_ID_IN_USE = 326
CLIENT_ID_IN_USE_TEXT = "Unable to connect as the client id is already in use. Retry with a unique client id."
TOO_MANY_CLIENTS = 322
UNSUPPORTED_VERSION = 503
MARKET_DATA_FARM_OK = 2104
HISTORICAL_FARM_OK = 2106
DEFINITION_FARM_OK = 2158
SIMULATED = 2199


def max_rate_text(rate: float, violations: int) -> str:
    """Text of error 100, with the count of violations so far, as TWS words it."""
    return f"Max rate of messages per second has been exceeded:max={rate:g} ({violations})"
