"""Which contracts of a chain are frozen: standard expiries and strikes near the money. Pure.

An expiry is always that of the OCC symbol. Before a contract is qualified only its last trade date is known, and
options that are settled at the open trade last in the session before: SPX on the Thursday before the third Friday.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import groupby

from ingest.calendar.sessions import next_session, previous_session, session_on
from ingest.contracts import ChainParameters, OptionContract, OptionSpec, Underlying
from ingest.settings import FilterSettings

FRIDAY = 4
QUARTER_ENDS = (3, 6, 9, 12)
# Monthly series expired on the Saturday after the third Friday until February 2015.
LAST_SATURDAY_EXPIRY = date(2015, 1, 31)
# Options on these are settled on the Wednesday 30 days before the next month's third Friday (Cboe, VIX options,
# contract specifications). All other families with standard options, indexes too, have the third Friday.
THIRTY_DAYS_BEFORE = frozenset({"VIX"})


def third_friday(year: int, month: int) -> date:
    """The third Friday of a month."""
    first = date(year, month, 1)
    return first + timedelta(days=(FRIDAY - first.weekday()) % 7 + 14)


def is_monthly(expiry: date, underlying: str = "") -> bool:
    """Whether `expiry` is a standard monthly one: the third Friday, or the Thursday before when that is a holiday.

    Series up to January 2015 carry the Saturday after it; their last trade date counts as well as the Saturday. Options
    on VIX have a calendar of their own.
    """
    if underlying in THIRTY_DAYS_BEFORE:
        return expiry == thirty_days_before(expiry.year, expiry.month)
    friday = third_friday(expiry.year, expiry.month)
    if expiry == friday + timedelta(days=1):
        return expiry <= LAST_SATURDAY_EXPIRY
    return expiry == (friday if session_on(friday) else friday - timedelta(days=1))


def thirty_days_before(year: int, month: int) -> date:
    """The monthly expiry of VIX: 30 days before the next month's third Friday, or before the session before that one.

    Where that day is a holiday too it is the session before.
    """
    friday = third_friday(year + month // 12, month % 12 + 1)
    last = friday if session_on(friday) else previous_session(friday).trade_date
    day = last - timedelta(days=30)
    return day if session_on(day) else previous_session(day).trade_date


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


def wants_expiry(expiry: date, trade_date: date, filters: FilterSettings, underlying: str = "") -> bool:
    """Whether contracts of `expiry` are recorded on `trade_date`; `underlying` tells whose calendar it is."""
    if expiry < trade_date:
        return False
    if filters.expiry_months_ahead and expiry > months_after(trade_date, filters.expiry_months_ahead):
        return False
    kinds = filters.expiry_types
    return (
        "all" in kinds
        or ("monthly" in kinds and is_monthly(expiry, underlying))
        or ("quarterly" in kinds and is_quarterly(expiry))
    )


def may_be_wanted(last_trade_date: date, underlying: Underlying, trade_date: date, filters: FilterSettings) -> bool:
    """Whether contracts that trade last on a date may have an expiry that is recorded.

    Of indexes that can be the session after it; which classes are settled at the open IB does not say.
    """
    if last_trade_date < trade_date:
        return False
    expiries = [last_trade_date]
    if underlying.sec_type == "IND":
        expiries.append(next_session(last_trade_date).trade_date)
    return any(wants_expiry(expiry, trade_date, filters, underlying.symbol) for expiry in expiries)


def wants(contract: OptionContract, trade_date: date, reference_price: float, filters: FilterSettings) -> bool:
    """Whether a listed contract is recorded on `trade_date`: it still trades, and is inside the filters."""
    return (
        contract.last_trade_date >= trade_date
        and wants_expiry(contract.expiry, trade_date, filters, contract.underlying)
        and wants_strike(contract.strike, reference_price, filters)
    )


def wants_strike(strike: float, reference_price: float, filters: FilterSettings) -> bool:
    """Whether `strike` lies in the moneyness band around the reference price, bounds included."""
    return not filters.moneyness_pct or abs(strike / reference_price - 1) <= filters.moneyness_pct + 1e-12


def candidates(
    underlying: Underlying,
    chain: Iterable[ChainParameters],
    trade_date: date,
    reference_price: float,
    filters: FilterSettings,
) -> Iterator[OptionSpec]:
    """All combinations that the chain's classes on SMART may list and that may be wanted.

    By their last trade dates: whether the expiry is wanted is known of a listed contract only (`wants`).
    """
    for parameters in chain:
        if parameters.exchange != "SMART":
            continue
        strikes = sorted(s for s in parameters.strikes if wants_strike(s, reference_price, filters))
        for expiration in sorted(parameters.expirations):
            if may_be_wanted(expiration, underlying, trade_date, filters):
                for strike in strikes:
                    for right in ("C", "P"):
                        yield OptionSpec(
                            underlying.symbol,
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
