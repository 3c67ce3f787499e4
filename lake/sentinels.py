"""What stands for "no value", column by column: the one rule that capture keeps and `clean` repeats.

IB writes -1 for a price, a size or a volatility that is not known and -2 for a greek that is not computed; vendors
write -999. Its unset integers are 2147483647 and 9223372036854775807, its unset double is 1.7976931348623157E308: no
price, size or greek of an option comes near the first of them, so whatever is as large is no value either. A delta or a
theta of -1 is one. The macros ``known_amount``, ``known_count`` and ``known_greek`` of dbt_project state the same; a
test holds the two together at the edges of each type.
"""

import struct
from dataclasses import dataclass

from lake.tables import MODEL, OPTION_QUOTES, UNDERLYING_QUOTES

# From this magnitude on a number is IB's way to say "unset".
UNSET = 2**31 - 1
NOTHING = frozenset({-1.0, -2.0, -999.0})


@dataclass(frozen=True, slots=True)
class Rule:
    """What of a column is no value: its `sentinels`, and unless it is `signed` everything below 0.

    Values of a `whole` column are integers.
    """

    sentinels: frozenset[float] = NOTHING
    signed: bool = False
    whole: bool = False


AMOUNT = Rule()
COUNTED = Rule(whole=True)
GREEK = Rule(signed=True)
# -1 is a value: the delta of a put deep in the money, a dollar a day.
GREEK_OF_MINUS_ONE = Rule(NOTHING - {-1.0}, signed=True)

RULES: dict[str, Rule] = {
    **dict.fromkeys(("bid", "ask", "last", "close", "model_price", "pv_dividend", "underlying_price"), AMOUNT),
    **dict.fromkeys(("iv", "hist_volatility", "implied_volatility"), AMOUNT),
    **dict.fromkeys(("bid_size", "ask_size", "last_size", "volume", "open_interest", "market_data_type"), COUNTED),
    **dict.fromkeys(("gamma", "vega"), GREEK),
    **dict.fromkeys(("delta", "theta"), GREEK_OF_MINUS_ONE),
}
# A sentinel is looked for in what the table will hold: -1.00000001 is -1 in 32 bits.
SINGLE = frozenset(
    column.name for table in (OPTION_QUOTES, UNDERLYING_QUOTES) for column in table.columns if column.type == MODEL
)


def known(column: str, value: object) -> float | None:
    """`value` as `column` of a quote table holds it; an int where the column is whole.

    None for a sentinel, for what the column cannot hold, and for what is no number.
    """
    rule, number = RULES[column], _number(value)
    if number is None:
        return None
    held = float(struct.unpack("f", struct.pack("f", number))[0]) if column in SINGLE else number
    if not abs(held) < UNSET or held in rule.sentinels or (number < 0 and not rule.signed):
        return None
    return int(number) if rule.whole else number


def known_count(column: str, value: object) -> int | None:
    """`known` of a column of whole numbers."""
    number = known(column, value)
    return None if number is None else int(number)


def is_impossible_price(value: object) -> bool:
    """Whether `value` is a negative price that is no sentinel either: it does not even say that there is none."""
    number = _number(value)
    return number is not None and number < 0 and number not in NOTHING


def _number(value: object) -> float | None:
    """`value` as a number below the unset ones in magnitude."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < UNSET else None
