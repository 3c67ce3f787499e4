"""From raw rows to clean/intraday, daily_clean, daily_unresolved and the quality tables, on two dates built once."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from flows.models import MODELLED, BuildResult
from ingest.calendar.sessions import UTC
from tests.models.conftest import SmallLake
from tests.models.rows import Row, contract

FULL = date(2014, 6, 5)
EARLY = date(2014, 7, 3)  # closes at 13:00
SATURDAY = date(2014, 6, 7)
CLOSE, LAST_GOOD, PRE_CLOSE, NEVER, ERRORS, CROSSED, NO_BID, DELAYED, LATE_FIX, UNFROZEN, GHOST, WILD = range(101, 113)


def conid(number: int, **values: Any) -> Row:
    return contract(number, strike=float(number), **values)


@pytest.fixture(scope="module")
def built(small_lake: Callable[[str], SmallLake]) -> tuple[SmallLake, BuildResult]:
    lake = small_lake("rollup")
    lake.reference(universe=["AAPL", "MSFT", "ABSENT"])
    full_day(lake)
    early_close(lake)
    return lake, lake.build([FULL, EARLY, SATURDAY])


def full_day(lake: SmallLake) -> None:
    day = lake.day(FULL)
    frozen = [conid(n) for n in range(CLOSE, GHOST + 1) if n != UNFROZEN]
    msft = contract(201, underlying="MSFT")
    day.open(*frozen, msft, conid(WILD))
    rows = [day.quote(conid(CLOSE), slot) for slot in range(14)]
    rows += [day.close_quote(conid(CLOSE), bid=2.0, ask=2.2)]
    rows += [day.quote(conid(LAST_GOOD), 5), day.quote(conid(LAST_GOOD), 4), day.failure(conid(LAST_GOOD), 13)]
    rows += [day.quote(conid(PRE_CLOSE), 12, bid=3.0, ask=2.0), day.quote(conid(PRE_CLOSE), 11, bid=3.0, ask=2.0)]
    rows += [day.failure(conid(ERRORS), slot) for slot in (0, 13)]
    rows += [day.quote(conid(CROSSED), 13, bid=3.0, ask=2.0), day.failure(conid(CROSSED), 12)]
    rows += [day.close_quote(conid(NO_BID), bid=-1.0, bid_size=0, ask=0.05, delta=-2.0)]
    rows += [
        day.quote(
            conid(DELAYED), 13, market_data_type=3, bid=1.02, asof_ts=day.slot(13).sample_time + timedelta(minutes=9)
        ),
        day.quote(conid(DELAYED), 13, market_data_type=1, bid=1.01, ingest_id="0190-live"),
        day.quote(conid(DELAYED), 3, market_data_type=3, data_quality_flag=["late_sample"]),
    ]
    # Asked again after a failure: one row remains, the good one.
    rows += [day.failure(conid(LATE_FIX), 13), day.quote(conid(LATE_FIX), 13, attempt=2, ingest_id="0190-again")]
    rows += [day.quote(conid(UNFROZEN), 13)]
    # Rows of a slot that the session does not have go nowhere.
    rows += [day.quote(conid(CLOSE), 13, slot_30m=14), day.quote(conid(GHOST), 13, slot_30m=14)]
    rows += [day.quote(conid(WILD), 13, iv=11.0, delta=-0.2)]
    rows += [day.close_quote(msft)]
    day.write("raw/option_quotes", rows)
    day.write(
        "raw/underlying_quotes",
        [
            day.underlying("AAPL", 13, view="close", last=101.0),
            day.underlying("AAPL", 13, last=102.0),
            # Nothing traded, and the previous close is never this session's.
            day.underlying("MSFT", 13, view="close", last=None, close=55.0),
            day.underlying("MSFT", 13, last=None, bid=49.0, ask=51.0),
            day.underlying("MSFT", 12, last=48.0),
        ],
    )
    day.write(
        "raw/open_interest",
        [
            day.open_interest(conid(CLOSE), 10),
            day.open_interest(conid(CLOSE), 11, observed_at=day.session.close + timedelta(hours=14)),
            day.open_interest(
                conid(CLOSE), None, observed_at=day.session.close + timedelta(hours=15), snapshot_error=True
            ),
            day.open_interest(conid(LAST_GOOD), 99, oi_asof_date=date(2014, 6, 4)),
            day.open_interest(conid(PRE_CLOSE), 0),
        ],
    )


def early_close(lake: SmallLake) -> None:
    day = lake.day(EARLY)
    day.open(conid(CLOSE), conid(LAST_GOOD), conid(PRE_CLOSE))
    day.write(
        "raw/option_quotes",
        [
            day.quote(conid(CLOSE), 7),
            day.quote(conid(LAST_GOOD), 2),
            day.quote(conid(PRE_CLOSE), 6, ask=None),
            # What a vendor goes on serving after 13:30 is of no slot.
            day.quote(conid(LAST_GOOD), 7, slot_30m=8, sample_time=day.session.close + timedelta(minutes=30)),
        ],
    )


def chosen(lake: SmallLake, day: date) -> dict[int, tuple[Any, ...]]:
    rows = lake.rows(
        "select conid, rollup_strategy, rollup_source_view, rollup_source_slot, rollup_source_time "
        f"from clean.daily_clean where trade_date = '{day}'"
    )
    return {row[0]: row[1:] for row in rows}


def flags(lake: SmallLake, table: str, number: int, condition: str = "true") -> list[str]:
    return lake.one(
        f"select data_quality_flag from {table} where conid = {number} and trade_date = '{FULL}' and {condition}"
    )


def test_each_contract_gets_the_best_row_of_the_day(built: tuple[SmallLake, BuildResult]) -> None:
    lake, _ = built
    at_close = datetime(2014, 6, 5, 20, tzinfo=UTC)
    assert chosen(lake, FULL) == {
        CLOSE: ("close", "close", 13, at_close),
        LAST_GOOD: ("last_good", "intraday", 5, datetime(2014, 6, 5, 16, tzinfo=UTC)),
        PRE_CLOSE: ("slot_1530", "intraday", 12, datetime(2014, 6, 5, 19, 30, tzinfo=UTC)),
        NO_BID: ("close", "close", 13, at_close),
        DELAYED: ("close", "intraday", 13, at_close),
        LATE_FIX: ("close", "intraday", 13, at_close),
        UNFROZEN: ("close", "intraday", 13, at_close),
        WILD: ("close", "intraday", 13, at_close),
        201: ("close", "close", 13, at_close),
    }


def test_an_early_close_rolls_up_from_its_own_slots(built: tuple[SmallLake, BuildResult]) -> None:
    lake, _ = built
    assert chosen(lake, EARLY) == {
        CLOSE: ("close", "intraday", 7, datetime(2014, 7, 3, 17, tzinfo=UTC)),
        LAST_GOOD: ("last_good", "intraday", 2, datetime(2014, 7, 3, 14, 30, tzinfo=UTC)),
        PRE_CLOSE: ("slot_1530", "intraday", 6, datetime(2014, 7, 3, 16, 30, tzinfo=UTC)),
    }
    assert lake.one(f"select count(*) from clean.intraday where trade_date = '{EARLY}'") == 3


def test_what_has_no_end_of_day_has_a_reason(built: tuple[SmallLake, BuildResult]) -> None:
    lake, _ = built
    assert dict(lake.rows("select conid, reason from clean.daily_unresolved")) == {
        NEVER: "never_asked",
        ERRORS: "only_errors",
        CROSSED: "crossed",
        GHOST: "out_of_session",
    }


def test_intraday_keeps_failures_and_one_row_for_each_contract_and_slot(built: tuple[SmallLake, BuildResult]) -> None:
    lake, _ = built
    failed = lake.rows(
        f"select conid, slot_30m, error_code, bid, data_quality_flag from clean.intraday where trade_date = '{FULL}' "
        "and snapshot_error order by 1, 2"
    )
    assert [row[:4] for row in failed] == [
        (LAST_GOOD, 13, 200, None),
        (ERRORS, 0, 200, None),
        (ERRORS, 13, 200, None),
        (CROSSED, 12, 200, None),
    ]
    assert all("snapshot_error" in row[4] for row in failed)
    assert lake.rows(f"select bid, market_data_type from clean.intraday where conid = {DELAYED} and slot_30m = 13") == [
        (1.01, 1)
    ]
    assert lake.one("select max(slot_30m) from clean.intraday") == 13


def test_open_interest_is_that_of_its_own_session(built: tuple[SmallLake, BuildResult]) -> None:
    lake, _ = built
    found = lake.rows(
        "select conid, open_interest, oi_asof_date, list_contains(data_quality_flag, 'missing_oi') "
        f"from clean.daily_clean where trade_date = '{FULL}' and conid <= {PRE_CLOSE} order by conid"
    )
    assert found == [(CLOSE, 11, FULL, False), (LAST_GOOD, None, None, True), (PRE_CLOSE, 0, FULL, False)]


def test_the_underlying_closes_at_its_last_trade_else_at_its_middle(built: tuple[SmallLake, BuildResult]) -> None:
    lake, _ = built
    columns = "trade_date, underlying, underlying_close, underlying_source"
    assert lake.rows(f"select distinct {columns} from clean.daily_clean order by all") == [
        (FULL, "AAPL", 101.0, "close_view_last"),
        (FULL, "MSFT", 50.0, "close_slot_mid"),
        # No quote of the underlying at all: what the options' own model last worked with.
        (EARLY, "AAPL", 100.0, "option_model"),
    ]
    assert lake.one("select moneyness_pct from clean.daily_clean where conid = 201") == pytest.approx(50 / 100 - 1)


def test_flags_of_capture_travel_and_the_others_are_added(built: tuple[SmallLake, BuildResult]) -> None:
    lake, _ = built
    assert flags(lake, "clean.intraday", DELAYED, "slot_30m = 3") == ["delayed_fallback", "late_sample"]
    assert flags(lake, "clean.daily_clean", NO_BID) == ["missing_greeks", "missing_oi", "no_bid"]
    assert flags(lake, "clean.daily_clean", LAST_GOOD) == ["eod_rollup_fallback", "eod_rollup_stale", "missing_oi"]
    assert flags(lake, "clean.daily_clean", PRE_CLOSE) == ["crossed_market", "eod_rollup_fallback"]
    assert flags(lake, "clean.daily_clean", WILD) == ["delta_out_of_range", "iv_out_of_range", "missing_oi"]
    assert flags(lake, "clean.daily_clean", CLOSE) == []


def test_no_bid_is_null_with_neither_middle_nor_spread(built: tuple[SmallLake, BuildResult]) -> None:
    lake, _ = built
    row = lake.rows(
        f"select bid, ask, mid, spread, bid_seen, is_good, delta from clean.daily_clean where conid = {NO_BID}"
    )
    assert row == [(None, 0.05, None, None, True, True, None)]


def test_coverage_counts_the_frozen_set_and_absent_underlyings(built: tuple[SmallLake, BuildResult]) -> None:
    lake, _ = built
    query = "select underlying, frozen, asked, captured, good from quality.slot_coverage where slot_30m = 13 order by 1"
    assert lake.rows(query) == [
        # The contract that nobody froze does not count.
        ("AAPL", 11, 7, 5, 4),
        ("ABSENT", 0, 0, 0, 0),
        ("MSFT", 1, 0, 0, 0),
    ]


def test_metrics_say_what_was_breached(built: tuple[SmallLake, BuildResult]) -> None:
    lake, result = built
    found = {
        metric: (value, passed, pending)
        for metric, value, passed, pending in lake.rows(
            f"select metric, round(value, 4), passed, pending from quality.daily_metrics where trade_date = '{FULL}'"
        )
    }
    assert found["slot_coverage"] == (0.0, False, False)
    assert found["fallback"] == (round(1 - 7 / 13, 4), False, False)
    assert found["oi_filled"] == (round(2 / 9, 4), False, False)
    assert found["out_of_session"] == (2.0, False, False)
    assert found["duplicates"] == (0.0, True, False)
    # No run is recorded: nothing is known of pacing errors, which is not the same as none.
    assert found["pacing_errors"] == (None, False, False)
    assert found["slot_retry_exceeded"] == (0.0, True, False)
    assert {"slot_coverage_holds", "fallback_holds", "oi_filled_holds"} <= {failure.name for failure in result.failures}
    assert "out_of_session_holds" in {warning.name for warning in result.warnings}


def test_a_date_without_data_passes_nothing(built: tuple[SmallLake, BuildResult]) -> None:
    lake, _ = built
    judged = f"from quality.daily_metrics where trade_date = '{SATURDAY}'"
    assert lake.one(f"select count(*) {judged}") == 19
    assert not lake.one(f"select bool_or(passed or pending) {judged}")
    assert lake.one(f"select count(*) from clean.daily_unresolved where trade_date = '{SATURDAY}'") == 0


def test_a_broken_contract_fails_the_build_and_stops_no_table(built: tuple[SmallLake, BuildResult]) -> None:
    lake, result = built
    assert result.status == "failed"
    assert {"daily_clean_iv_in_range", "daily_clean_delta_in_range_and_of_its_sign"} <= {
        f.name for f in result.failures
    }
    assert lake.one(f"select count(*) from clean.daily_adjusted where conid = {WILD}") == 1
    assert {node.status for node in result.nodes if node.resource_type not in {"test", "exposure"}} == {"success"}
    assert not [node.name for node in result.nodes if node.status in {"skipped", "error"}]


def test_the_parts_of_a_day_add_up(built: tuple[SmallLake, BuildResult]) -> None:
    lake, result = built
    reconciled = next(node for node in result.nodes if node.name == "daily_tables_reconcile")
    assert reconciled.status == "pass"
    asked = "select trade_date, conid from raw.contracts union select trade_date, conid from clean.intraday"
    assert lake.one(f"select count(*) from ({asked})") == lake.one(
        "select (select count(*) from clean.daily_clean) + (select count(*) from clean.daily_unresolved)"
    )


def test_building_a_date_again_changes_no_value_and_no_other_date(built: tuple[SmallLake, BuildResult]) -> None:
    lake, first = built
    tables = MODELLED
    before = {name: lake.content(name.replace("/", ".")) for name in tables}
    other_date = {name: lake.files(name, FULL) for name in tables}
    this_date = {name: lake.files(name, EARLY) for name in tables}
    # The close slot was captured once more: new ids, the same market.
    day = lake.day(EARLY)
    day.write("raw/option_quotes", [day.quote(conid(CLOSE), 7, ingest_id="0190-rerun", attempt=2, batch="2")])
    second = lake.build([EARLY])
    assert (second.dates, second.restated) == ((EARLY,), ())
    for name in tables:
        assert lake.content(name.replace("/", ".")) == before[name]
        assert lake.files(name, FULL) == other_date[name]
        assert lake.files(name, EARLY).isdisjoint(this_date[name])
        assert second.versions[name] == first.versions[name] + 1


def test_a_number_is_pending_until_it_is_due_and_raw_is_read_at_one_version(
    built: tuple[SmallLake, BuildResult],
) -> None:
    lake, first = built
    pinned = {name: version for name, version in first.versions.items() if name.startswith("raw/")}
    day = lake.day(EARLY)
    day.write("raw/option_quotes", [day.quote(conid(NEVER), 7)])
    # The session is over. Open interest has time until the next one: Monday's, for Friday is the fourth of July.
    result = lake.build([EARLY], as_of=datetime(2014, 7, 7, 13, 29, tzinfo=UTC), source_versions=pinned)
    # What was captured after the pinned version is not in it.
    assert lake.one(f"select count(*) from clean.intraday where trade_date = '{EARLY}' and conid = {NEVER}") == 0
    assert result.versions["raw/option_quotes"] == pinned["raw/option_quotes"]
    pending = lake.rows(f"select metric from quality.daily_metrics where trade_date = '{EARLY}' and pending")
    assert sorted(pending) == [("oi_filled",), ("oi_plausibility",)]
    assert not lake.one(f"select bool_or(pending) from quality.daily_metrics where trade_date = '{FULL}'")


def test_what_expires_on_the_day_owes_no_open_interest(small_lake: Callable[[str], SmallLake]) -> None:
    lake = small_lake("expiring")
    day = lake.day(FULL)
    stays, expires = contract(1), contract(2, expiry=FULL, last_trade_date=FULL)
    day.open(stays, expires)
    day.write("raw/option_quotes", [day.quote(c, day.close_slot) for c in (stays, expires)])
    day.write("raw/open_interest", [day.open_interest(stays, 10)])
    lake.build([FULL])
    metric = "select value, passed from quality.daily_metrics where metric = 'oi_filled'"
    assert lake.rows(metric) == [(1.0, True)]
    flagged = "select conid from clean.daily_clean where list_contains(data_quality_flag, 'missing_oi')"
    assert lake.one(flagged) == expires["conid"]


def test_a_retired_date_is_left_alone(built: tuple[SmallLake, BuildResult]) -> None:
    lake, _ = built
    day = lake.day(EARLY)
    day.write(
        "ops/published",
        [
            {
                "trade_date": EARLY,
                "published_at": datetime(2014, 7, 3, 22, tzinfo=UTC),
                "status": "failed",
                "versions": [("clean/daily_clean", 1)],
                "code_version": "0",
                "actions_hash": "",
                "run_id": "x",
            }
        ],
    )
    quotes = lake.lake.table("raw/option_quotes")
    assert quotes is not None
    quotes.delete(f"trade_date = '{EARLY}'")
    before = {name: lake.content(name) for name in ("clean.intraday", "clean.daily_clean", "clean.daily_unresolved")}
    lake.build([EARLY])
    assert {name: lake.content(name) for name in before} == before
