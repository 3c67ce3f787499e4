"""A rebuild of a lake past its retention: what raw still covers comes out the same, the rest keeps rows and verdict."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from flows.clock_evidence import ClockRefused
from flows.maintenance import MaintenanceContext, run_retention
from flows.models import MODELLED, BuildResult
from flows.steps import PipelineContext, RawRetired, Rollup, require_raw, rollup
from ingest.calendar.sessions import UTC
from ingest.settings import Settings, load
from lake.reads import reader
from tests.models.conftest import SmallLake
from tests.models.rows import contract
from tests.models.test_adjustment import chainlake

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


def test_late_open_interest_has_the_next_session_judged_again(
    small_lake: Callable[[str], SmallLake],
) -> None:
    lake = small_lake("late_interest")
    lake.reference(universe=["AAPL"])
    terms = [contract(1, 640.0), contract(2, 645.0)]
    for trade_date in (MIDDLE, NEW):
        day = lake.day(trade_date)
        day.open(*terms)
        day.write("raw/option_quotes", [day.close_quote(row, volume=5) for row in terms])
    lake.day(NEW).write("raw/open_interest", [lake.day(NEW).open_interest(row, 100) for row in terms])
    settings = load(
        lake={"root": lake.lake.root},
        state={"dir": lake.folder / "state"},
        universe={"file": lake.seeds / "universe.csv"},
        reference={"corporate_actions": lake.seeds / "corporate_actions.csv"},
    )
    days = FailedDays(lake, settings, {})

    def plausibility() -> tuple[float, str]:
        found = f"quality.daily_metrics where trade_date = '{NEW}' and metric = 'oi_plausibility'"
        ((value, detail),) = lake.rows(f"select value, detail from {found}")
        return value, detail

    days.roll_up(MIDDLE, hours=100)
    days.roll_up(NEW, hours=101)
    assert plausibility() == (0.0, "0 contracts compared")
    # One of the two changes exceeds the volume.
    observed = [lake.day(MIDDLE).open_interest(row, value) for row, value in zip(terms, (98, 2), strict=True)]
    lake.day(MIDDLE).write("raw/open_interest", observed)
    again = days.roll_up(MIDDLE, hours=102)
    assert again.publication.dates == (MIDDLE, NEW)
    assert plausibility() == (0.5, "2 contracts compared")
    # Judged once: nothing has come since.
    assert days.roll_up(MIDDLE, hours=103).publication.dates == (MIDDLE,)
    assert [len(days.verdicts(day)) for day in (MIDDLE, NEW)] == [3, 2]


# Two sessions past retention, of which the first had bad coverage and the second nothing at all; one that is recent.
BAD, EMPTY, LATE = date(2014, 3, 6), date(2014, 3, 7), date(2014, 6, 6)
PUBLISHED_AT = datetime(2014, 6, 6, 22, tzinfo=UTC)


@dataclass(frozen=True)
class FailedDays:
    """The lake after `rollup` of three failed days and `retention`, with what its daily tables held then."""

    lake: SmallLake
    settings: Settings
    files: dict[tuple[str, date], set[str]]

    def roll_up(self, *days: date, hours: int = 1) -> Rollup:
        context = PipelineContext.prepare(self.settings)
        return asyncio.run(rollup(context, self.lake.lake, days, PUBLISHED_AT + timedelta(hours=hours)))

    def verdicts(self, day: date) -> list[str]:
        ordered = f"ops.published where trade_date = '{day}' order by published_at, run_id"
        return [status for (status,) in self.lake.rows(f"select status from {ordered}")]

    def versions(self) -> dict[str, int | None]:
        return {name: self.lake.lake.version(name) for name in self.lake.lake.table_names()}


@pytest.fixture(scope="module")
def failed_days(small_lake: Callable[[str], SmallLake]) -> FailedDays:
    lake = small_lake("failed")
    lake.reference(universe=["AAPL"])
    settings = load(
        lake={"root": lake.lake.root},
        state={"dir": lake.folder / "state"},
        universe={"file": lake.seeds / "universe.csv"},
        reference={"corporate_actions": lake.seeds / "corporate_actions.csv"},
    )
    for trade_date in (BAD, EMPTY, LATE):
        day = lake.day(trade_date)
        day.open(contract(1, 640.0), contract(2, 645.0))
        if trade_date != EMPTY:
            # One of two contracts, in two of fourteen slots.
            day.write("raw/option_quotes", [day.quote(contract(1, 640.0), slot) for slot in (0, 13)])
            day.write("raw/underlying_quotes", [day.underlying("AAPL", 13)])
    found = FailedDays(lake, settings, {})
    for trade_date in (BAD, EMPTY, LATE):
        assert found.roll_up(trade_date, hours=0).publication.status == "failed"
    retired = run_retention(MaintenanceContext(lake.lake, settings, PUBLISHED_AT)).rows
    assert [(row["table"], row["trade_date"]) for row in retired] == [(name, str(BAD)) for name in RETIRED]
    found.files.update({(name, day): lake.files(name, day) for name in MODELLED for day in (BAD, EMPTY, LATE)})
    return found


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_a_failed_day_stays_failed_when_its_quotes_are_gone(failed_days: FailedDays, dry_run: tuple[str, ...]) -> None:
    before = failed_days.versions()
    done = chainlake(failed_days.lake, "rollup", "--date", str(BAD), *dry_run)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert f"the quotes of {BAD} are no longer in raw/option_quotes of {failed_days.lake.lake.root}" in done.stderr
    assert f"{BAD} stays failed" in done.stderr
    assert "chainlake rollup --restate" in done.stderr
    assert failed_days.versions() == before
    with pytest.raises(RawRetired):
        failed_days.roll_up(BAD)
    assert failed_days.versions() == before
    assert failed_days.verdicts(BAD) == ["failed"]


def test_a_build_of_nothing_publishes_nothing(failed_days: FailedDays) -> None:
    before = failed_days.versions()
    result = failed_days.roll_up()
    assert (result.build.dates, result.publication.dates) == ((), ())
    built = failed_days.lake.build([BAD])
    assert (built.dates, built.left_alone) == ((), (BAD,))
    assert failed_days.versions() == before


def test_beside_a_date_that_can_be_built_a_retired_one_is_left_as_it_is(failed_days: FailedDays) -> None:
    """As on the morning after, when open interest comes for two sessions."""
    result = failed_days.roll_up(BAD, LATE)
    assert (result.build.dates, result.build.left_alone) == ((LATE,), (BAD,))
    assert result.publication.dates == (LATE,)
    assert failed_days.verdicts(BAD) == ["failed"]
    assert failed_days.verdicts(LATE) == ["failed"] * 2
    lake = failed_days.lake
    assert {name: lake.files(name, BAD) for name in MODELLED} == {
        name: failed_days.files[name, BAD] for name in MODELLED
    }


def test_a_day_that_never_had_a_quote_fails_however_often_it_is_built(failed_days: FailedDays) -> None:
    result = failed_days.roll_up(EMPTY)
    assert (result.build.dates, result.publication.status) == ((EMPTY,), "failed")
    assert failed_days.verdicts(EMPTY) == ["failed"] * 2
    assert failed_days.lake.rows(f"select conid, reason from clean.daily_unresolved where trade_date = '{EMPTY}'") == [
        (1, "never_asked"),
        (2, "never_asked"),
    ]


@pytest.mark.parametrize(("day", "recorded"), [(date(2014, 6, 4), False), (date(2014, 6, 5), True)])
def test_a_day_that_was_lost_before_anything_was_frozen_fails(
    failed_days: FailedDays, day: date, recorded: bool
) -> None:
    if recorded:
        failed_days.lake.day(day).open()
    for built in (1, 2):
        assert failed_days.roll_up(day).publication.status == "failed"
        assert failed_days.verdicts(day) == ["failed"] * built


def test_underlyings_that_retention_has_not_reached_yet_do_not_bring_a_date_back(failed_days: FailedDays) -> None:
    """Retention goes table by table, and can be cut off between two of them."""
    lake = failed_days.lake
    day = lake.day(BAD)
    day.write("raw/underlying_quotes", [day.underlying("AAPL", 13)])
    with pytest.raises(RawRetired, match=f"{BAD} stays failed"):
        require_raw(lake.lake, [BAD])
    with reader(lake.lake) as reads:
        assert reads.retired([EMPTY, BAD, LATE]) == [BAD]


def test_a_restated_day_keeps_the_verdict_that_it_had(failed_days: FailedDays) -> None:
    """A split that was forgotten reaches all days before it."""
    lake = failed_days.lake
    lake.reference(universe=["AAPL"], actions=[{**SPLIT, "effective_date": str(LATE)}])
    result = failed_days.roll_up(hours=2)
    assert result.build.restatements == {BAD: ("AAPL",)}
    assert result.publication.dates == (BAD,)
    assert failed_days.verdicts(BAD) == ["failed"] * 2
    assert lake.rows(f"select strike_adj from clean.daily_adjusted where trade_date = '{BAD}'") == [(91.43,)]
    changed = {name for name in MODELLED if lake.files(name, BAD) != failed_days.files[name, BAD]}
    assert changed == {"clean/daily_adjusted"}


def test_retention_by_a_clock_that_is_years_ahead_of_the_lake_is_refused_in_a_line(failed_days: FailedDays) -> None:
    before = failed_days.versions()
    done = chainlake(failed_days.lake, "retention")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "chainlake retention --clock-is-right" in done.stderr
    assert failed_days.versions() == before
    done = chainlake(failed_days.lake, "retention", "--clock-is-right", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert {row["trade_date"] for row in json.loads(done.stdout)["rows"]} >= {str(LATE)}
    assert failed_days.versions() == before


def test_a_date_that_the_clock_has_not_reached_is_not_built(failed_days: FailedDays) -> None:
    before = failed_days.versions()
    with pytest.raises(ClockRefused, match="2014-06-09 lies in the future"):
        failed_days.roll_up(date(2014, 6, 9))
    assert failed_days.versions() == before


def test_a_lake_whose_market_clock_is_ahead_of_the_hosts_is_published_by_its_own(failed_days: FailedDays) -> None:
    """Else the publication would be older than the last one, and that one be taken for the latest."""
    lake, ahead = failed_days.lake, datetime(2060, 1, 2, 22, tzinfo=UTC)
    versions = {"versions": [], "code_version": "0", "actions_hash": "", "run_id": "0"}
    lake.day(LATE).write(
        "ops/published", [{"trade_date": LATE, "published_at": ahead, "status": "passed", "detail": None, **versions}]
    )
    done = chainlake(lake, "rollup", "--date", str(LATE))
    assert done.returncode == 1, done.stderr
    with reader(lake.lake) as reads:
        assert reads.verdict(LATE) == "failed"
    assert lake.one("select max(published_at) from ops.published") == ahead
