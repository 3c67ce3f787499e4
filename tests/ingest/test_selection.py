"""Which contracts are frozen, and in which order they are captured."""

import calendar
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ingest.calendar.sessions import session_on
from ingest.contracts import ChainParameters, OptionContract, Underlying
from ingest.discovery.selection import (
    candidates,
    capture_order,
    is_monthly,
    is_quarterly,
    months_after,
    third_friday,
    wants,
    wants_expiry,
)
from ingest.settings import FilterSettings

DAYS = st.dates(date(1995, 1, 1), date(2030, 12, 31))


@given(DAYS)
def test_a_month_has_one_monthly_expiry_and_it_is_a_session(day: date) -> None:
    first = day.replace(day=1)
    month = [first + timedelta(days=k) for k in range(calendar.monthrange(day.year, day.month)[1])]
    monthly = [d for d in month if is_monthly(d) and d.weekday() != calendar.SATURDAY]
    assert len(monthly) == 1
    assert session_on(monthly[0]) is not None
    assert 14 <= monthly[0].day <= 21


def test_listed_expiries_of_real_chains_are_told_apart() -> None:
    # AAPL and GOOG chains as listed on 2014-06-06 and 2015-12-24.
    assert is_monthly(date(2014, 6, 21))
    assert is_monthly(date(2014, 6, 20))
    assert not is_monthly(date(2014, 6, 13))
    assert not is_monthly(date(2015, 6, 20))  # a Saturday after the change of 2015
    assert is_monthly(date(2016, 1, 15))
    assert not is_monthly(date(2016, 1, 22))
    assert is_monthly(date(2014, 4, 17))  # Good Friday was the 18th
    assert is_monthly(date(2025, 4, 17))
    assert is_quarterly(date(2015, 12, 31))
    assert not is_quarterly(date(2015, 12, 24))
    assert is_quarterly(date(2024, 3, 28))  # Good Friday was the 29th
    assert not is_quarterly(date(2024, 3, 29))


def test_the_wednesdays_of_vix_are_its_monthly_expiries() -> None:
    # Expiration dates of VIX options as Cboe published them.
    published = [date(2024, 1, 17), date(2024, 2, 14), date(2024, 3, 20), date(2024, 4, 17), date(2024, 5, 22)]
    assert all(is_monthly(day, "VIX") and not is_monthly(day) for day in published)
    # The third Friday of April 2014 and of April 2025 was Good Friday: 30 days before the Thursday is a Tuesday.
    assert is_monthly(date(2014, 3, 18), "VIX")
    assert is_monthly(date(2025, 3, 18), "VIX")
    assert not is_monthly(date(2025, 3, 19), "VIX")
    assert not is_monthly(third_friday(2024, 5), "VIX")


@given(st.integers(1995, 2030), st.integers(1, 12))
def test_vix_has_one_monthly_expiry_a_month_and_it_is_a_session(year: int, month: int) -> None:
    days = [date(year, month, day + 1) for day in range(calendar.monthrange(year, month)[1])]
    (monthly,) = [day for day in days if is_monthly(day, "VIX")]
    assert session_on(monthly) is not None


SPX, SPXW = (
    ChainParameters("SMART", name, "100", expirations, frozenset({6000.0}))
    for name, expirations in (
        # Last trade dates: AM-settled monthlies stop a day early; Good Friday of 2027 is on 26 March.
        ("SPX", frozenset({date(2026, 11, 19), date(2026, 12, 17)})),
        ("SPXW", frozenset({date(2026, 11, 18), date(2026, 11, 19), date(2026, 11, 20), date(2026, 12, 31)})),
    )
)


def asked(underlying: Underlying, *chain: ChainParameters, day: date = date(2026, 11, 16)) -> set[tuple[str, date]]:
    found = candidates(underlying, chain, day, 6000.0, FilterSettings())
    return {(spec.trading_class, spec.last_trade_date) for spec in found}


def test_options_on_an_index_may_expire_the_session_after_their_last_trade() -> None:
    index = Underlying("SPX", sec_type="IND", exchange="CBOE")
    assert asked(index, SPX) == {("SPX", date(2026, 11, 19)), ("SPX", date(2026, 12, 17))}
    # Whether the Thursday's are of the Friday is known once they are qualified.
    weekly = {("SPXW", date(2026, 11, 19)), ("SPXW", date(2026, 11, 20)), ("SPXW", date(2026, 12, 31))}
    assert asked(index, SPXW) == weekly
    # Nobody asks twice for a stock.
    assert asked(Underlying("X"), SPXW) == weekly - {("SPXW", date(2026, 11, 19))}
    assert asked(index, SPX, day=date(2026, 11, 20)) == {("SPX", date(2026, 12, 17))}


