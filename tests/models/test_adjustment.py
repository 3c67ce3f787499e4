"""clean/daily_adjusted over corporate actions, and which dates a build restates."""

import json
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest

from flows.models import MODELLED, BuildResult
from ingest.calendar.sessions import UTC
from tests.commands import Result, run_chainlake
from tests.models.conftest import SmallLake
from tests.models.rows import Row, contract

BEFORE, AFTER = date(2014, 6, 6), date(2014, 6, 9)
SPLIT: Row = {"symbol": "AAPL", "event_type": "split", "effective_date": "2014-06-09", "ratio_new": 7, "ratio_old": 1}
ACTIONS: list[Row] = [
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
    record(lake, BEFORE, OLD, bid=7.0, ask=7.14)
    first = lake.build([BEFORE])
    assert lake.one("select max(len(adjustment_events)) from clean.daily_adjusted") == 0
    record(lake, AFTER, NEW, bid=1.0, ask=1.02)
    return lake, first, lake.build([AFTER])


def chainlake(lake: SmallLake, *arguments: str) -> Result:
    """A command over the lake and its two files, in its folder."""
    environment = {
        "CHAINLAKE_LAKE__ROOT": lake.lake.root,
        "CHAINLAKE_REFERENCE__CORPORATE_ACTIONS": str(lake.seeds / "corporate_actions.csv"),
        "CHAINLAKE_UNIVERSE__FILE": str(lake.seeds / "universe.csv"),
    }
    return run_chainlake(*arguments, place=lake.folder, environment=environment)


def adjusted(lake: SmallLake, number: int, columns: str, trade_date: date = BEFORE) -> tuple[Any, ...]:
    (row,) = lake.rows(
        f"select {columns} from clean.daily_adjusted where conid = {number} and trade_date = '{trade_date}'"
    )
    return row


def test_the_effective_date_restates_the_dates_before_it(built: tuple[SmallLake, BuildResult, BuildResult]) -> None:
    _, first, second = built
    assert (first.dates, first.restatements) == ((BEFORE,), {})
    assert (second.dates, second.restatements) == ((AFTER,), {BEFORE: ("AAPL", "FB", "HIGH", "VXX")})
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


def test_a_new_action_restates_the_dates_and_underlyings_it_reaches_and_no_others(
    built: tuple[SmallLake, BuildResult, BuildResult],
) -> None:
    """As its user meets it: a line is added, `chainlake rollup --restate` is run, and says what it did."""
    lake, _, second = built
    new: Row = {
        "symbol": "STILL",
        "event_type": "split",
        "effective_date": "2014-06-09",
        "ratio_new": 2,
        "ratio_old": 1,
    }
    lake.reference(universe=["AAPL"], actions=[*ACTIONS, new])
    earlier = {"trade_date": BEFORE, "published_at": datetime(2014, 6, 6, 22, tzinfo=UTC), "status": "failed"}
    lake.day(BEFORE).write(
        "ops/published",
        [
            {
                **earlier,
                "versions": [],
                "code_version": "0",
                "actions_hash": "",
                "run_id": "x",
                "detail": "slot_coverage",
            }
        ],
    )
    others = "clean.daily_adjusted where underlying <> 'STILL'"
    files, rows = lake.files("clean/daily_adjusted", AFTER), lake.content(others)
    done = chainlake(lake, "rollup", "--restate", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["restated"], report["dates"]) == ({str(BEFORE): ["STILL"]}, [str(BEFORE)])
    assert adjusted(lake, 7, "strike_adj, open_interest_adj") == (15.0, 20)
    assert lake.content(others) == rows
    assert lake.files("clean/daily_adjusted", AFTER) == files
    for table in set(MODELLED) - {"clean/daily_adjusted"}:
        assert lake.lake.replaced_dates(table, since=second.versions[table]) == set()
    # A day that failed is no better for it: its new publication says so too.
    verdict = "select status, detail from ops.published order by published_at"
    assert lake.rows(verdict) == [("failed", "slot_coverage")] * 2
    # Once more: everything is in its terms.
    assert lake.build([]).restatements == {}


def test_an_action_counts_from_when_it_is_known(built: tuple[SmallLake, BuildResult, BuildResult]) -> None:
    lake, _, _ = built
    result = lake.build([], as_of=datetime(2014, 6, 6, 20, 30, tzinfo=UTC))
    # As of the evening before, nothing has happened yet.
    assert result.restatements == {BEFORE: ("AAPL", "FB", "HIGH", "STILL", "VXX")}
    assert adjusted(lake, 1, "strike_adj, adjustment_events") == (645.0, [])


def test_a_wrong_line_is_the_users_to_correct_and_stops_everything(
    built: tuple[SmallLake, BuildResult, BuildResult],
) -> None:
    lake, _, _ = built
    lake.reference(universe=["AAPL"], actions=[*ACTIONS, {**SPLIT, "effective_date": "2014-09-31"}])
    before = {table: lake.lake.version(table) for table in lake.lake.table_names()}
    done = chainlake(lake, "rollup")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"corporate_actions.csv, line {len(ACTIONS) + 2}: effective_date '2014-09-31'" in done.stderr
    assert {table: lake.lake.version(table) for table in lake.lake.table_names()} == before
