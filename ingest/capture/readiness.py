"""Which generic ticks are asked for, and when a subscription has shown what is needed.

Pure functions of a quote and of the seconds since it was asked for.
"""

from collections.abc import Callable

from ingest.broker import Quote

# Generic ticks: open interest of an option; historical and implied volatility of an underlying.
OPTION_TICKS, UNDERLYING_TICKS = "101", "104,106"
Ready = Callable[[Quote, float], bool]


def option_ready(greeks_patience_s: float) -> Ready:
    """An option is ready with a market and model greeks; without greeks, or without a market, after the patience."""

    def ready(quote: Quote, elapsed: float) -> bool:
        if quote.has_market and quote.has_model:
            return True
        both_sides = quote.bid_seen and quote.ask_seen
        return both_sides and elapsed >= greeks_patience_s

    return ready


def underlying_ready(patience_s: float) -> Ready:
    """An underlying is ready with last, previous close and volatilities; after the patience with any price."""

    def ready(quote: Quote, elapsed: float) -> bool:
        if quote.last and quote.close and quote.hist_volatility and quote.implied_volatility:
            return True
        return elapsed >= patience_s and any((quote.last, quote.bid, quote.ask, quote.close))

    return ready


def previous_close_ready(patience_s: float) -> Ready:
    """A reference price is there with tick 9."""

    def ready(quote: Quote, elapsed: float) -> bool:
        return quote.close is not None or (elapsed >= patience_s and quote.last is not None)

    return ready


def open_interest_ready(quote: Quote, _elapsed: float) -> bool:
    """Open interest is there; zero is a value."""
    return quote.open_interest is not None
