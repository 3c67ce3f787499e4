"""Which trading classes an underlying lists: a stock's standard options and minis, an index's morning and evening ones.

Sources: Cboe's product pages (SPX is settled at the open of the third Friday, SPXW at the close of its expiry; its
weekdays came on the dates below) and OCC (AAPL7 and SPY7 were options on 10 shares).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from tws_simulator.worlds.synthetic.expiries import (
    EQUITY,
    FRIDAY,
    MONDAY,
    THURSDAY,
    TUESDAY,
    WEDNESDAY,
    Calendar,
    Kind,
)

# Distance of the lowest and highest strike from the prices since the series was listed.
STRIKE_RANGE: Mapping[Kind, float] = {"weekly": 0.2, "monthly": 0.45, "quarterly": 0.4, "leaps": 0.6}
_NEAR_THE_MONEY: Mapping[Kind, float] = {"monthly": 0.15, "leaps": 0.15}
# Distance between strikes by the price level they start from: weekly, monthly and quarterly, leaps. It differs by kind,
# so the union of all strikes has combinations that do not exist.
_STRIKE_STEPS: tuple[tuple[float, Mapping[Kind, float]], ...] = tuple(
    (below, {"weekly": weekly, "monthly": monthly, "quarterly": monthly, "leaps": leaps})
    for below, weekly, monthly, leaps in (
        (25, 0.5, 0.5, 1.0),
        (75, 0.5, 1.0, 2.5),
        (200, 1.0, 2.5, 5.0),
        (500, 2.5, 5.0, 10.0),
        (1000, 5.0, 10.0, 20.0),
        (float("inf"), 10.0, 25.0, 50.0),
    )
)


@dataclass(frozen=True, slots=True)
class OptionClass:
    """One trading class.

    ``suffix`` follows the root; ``width`` is the strike range by kind; ``steps`` the distance of strikes by kind, None
    where it goes by the price.
    """

    suffix: str = ""
    multiplier: float = 100.0
    calendar: Calendar = EQUITY
    width: Mapping[Kind, float] = field(default_factory=lambda: STRIKE_RANGE)
    steps: Mapping[Kind, float] | None = None

    def step(self, kind: Kind, level: float) -> float:
        """Distance between strikes, dollars, at a price of about `level`."""
        steps = self.steps or next(steps for below, steps in _STRIKE_STEPS if level < below)
        return steps[kind]


@dataclass(frozen=True, slots=True)
class Index:
    """A cash index: where it is disseminated, its usual ``level`` and annual ``volatility``, and its classes.

    ``conid``: None where it is derived from the symbol.
    """

    primary_exchange: str
    level: float
    volatility: float
    classes: tuple[OptionClass, ...]
    conid: int | None = None


STANDARD = OptionClass()
# The digit of minis is theirs: adjusted roots are numbered from 1, those of adjusted minis from 8.
MINI_DIGIT = 7
MINI = OptionClass(str(MINI_DIGIT), 10.0, Calendar(frozenset({"monthly", "leaps"})), _NEAR_THE_MONEY)

_INDEX_STEPS: Mapping[Kind, float] = {"weekly": 5.0, "monthly": 25.0, "quarterly": 50.0, "leaps": 100.0}
_MORNING = Calendar(frozenset({"monthly", "leaps"}), morning=True)
_EVENING = Calendar(
    frozenset({"weekly", "monthly", "quarterly"}),
    weekdays=(
        (FRIDAY, date(2005, 10, 28)),
        (WEDNESDAY, date(2016, 2, 23)),
        (MONDAY, date(2016, 8, 15)),
        (TUESDAY, date(2022, 4, 18)),
        (THURSDAY, date(2022, 5, 11)),
    ),
    month_ends=True,
)
_INDEX_CLASSES = (
    OptionClass(calendar=_MORNING, steps=_INDEX_STEPS),
    OptionClass("W", calendar=_EVENING, steps=_INDEX_STEPS),
)
INDEXES: Mapping[str, Index] = {
    "RUT": Index(
        "RUSSELL",
        2200.0,
        0.2,
        _INDEX_CLASSES,
    ),
    "SPX": Index(
        "CBOE",
        6000.0,
        0.16,
        _INDEX_CLASSES,
        conid=416904,
    ),
}
