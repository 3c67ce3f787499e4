"""Where the two engines once read the design differently: one small case each, by the design's own words."""

from datetime import date

import pytest

from tests.models.conftest import SmallLake
from tests.models.rows import LATER, Day, Row, contract
from tests.second_engine.lakes import Bench
from tests.second_engine.markets import session_rows

DAY, LATER_DAY, SLOT = date(2014, 6, 6), date(2014, 6, 9), 3
UNSEEN, ALONE, RESTATED = contract(1), contract(2), contract(3, underlying="OLD")
NEGATIVE = contract(5)
# On one day OLD pays a dollar and becomes NEW, whose listed split is that of the same company.
ACTIONS: list[Row] = [
    {"symbol": "OLD", "event_type": "special_dividend", "effective_date": str(LATER_DAY), "cash_amount": 1.0},
    {"symbol": "OLD", "event_type": "symbol_change", "effective_date": str(LATER_DAY), "new_symbol": "NEW"},
    {"symbol": "NEW", "event_type": "split", "effective_date": str(LATER_DAY), "ratio_new": 2, "ratio_old": 1},
]


@pytest.fixture(scope="module")
def settled(bench: Bench) -> SmallLake:
    """Two days with such rows, built by dbt."""
    day, later = Day(bench.small.lake, DAY), Day(bench.small.lake, LATER_DAY)
    quotes = [
        day.quote(UNSEEN, SLOT, bid=-999.0, bid_seen=False),
        day.quote(ALONE, SLOT, bid=0.0, bid_size=0, ask=None),
        day.quote(NEGATIVE, SLOT, bid=-0.05),
        day.close_quote(RESTATED),
        later.close_quote(contract(4)),
    ]
    sessions = [row for each in (day, later) for row in session_rows(each.session)]
    bench.fill({"raw/sessions": sessions, "raw/option_quotes": quotes}, ["AAPL", "OLD"], ACTIONS)
    bench.small.build([DAY, LATER_DAY], LATER)
    return bench.small


def test_a_bid_tick_that_never_came_is_not_no_bid_whatever_sentinel_stands_there(settled: SmallLake) -> None:
    assert not settled.one("select is_good from clean.intraday where conid = 1")


def test_a_bid_below_0_that_was_seen_is_not_no_bid(settled: SmallLake) -> None:
    found = settled.rows("select bid, is_good, data_quality_flag from clean.intraday where conid = 5")
    assert found == [(None, False, [])]


def test_a_bid_of_0_for_nothing_is_null_only_beside_a_valid_ask(settled: SmallLake) -> None:
    assert settled.one("select bid from clean.intraday where conid = 2") == 0


def test_a_split_comes_before_a_dividend_of_the_day_on_which_the_symbol_changes(settled: SmallLake) -> None:
    # 100 / 2 - 1, and not (100 - 1) / 2.
    assert settled.one("select strike_adj from clean.daily_adjusted where conid = 3") == 49
