"""clean/daily_adjusted over corporate actions, and which dates a build restates."""

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows.models import BuildResult
from ingest.sessions import UTC
from tests.models.conftest import SmallLake
from tests.models.rows import Row, contract

BEFORE, AFTER = date(2014, 6, 6), date(2014, 6, 9)
SPLIT = {"symbol": "AAPL", "event_type": "split", "effective_date": "2014-06-09", "ratio_new": 7, "ratio_old": 1}
ACTIONS = [
    {**SPLIT, "known_at": "2014-04-23T20:30:00Z"},
    {"symbol": "FB", "event_type": "symbol_change", "effective_date": "2014-06-09", "new_symbol": "META"},
    {"symbol": "VXX", "event_type": "split", "effective_date": "2014-06-09", "ratio_new": 1, "ratio_old": 4},
    {"symbol": "LOW", "event_type": "special_dividend", "effective_date": "2014-06-09", "cash_amount": 0.124},
    {"symbol": "HIGH", "event_type": "special_dividend", "effective_date": "2014-06-09", "cash_amount": 0.125},
    # Effective after the last date of the lake.
    {"symbol": "HIGH", "event_type": "split", "effective_date": "2014-06-10", "ratio_new": 2, "ratio_old": 1},
]
OLD = [
    contract(1, 645.0),
    contract(2, 640.0, "P"),
    contract(3, 50.0, underlying="FB"),
    contract(4, 20.0, underlying="VXX"),
    contract(5, 30.0, underlying="LOW"),
    contract(6, 30.0, underlying="HIGH"),
    contract(7, 30.0, underlying="STILL"),
]
NEW = [
    contract(1, 92.14),
    contract(2, 91.43, "P"),
    contract(3, 50.0, underlying="META"),
    contract(8, 20.0, underlying="VXX"),
    contract(4, 20.0, underlying="VXX", trading_class="VXX2"),
    contract(9, 50.0, underlying="FB"),
    contract(7, 30.0, underlying="STILL"),
]


REPLAY = Path(__file__).resolve().parents[3] / "shared" / "data" / "replay"


def listed_chain(trade_date: date) -> list[Row]:
    """The contracts that AAPL really had on the date; none where the data is absent."""
    file = REPLAY / f"AAPL_{trade_date}.parquet"
    if not file.is_file():
        return []
    rows = pl.read_parquet(file).select("expiry", "right", "strike").unique().sort("expiry", "right", "strike")
    return [
        contract(10_000 + number, strike, right, expiry=expiry)
        for number, (expiry, right, strike) in enumerate(rows.iter_rows())
    ]


def record(lake: SmallLake, trade_date: date, contracts: list[Row], **quote: Any) -> None:
    day = lake.day(trade_date)
    day.open(*contracts)
    day.write("raw/option_quotes", [day.close_quote(row, **quote) for row in contracts])
    underlyings = {row["underlying"] for row in contracts}
    day.write("raw/underlying_quotes", [day.underlying(u, day.close_slot, view="close") for u in sorted(underlyings)])
    day.write("raw/open_interest", [day.open_interest(row, 10) for row in contracts])


@pytest.fixture(scope="module")
def built(small_lake: Callable[[str], SmallLake]) -> tuple[SmallLake, BuildResult, BuildResult]:
    """The day before and the day of the actions, built one after the other as in operation."""
    lake = small_lake("adjustment")
    lake.reference(universe=["AAPL"], actions=ACTIONS)
    record(lake, BEFORE, OLD + listed_chain(BEFORE), bid=7.0, ask=7.14)
    first = lake.build([BEFORE])
    assert lake.one("select max(len(adjustment_events)) from clean.daily_adjusted") == 0
    record(lake, AFTER, NEW + listed_chain(AFTER), bid=1.0, ask=1.02)
    return lake, first, lake.build([AFTER])


def adjusted(lake: SmallLake, number: int, columns: str, trade_date: date = BEFORE) -> tuple[Any, ...]:
    (row,) = lake.rows(
        f"select {columns} from clean.daily_adjusted where conid = {number} and trade_date = '{trade_date}'"
    )
    return row


def test_the_effective_date_restates_the_dates_before_it(built: tuple[SmallLake, BuildResult, BuildResult]) -> None:
    _, first, second = built
    assert (first.dates, first.restated) == ((BEFORE,), ())
    assert (second.dates, second.restated) == ((AFTER,), (BEFORE,))
    # Only daily_adjusted was touched for the earlier date.
    assert second.versions["clean/daily_adjusted"] == first.versions["clean/daily_adjusted"] + 1
    assert {node.status for node in second.nodes if node.name.startswith("unique_key_daily_adjusted")} == {"pass"}


