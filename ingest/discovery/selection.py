"""Which contracts of a chain are frozen: standard expiries and strikes near the money. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import groupby

from ingest.calendar.sessions import session_on
from ingest.contracts import ChainParameters, OptionContract, OptionSpec
from ingest.settings import FilterSettings

FRIDAY = 4
QUARTER_ENDS = (3, 6, 9, 12)
# Monthly series expired on the Saturday after the third Friday until February 2015.
LAST_SATURDAY_EXPIRY = date(2015, 1, 31)


def third_friday(year: int, month: int) -> date:
    """The third Friday of a month."""
    first = date(year, month, 1)
    return first + timedelta(days=(FRIDAY - first.weekday()) % 7 + 14)


def is_monthly(expiry: date) -> bool:
    """Whether `expiry` is a standard monthly one: the third Friday, or the Thursday before when that is a holiday.

    Series up to January 2015 carry the Saturday after it; their last trade date counts as well as the Saturday.
    """
    friday = third_friday(expiry.year, expiry.month)
    if expiry == friday + timedelta(days=1):
        return expiry <= LAST_SATURDAY_EXPIRY
    return expiry == (friday if session_on(friday) else friday - timedelta(days=1))


def is_quarterly(expiry: date) -> bool:
    """Whether `expiry` is the last session of March, June, September or December."""
    if expiry.month not in QUARTER_ENDS or session_on(expiry) is None:
        return False
    day = expiry + timedelta(days=1)
    while day.month == expiry.month:
        if session_on(day):
            return False
        day += timedelta(days=1)
    return True


def months_after(day: date, months: int) -> date:
    """The same day `months` later, or the last of that month."""
    index = day.month - 1 + months
    year, month = day.year + index // 12, index % 12 + 1
    first_of_next = date(year + month // 12, month % 12 + 1, 1)
    return min(date(year, month, 1) + timedelta(days=day.day - 1), first_of_next - timedelta(days=1))


def wants_expiry(expiry: date, trade_date: date, filters: FilterSettings) -> bool:
    """Whether contracts of `expiry` are recorded on `trade_date`."""
    if expiry < trade_date:
        return False
    if filters.expiry_months_ahead and expiry > months_after(trade_date, filters.expiry_months_ahead):
        return False
    kinds = filters.expiry_types
    return (
        "all" in kinds or ("monthly" in kinds and is_monthly(expiry)) or ("quarterly" in kinds and is_quarterly(expiry))
    )


def wants_strike(strike: float, reference_price: float, filters: FilterSettings) -> bool:
    """Whether `strike` lies in the moneyness band around the reference price, bounds included."""
    return not filters.moneyness_pct or abs(strike / reference_price - 1) <= filters.moneyness_pct + 1e-12


def candidates(
    underlying: str,
    chain: Iterable[ChainParameters],
    trade_date: date,
    reference_price: float,
    filters: FilterSettings,
) -> Iterator[OptionSpec]:
    """All combinations of wanted expiries, strikes and rights that the chain's classes on SMART may list."""
    for parameters in chain:
        if parameters.exchange != "SMART":
            continue
        strikes = sorted(s for s in parameters.strikes if wants_strike(s, reference_price, filters))
        for expiration in sorted(parameters.expirations):
            if wants_expiry(expiration, trade_date, filters):
                for strike in strikes:
                    for right in ("C", "P"):
                        yield OptionSpec(
                            underlying,
                            parameters.trading_class,
                            expiration,
                            right,
                            strike,
                            parameters.multiplier,
                        )


def capture_order(contracts: Sequence[OptionContract], reference: dict[str, float]) -> list[OptionContract]:
    """Contracts in the order of capture, so that a slot cut short loses the least.

    The unit is one smile (underlying, expiry), never torn; the nearest expiries of all underlyings come first, and in
    a smile the strikes near the money, call and put of a strike side by side. `reference` maps underlying to price.
    """

    def smile(contract: OptionContract) -> tuple[date, str]:
        return contract.expiry, contract.underlying

    def distance(contract: OptionContract) -> tuple[float, float, str, str]:
        price = reference.get(contract.underlying, contract.strike)
        return abs(contract.strike / price - 1), contract.strike, contract.trading_class, contract.right

    ordered = sorted(contracts, key=smile)
    return [contract for _, group in groupby(ordered, key=smile) for contract in sorted(group, key=distance)]