def test_the_expiry_of_the_symbol_decides_about_what_is_listed() -> None:
    thursday, friday = date(2026, 11, 19), date(2026, 11, 20)
    morning = OptionContract(1, "SPX", "", "SPX", friday, thursday, "C", 6000.0, 100.0, "SMART")
    evening = replace(morning, trading_class="SPXW", expiry=thursday)

    def recorded(contract: OptionContract, day: date) -> bool:
        return wants(contract, day, 6000.0, FilterSettings())

    assert recorded(morning, date(2026, 11, 16))
    assert not recorded(evening, date(2026, 11, 16))
    assert recorded(morning, thursday)
    assert not recorded(morning, friday), "it is settled at the open"
    tuesday = replace(morning, underlying="VIX", expiry=date(2026, 11, 18), last_trade_date=date(2026, 11, 17))
    assert recorded(tuesday, date(2026, 11, 16))
    assert not recorded(replace(tuesday, expiry=date(2026, 11, 25)), date(2026, 11, 16))


@given(DAYS, st.integers(0, 36))
def test_months_ahead_keep_the_day_or_take_the_months_last(day: date, months: int) -> None:
    later = months_after(day, months)
    assert (later.year * 12 + later.month) - (day.year * 12 + day.month) == months
    assert later.day == min(day.day, calendar.monthrange(later.year, later.month)[1])


def test_expired_and_far_expiries_are_left_out() -> None:
    filters = FilterSettings()
    assert not wants_expiry(date(2015, 11, 20), date(2015, 12, 24), filters)
    assert wants_expiry(date(2016, 12, 16), date(2015, 12, 24), filters)
    assert not wants_expiry(date(2017, 1, 20), date(2015, 12, 24), filters)
    assert wants_expiry(date(2017, 1, 20), date(2015, 12, 24), FilterSettings(expiry_months_ahead=0))


def test_candidates_come_from_smart_alone_within_the_band() -> None:
    strikes = frozenset({69.99, 70.0, 100.0, 130.0, 130.01})
    expiries = frozenset({third_friday(2016, 3), date(2016, 3, 4)})
    chain = [ChainParameters(exchange, "X", "100", expiries, strikes) for exchange in ("SMART", "CBOE")]
    found = list(candidates(Underlying("X"), chain, date(2016, 1, 4), 100.0, FilterSettings()))
    assert {spec.strike for spec in found} == {70.0, 100.0, 130.0}
    assert len(found) == 6
    assert {spec.last_trade_date for spec in found} == {third_friday(2016, 3)}


CONTRACTS = st.builds(
    lambda conid, underlying, month, strike, right: OptionContract(
        conid,
        underlying,
        "",
        underlying,
        third_friday(2016, month),
        third_friday(2016, month),
        right,
        strike,
        100.0,
        "SMART",
    ),
    st.integers(1, 10**6),
    st.sampled_from(["A", "B"]),
    st.integers(1, 3),
    st.sampled_from([80.0, 90.0, 100.0, 110.0, 125.0]),
    st.sampled_from(["C", "P"]),
)


@given(st.lists(CONTRACTS, max_size=40))
def test_capture_order_never_tears_a_smile_and_goes_outwards_from_the_money(contracts: list[OptionContract]) -> None:
    ordered = capture_order(contracts, {"A": 100.0, "B": 95.0})
    assert Counter(ordered) == Counter(contracts)
    smiles = [(c.expiry, c.underlying) for c in ordered]
    seen = [smile for smile, following in pairwise([*smiles, None]) if smile != following]
    assert len(seen) == len(set(seen))
    assert [expiry for expiry, _ in seen] == sorted(expiry for expiry, _ in seen)
    for one, other in pairwise(ordered):
        if (one.expiry, one.underlying) == (other.expiry, other.underlying):
            price = {"A": 100.0, "B": 95.0}[one.underlying]
            assert abs(one.strike / price - 1) <= abs(other.strike / price - 1)
