"""Generic ticks: which ones a request for market data may ask for. Pure.

The lists are those that TWS gives in the text of error 321: of options as a user logged it, of stocks from deephaven-ib
issue 46 (2022). 104, historical volatility, stands in neither, and IB's page of tick types has it for stocks; that of
indexes is nowhere to be read.
"""

from tws_simulator.market import DELAYED, DELAYED_FROZEN
from tws_simulator.worlds.instruments import Instrument, Option

OPTION_VOLUME, OPEN_INTEREST, HISTORICAL_VOLATILITY, IMPLIED_VOLATILITY = 100, 101, 104, 106
# Numbers by which TWS knows a tick as well.
_OLDER = {47: 258, 59: 456, 220: 221}
_ALL = frozenset(
    {100, 101, 105, 106, 165, 221, 225, 232, 233, 236, 258, 292, 293, 294, 295, 318, 375, 411, 456, 460, 577}
    | {586, 587, 588, 614, 619, 623}
)
OPTION_GENERICS = _ALL | {595}
STOCK_GENERICS = _ALL | {104, 576, 578, 595}
INDEX_GENERICS = _ALL | {104, 162}
# Whatever the instrument (IB's note on delayed data).
DELAYED_GENERICS = frozenset({101, 106, 165, 221, 232, 236, 258})


def parse_generics(text: str) -> frozenset[int]:
    """The generic ticks of a request, an older number as the one it stands for. Raises ValueError."""
    numbers = (int(part) for part in text.replace(" ", "").split(",") if part)
    return frozenset(_OLDER.get(number, number) for number in numbers)


def legal_generics(instrument: Instrument, requested_type: int) -> frozenset[int]:
    """What may be asked for of an instrument in data of a type."""
    if isinstance(instrument, Option):
        legal = OPTION_GENERICS
    else:
        legal = INDEX_GENERICS if instrument.is_index else STOCK_GENERICS
    return legal & DELAYED_GENERICS if requested_type in (DELAYED, DELAYED_FROZEN) else legal


def incorrect_text(asked: str, legal: frozenset[int], sec_type: str) -> str:
    """The cause that TWS gives for refusing a list, without the names that it adds to the numbers."""
    older = {number: old for old, number in _OLDER.items()}
    numbers = ",".join(f"{one}/{older[one]}" if one in older else str(one) for one in sorted(legal))
    return f"Incorrect generic tick list of {asked}.  Legal ones for ({sec_type}) are: {numbers}"
