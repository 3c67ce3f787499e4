"""A full rebuild of a lake past its retention: what raw still covers comes out the same, the rest is left alone."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pytest

from flows.models import MODELLED, BuildResult
from ingest.sessions import UTC
from tests.models.conftest import SmallLake
from tests.models.rows import contract

OLD, MIDDLE, NEW = DAYS = (date(2014, 6, 5), date(2014, 6, 6), date(2014, 6, 9))
SPLIT = {"symbol": "AAPL", "event_type": "split", "effective_date": "2014-06-09", "ratio_new": 7, "ratio_old": 1}
# What retention takes, and what it leaves of an old date.
RETIRED = ("raw/option_quotes", "raw/underlying_quotes", "clean/intraday")
LEFT = tuple(sorted(set(MODELLED) - {"clean/intraday"}))

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Retired:
    """The lake after a full rebuild, with rows and files of each table and date from before it."""

    lake: SmallLake
    rows: dict[tuple[str, date], list[tuple[Any, ...]]]
    files: dict[tuple[str, date], set[str]]
    rebuilt: BuildResult


def rows_of(lake: SmallLake, table: str, day: date) -> list[tuple[Any, ...]]:
    return lake.content(f"{table.replace('/', '.')} where trade_date = '{day}'")


@pytest.fixture(scope="module")
def retired(small_lake: Callable[[str], SmallLake]) -> Retired:
    lake = small_lake("retired")
    lake.reference(universe=["AAPL", "MSFT"], actions=[SPLIT])
    terms = [contract(1, 645.0), contract(2, 640.0, "P"), contract(3, 50.0, underlying="MSFT"), contract(4, 655.0)]
    for trade_date in DAYS:
        day = lake.day(trade_date)
        day.open(*terms)
        # The last contract is never asked for: it ends in daily_unresolved.
        day.write("raw/option_quotes", [day.quote(row, slot) for row in terms[:3] for slot in (0, 12, 13)])
        day.write("raw/option_quotes", [day.close_quote(terms[0], bid=7.0, ask=7.2)])
        day.write("raw/underlying_quotes", [day.underlying(symbol, 13) for symbol in ("AAPL", "MSFT")])
        day.write("raw/open_interest", [day.open_interest(row, 10) for row in terms[:2]])
    lake.build(DAYS)
    lake.day(OLD).write(
        "ops/published",
        [
            {
                "trade_date": trade_date,
                "published_at": datetime(2014, 6, 10, tzinfo=UTC),
                "status": "passed",
                "versions": [("clean/daily_clean", 1)],
                "code_version": "0",
                "actions_hash": "",
                "run_id": "x",
            }
            for trade_date in DAYS
        ],
    )
    for name in RETIRED:
        table = lake.lake.table(name)
        assert table is not None
        table.delete(f"trade_date = '{OLD}'")
    rows = {(name, day): rows_of(lake, name, day) for name in MODELLED for day in DAYS}
    files = {(name, day): lake.files(name, day) for name in MODELLED for day in DAYS}
    return Retired(lake, rows, files, lake.build(None))


def test_a_full_rebuild_covers_the_dates_whose_raw_is_there(retired: Retired) -> None:
    assert (retired.rebuilt.dates, retired.rebuilt.restatements) == ((MIDDLE, NEW), {})


@pytest.mark.parametrize("day", [MIDDLE, NEW])
@pytest.mark.parametrize("name", MODELLED)
def test_rebuilt_dates_have_the_rows_they_had(retired: Retired, name: str, day: date) -> None:
    assert retired.rows[name, day]
    assert rows_of(retired.lake, name, day) == retired.rows[name, day]
    # They were indeed written again.
    assert retired.lake.files(name, day).isdisjoint(retired.files[name, day])


@pytest.mark.parametrize("name", LEFT)
def test_dates_past_retention_are_left_alone(retired: Retired, name: str) -> None:
    assert retired.rows[name, OLD]
    assert retired.lake.files(name, OLD) == retired.files[name, OLD]
    assert rows_of(retired.lake, name, OLD) == retired.rows[name, OLD]
    assert retired.lake.one(f"select count(*) from clean.intraday where trade_date = '{OLD}'") == 0


def test_a_date_past_retention_is_still_restated_from_its_daily_rows(retired: Retired) -> None:
    lake = retired.lake
    lake.reference(universe=["AAPL", "MSFT"], actions=[SPLIT, {**SPLIT, "symbol": "MSFT", "ratio_new": 2}])
    others = "clean.daily_adjusted where underlying <> 'MSFT'"
    before, files = lake.content(others), {name: lake.files(name, OLD) for name in LEFT}
    result = lake.build(None)
    assert result.dates == (MIDDLE, NEW)
    assert result.restatements == {OLD: ("MSFT",)}
    assert lake.rows(
        "select trade_date, strike_adj, bid_adj from clean.daily_adjusted where conid = 3 order by trade_date"
    ) == [(OLD, 25.0, 0.5), (MIDDLE, 25.0, 0.5), (NEW, 50.0, 1.0)]
    assert lake.content(others) == before
    assert {name for name in LEFT if lake.files(name, OLD) != files[name]} == {"clean/daily_adjusted"}
