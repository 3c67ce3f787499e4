"""Which strikes are listed. Pure functions of the path and the date."""

from dataclasses import dataclass, field
from datetime import date

import numpy as np
import numpy.typing as npt

from ingest.gateway.instruments import OptionSeries, Underlying, option_conids, word
from ingest.gateway.synthetic.expiries import Expiry, Kind, expiries_on
from ingest.gateway.synthetic.paths import UnderlyingPath, day_number

Floats = npt.NDArray[np.float64]

MULTIPLIER = 100.0
# Distance of the lowest and highest strike from the prices since the series was listed.
STRIKE_RANGE: dict[Kind, float] = {"weekly": 0.2, "monthly": 0.45, "quarterly": 0.4, "leaps": 0.6}
# Distance between strikes by the price level they start from: weekly, monthly and quarterly, leaps. It differs by kind,
# so the union of all strikes has combinations that do not exist.
_STRIKE_STEPS: tuple[tuple[float, dict[Kind, float]], ...] = tuple(
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
# Classes in the penny programme quote in 0.01 below 3 dollars and 0.05 from there; the others in 0.05 and 0.10.
_PENNY_SHARE = 70


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticSeries(OptionSeries):
    """A listed series with what its market needs to know. Identity is the object."""

    kind: Kind = "monthly"
    listed_on: date = date.min
    path: UnderlyingPath = field(kw_only=True)


def strike_step(kind: Kind, level: float) -> float:
    """Distance between strikes, dollars."""
    return next(steps[kind] for below, steps in _STRIKE_STEPS if level < below)


def strike_bounds(path: UnderlyingPath, expiry: Expiry, day: date) -> tuple[float, float]:
    """Lowest and highest strike listed on `day`: the range only grows, as exchanges add strikes after the price."""
    last = day_number(day) - 1
    closes = path.closes(min(day_number(expiry.listed_on) - 1, last), last)
    width = STRIKE_RANGE[expiry.kind]
    return float(closes.min()) * (1 - width), float(closes.max()) * (1 + width)


def list_chain(path: UnderlyingPath, underlying: Underlying, day: date) -> list[SyntheticSeries]:
    """All series of `underlying` listed on `day`, by expiry."""
    chain = []
    penny = word("penny", underlying.symbol) % 100 < _PENNY_SHARE
    for expiry in expiries_on(day, path.cycle):
        low, high = strike_bounds(path, expiry, day)
        step = strike_step(expiry.kind, path.level)
        first, last = max(1, int(np.ceil(low / step))), int(np.floor(high / step))
        strikes = np.arange(first, last + 1, dtype=np.float64) * step
        chain.append(
            SyntheticSeries(
                underlying,
                underlying.root,
                MULTIPLIER,
                expiry.expiry,
                expiry.last_trade_date,
                strikes,
                option_conids(underlying.root, expiry.expiry, strikes, MULTIPLIER),
                0.01 if penny else 0.05,
                kind=expiry.kind,
                listed_on=expiry.listed_on,
                path=path,
            )
        )
    return chain
