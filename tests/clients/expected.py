"""What the clients make of the same message where they differ. Everywhere else the suite expects the same of all."""

from dataclasses import dataclass
from types import MappingProxyType

from driver import Model
from drivers import installed


@dataclass(frozen=True)
class Expected:
    """One client.

    ``not_computed``: a model tick of -1 (volatility, prices) and -2 (greeks), IB's values for "not computed".
    ``nothing``: bid and ask that arrive as price 0, size 0.
    ``after_garbage``: what becomes of its connection after each kind of broken frame.
    """

    not_computed: Model
    nothing: float
    after_garbage: MappingProxyType[str, str]


# Nulls but for vega and theta: their lines in both clients leave -2 as it is.
_VEGA_AND_THETA_LEFT = Model(None, None, None, None, None, -2.0, -2.0, None)
_ALL_NULL = Model(None, None, None, None, None, None, None, None)
_GOES_ON = MappingProxyType(
    {"unknown_message": "goes on", "short": "goes on", "binary": "goes on", "endless": "hears no more"}
)
# Its message loop does not survive what it cannot split into fields, or has too few of them.
_ENDS = MappingProxyType({"unknown_message": "goes on", "short": "ends", "binary": "ends", "endless": "hears no more"})

_ALL = {
    "ib_insync": Expected(_VEGA_AND_THETA_LEFT, 0.0, _GOES_ON),
    # takes every side of size 0 for one without a market
    "ib_async": Expected(_VEGA_AND_THETA_LEFT, -1.0, _GOES_ON),
    "ibapi": Expected(_ALL_NULL, 0.0, _ENDS),
}


def expected() -> Expected:
    """What to expect of the client of this environment."""
    return _ALL[installed()]
