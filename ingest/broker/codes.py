"""What IB's message codes mean to who asks for market data (TWS API, message codes). Pure."""

PACING = frozenset({100, 101, 420})
LINES_EXHAUSTED = 101
CLIENT_ID_IN_USE = 326
# No such contract, bad request, no data at all: asking again gives the same answer.
FINAL = frozenset({200, 321, 10168})
# Live data needs a subscription; delayed data may be had.
NO_LIVE_PERMISSION = frozenset({354, 10089})
# A part of what was asked needs a subscription: often nothing but the model's greeks comes.
PARTLY_PERMITTED = frozenset({10090, 10091})
COMPETING_SESSION = 10197

CONNECTION_LOST = frozenset({1100, 2110})
RESTORED_DATA_LOST, RESTORED_DATA_KEPT = 1101, 1102
FARM_BROKEN = 2103
# 2108: inactive, and there again on demand.
FARM_OK = frozenset({2104, 2108})
SIMULATOR_NOTICE = 2199

# By the market data type that was wanted: delayed, or the last delayed quote after the close.
DELAYED_COUNTERPARTS = {1: 3, 2: 4}
DELAYED_TYPES = frozenset(DELAYED_COUNTERPARTS.values())

# IB's note on delayed data: the only generic ticks that it has.
DELAYED_GENERIC_TICKS = frozenset({101, 106, 165, 221, 232, 236, 258})


def is_advisory(code: int) -> bool:
    """Whether data keeps flowing: 10167 shows delayed data, 10090 and 10091 name what is partly missing.

    10349 is an order preset that TWS has applied, which servers of 2026 report like an error.
    """
    return code in {399, 10090, 10091, 10167, 10349} or 2100 <= code < 2200


def offers_delayed(message: str) -> bool:
    """Whether IB's note on a missing permission says that delayed data is to be had."""
    return "delayed market data is available" in message.lower()


def delayed_generic_ticks(generic_ticks: str) -> str:
    """Those of `generic_ticks` that delayed data accepts: one that it does not have is error 321."""
    return ",".join(tick for tick in generic_ticks.split(",") if tick and int(tick) in DELAYED_GENERIC_TICKS)