def test_a_seven_for_one_split_matches_occ(built: tuple[SmallLake, BuildResult, BuildResult]) -> None:
    lake, _, _ = built
    columns = "strike, strike_adj, price_factor, strike_shift, adjustment_events, adjusted_contract_key"
    assert adjusted(lake, 1, columns) == (
        645.0, 92.14, 1 / 7, 0.0, ["split:2014-06-09"], "AAPL|AAPL|100|2014-07-17|C|92.14",
    )  # fmt: skip
    assert adjusted(lake, 2, "strike_adj") == (91.43,)
    assert adjusted(lake, 1, "bid_adj, bid_size_adj, open_interest_adj, volume_adj") == (1.0, 70, 70, 700)
    assert adjusted(lake, 1, "gamma_adj, vega_adj, theta_adj, delta, iv") == pytest.approx(
        (0.14, 0.3 / 7, -0.1 / 7, 0.5, 0.25)
    )
    assert adjusted(lake, 1, "underlying_close_adj, moneyness_pct_adj") == pytest.approx((100 / 7, 100 / 7 / 92.14 - 1))
    assert adjusted(lake, 1, columns, AFTER) == (92.14, 92.14, 1.0, 0.0, [], "AAPL|AAPL|100|2014-07-17|C|92.14")


@pytest.mark.skipif(not REPLAY.is_dir(), reason="the real chains of data/replay are not here")
def test_every_contract_of_the_real_chain_finds_itself_after_the_split(
    built: tuple[SmallLake, BuildResult, BuildResult],
) -> None:
    lake, _, _ = built
    keys = "select adjusted_contract_key from clean.daily_adjusted where conid >= 10000 and trade_date = '{}'"
    before, after = ({key for (key,) in lake.rows(keys.format(day))} for day in (BEFORE, AFTER))
    assert (len(before), len(after)) == (2352, 2180)
    # Those of the day before that find no counterpart expired on it.
    assert after < before
    assert {key.split("|")[3] for key in before - after} == {"2014-06-06"}


def test_a_reverse_split_starts_another_series(built: tuple[SmallLake, BuildResult, BuildResult]) -> None:
    lake, _, _ = built
    columns = "strike_adj, bid_adj, price_factor, adjustment_events, adjusted_contract_key"
    events = ["deliverable_change:2014-06-09"]
    assert adjusted(lake, 4, columns) == (20.0, 7.0, 1.0, events, "VXX|VXX@2014-06-09|100|2014-07-17|C|20.00")
    assert adjusted(lake, 8, columns, AFTER) == (20.0, 1.0, 1.0, [], "VXX|VXX|100|2014-07-17|C|20.00")
    assert adjusted(lake, 4, "adjusted_contract_key", AFTER) == ("VXX|VXX2|100|2014-07-17|C|20.00",)


def test_special_dividends_adjust_from_an_eighth_of_a_dollar(built: tuple[SmallLake, BuildResult, BuildResult]) -> None:
    lake, _, _ = built
    columns = "strike_adj, underlying_close_adj, bid_adj, strike_shift, adjustment_events"
    assert adjusted(lake, 5, columns) == (30.0, 100.0, 7.0, 0.0, [])
    # 29.875: half a cent up.
    assert adjusted(lake, 6, columns) == (29.88, 99.875, 7.0, 0.125, ["special_dividend:2014-06-09"])


def test_a_change_of_symbol_is_one_history(built: tuple[SmallLake, BuildResult, BuildResult]) -> None:
    lake, _, _ = built
    key = "META|META|100|2014-07-17|C|50.00"
    assert adjusted(lake, 3, "underlying, adjusted_contract_key, adjustment_events") == (
        "FB",
        key,
        ["symbol_change:2014-06-09"],
    )
    assert adjusted(lake, 3, "underlying, adjusted_contract_key, adjustment_events", AFTER) == ("META", key, [])
    # Whoever is called FB from that day on is another company.
    assert adjusted(lake, 9, "adjusted_contract_key", AFTER) == ("FB|FB|100|2014-07-17|C|50.00",)


def test_value_of_the_open_interest_is_preserved(built: tuple[SmallLake, BuildResult, BuildResult]) -> None:
    lake, _, _ = built
    worst = lake.one(
        "select max(abs(open_interest_adj * multiplier * mid_adj - open_interest * multiplier * mid)) "
        "from clean.daily_adjusted"
    )
    assert worst == pytest.approx(0, abs=1e-9)


def test_a_new_action_restates_the_dates_it_reaches_and_no_others(
    built: tuple[SmallLake, BuildResult, BuildResult],
) -> None:
    lake, _, second = built
    lake.reference(
        universe=["AAPL"],
        actions=[
            *ACTIONS,
            {"symbol": "STILL", "event_type": "split", "effective_date": "2014-06-09", "ratio_new": 2, "ratio_old": 1},
        ],
    )
    after = lake.files("clean/daily_adjusted", AFTER)
    third = lake.build([])
    assert (third.dates, third.restated) == ((), (BEFORE,))
    assert adjusted(lake, 7, "strike_adj, open_interest_adj") == (15.0, 20)
    assert lake.files("clean/daily_adjusted", AFTER) == after
    assert third.versions["clean/daily_clean"] == second.versions["clean/daily_clean"]


def test_an_action_counts_from_when_it_is_known(built: tuple[SmallLake, BuildResult, BuildResult]) -> None:
    lake, _, _ = built
    result = lake.build([], as_of=datetime(2014, 6, 6, 20, 30, tzinfo=UTC))
    # As of the evening before, nothing has happened yet.
    assert result.restated == (BEFORE,)
    assert adjusted(lake, 1, "strike_adj, adjustment_events") == (645.0, [])
