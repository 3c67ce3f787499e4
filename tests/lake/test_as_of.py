"""The lake as it was known at an instant: three publications of one date, queried between them."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from lake.catalog.as_of import NEW_YORK, RECORDED, Change, Piece, as_of, changes_of, instant, pieces, query_as_of
from lake.catalog.connection import Limits
from lake.errors import LakeError, QueryRefused
from lake.maintenance.vacuum import kept_versions
from lake.store import Lake
from lake.tables import BY_NAME, TABLES
from tests.lake.conftest import ObjectStore
from tests.lake.maintained import publish
from tests.models.rows import Day, contract

CLEAN, ADJUSTED = "clean/daily_clean", "clean/daily_adjusted"
FIRST, SECOND, THIRD = date(2026, 11, 18), date(2026, 11, 19), date(2026, 11, 20)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SMALL = Limits(memory="500MB", threads=1, seconds=60)
# Instants between the publications, and what the tables said then: by trade date the open interest in daily_clean, and
# the strike in daily_adjusted, which a 4:1 split effective on the third date restates.
BEFORE, CAPTURED, FILLED, NEXT_DAY, RESTATED = (
    *("2026-11-18 16:00", "2026-11-18 18:00", "2026-11-19 10:00", "2026-11-19 18:00", "2026-11-20 18:00"),
)
OPEN_INTEREST: Mapping[str, dict[date, int | None]] = {
    BEFORE: {},
    CAPTURED: {FIRST: None},
    FILLED: {FIRST: 10},
    NEXT_DAY: {FIRST: 10, SECOND: None},
    RESTATED: {FIRST: 10, SECOND: 20, THIRD: None},
}
STRIKES: Mapping[str, dict[date, float]] = {
    BEFORE: {},
    CAPTURED: {FIRST: 100.0},
    FILLED: {FIRST: 100.0},
    NEXT_DAY: {FIRST: 100.0, SECOND: 100.0},
    RESTATED: {FIRST: 25.0, SECOND: 25.0, THIRD: 25.0},
}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)


def replace(lake: Lake, name: str, column: str, rows: Mapping[date, float | None]) -> None:
    kind = pa.int64() if column == "open_interest" else pa.float64()
    table = pa.table({"trade_date": list(rows), "conid": [1] * len(rows), column: pa.array(rows.values(), kind)})
    lake.replace_dates(name, table.to_reader, list(rows))


def build(lake: Lake, interest: Mapping[date, int | None], strikes: Mapping[date, float], published_at: str) -> None:
    """Replace what a build replaces, then publish its dates and those that it restated."""
    replace(lake, CLEAN, "open_interest", interest)
    replace(lake, ADJUSTED, "strike_adj", strikes)
    versions = {name: version for name in (CLEAN, ADJUSTED) if (version := lake.version(name)) is not None}
    for day in strikes:
        publish(lake, day, versions, at(published_at))


def published(root: Path | str) -> Lake:
    lake = Lake.create(root, "ibkr-paper", datetime(2026, 11, 18, tzinfo=UTC))
    build(lake, {FIRST: None}, {FIRST: 100.0}, "2026-11-18 17:10")
    build(lake, {FIRST: 10}, {FIRST: 100.0}, "2026-11-19 09:00")
    build(lake, {SECOND: None}, {SECOND: 100.0}, "2026-11-19 17:10")
    build(lake, {SECOND: 20}, {SECOND: 100.0}, "2026-11-20 09:00")
    build(lake, {THIRD: None}, {FIRST: 25.0, SECOND: 25.0, THIRD: 25.0}, "2026-11-20 17:10")
    return lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return published(tmp_path_factory.mktemp("as of") / "lake")


def asked(lake: Lake, moment: str | datetime, sql: str) -> list[tuple[object, ...]]:
    table = query_as_of(lake.root, sql, moment, now=NOW, limits=SMALL)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def known(lake: Lake, moment: str | datetime) -> tuple[dict[object, object], dict[object, object]]:
    """Open interest and adjusted strikes by date, as known at an instant."""
    found = asked(
        lake,
        moment,
        "select 'daily_clean', trade_date, open_interest from clean.daily_clean "
        "union all select 'daily_adjusted', trade_date, strike_adj from clean.daily_adjusted",
    )
    interest = {day: value for table, day, value in found if table == "daily_clean"}
    strikes = {day: value for table, day, value in found if table == "daily_adjusted"}
    assert len(interest) + len(strikes) == len(found)
    return interest, strikes


def scans(lake: Lake, moment: str, view: str) -> int:
    """How many versions of its table a view reads."""
    with as_of(lake.root, moment, now=NOW, limits=SMALL) as connection:
        found = connection.execute("select sql from duckdb_views() where view_name = ?", [view]).fetchone()
    assert found is not None
    return str(found[0]).count("delta_scan(")


# -- clean and quality -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", OPEN_INTEREST)
def test_each_date_is_as_its_latest_publication_by_then_left_it(lake: Lake, moment: str) -> None:
    assert known(lake, moment) == (OPEN_INTEREST[moment], STRIKES[moment])


def test_the_instant_of_a_publication_already_knows_it(lake: Lake) -> None:
    published_at = at("2026-11-19 09:00")
    assert known(lake, published_at)[0] == {FIRST: 10}
    assert known(lake, published_at - timedelta(microseconds=1))[0] == {FIRST: None}


def test_dates_that_did_not_change_share_one_version(lake: Lake) -> None:
    assert [scans(lake, moment, "daily_clean") for moment in (NEXT_DAY, RESTATED)] == [1, 1]


def test_a_date_that_was_replaced_without_being_published_keeps_its_own_version(tmp_path: Path) -> None:
    lake = published(tmp_path / "lake")
    # A build of the first date that died before its publication, then the next date's.
    replace(lake, CLEAN, "open_interest", {FIRST: 99})
    build(lake, {THIRD: 30}, {THIRD: 25.0}, "2026-11-21 09:00")
    assert known(lake, "2026-11-21 10:00")[0] == {FIRST: 10, SECOND: 20, THIRD: 30}
    assert scans(lake, "2026-11-21 10:00", "daily_clean") == 2


def test_passed_views_follow_the_verdict_of_then(lake: Lake) -> None:
    assert asked(lake, NEXT_DAY, "select trade_date from clean.daily_clean_passed order by 1") == [(FIRST,), (SECOND,)]
    assert asked(lake, BEFORE, "select trade_date from clean.daily_clean_passed") == []
    assert asked(lake, FILLED, "select trade_date, published_at from ops.latest_published") == [
        (FIRST, at("2026-11-19 09:00").astimezone(UTC))
    ]


def test_the_fewest_versions_that_hold_every_date() -> None:
    own = {FIRST: 3, SECOND: 5, THIRD: 8}
    assert pieces(own, []) == [Piece(8, (FIRST, SECOND, THIRD))]
    # The first date changed after the second's version: it is held by version 5, and no longer by 8.
    assert pieces(own, [Change(7, frozenset({FIRST}))]) == [Piece(8, (SECOND, THIRD)), Piece(3, (FIRST,))]
    both = frozenset({FIRST, SECOND})
    assert pieces(own, [Change(7, both)]) == [Piece(8, (THIRD,)), Piece(5, (FIRST, SECOND))]
    assert pieces(own, [Change(8, None)]) == [Piece(8, (THIRD,)), Piece(5, (FIRST, SECOND))]
    # The commit of a date's own version is what made it, and later ones than the last version tell nothing.
    assert pieces(own, [Change(3, both), Change(9, None)]) == [Piece(8, (FIRST, SECOND, THIRD))]


# -- what maintenance does to it ---------------------------------------------------------------------------------------


def vacuumed(lake: Lake, kept: Mapping[str, list[int]]) -> None:
    for name in (CLEAN, ADJUSTED):
        table = lake.table(name)
        assert table is not None
        table.vacuum(
            0, dry_run=False, enforce_retention_duration=False, full=True, keep_versions=kept.get(name) or None
        )


def test_compaction_and_vacuum_change_no_answer_within_the_horizon(tmp_path: Path) -> None:
    lake = published(tmp_path / "lake")
    for name in (CLEAN, ADJUSTED):
        table = lake.table(name)
        assert table is not None
        table.optimize.z_order(["conid"])
    build(lake, {THIRD: 30}, {THIRD: 25.0}, "2026-11-21 09:00")
    vacuumed(lake, kept_versions(lake, NOW - timedelta(days=60)))
    for moment in OPEN_INTEREST:
        assert known(lake, moment) == (OPEN_INTEREST[moment], STRIKES[moment])
    assert known(lake, "2026-11-21 10:00")[0] == {FIRST: 10, SECOND: 20, THIRD: 30}


def test_compaction_makes_no_date_leave_the_shared_version(tmp_path: Path) -> None:
    lake = published(tmp_path / "lake")
    table = lake.table(CLEAN)
    assert table is not None
    assert table.optimize.z_order(["conid"])["numFilesRemoved"] > 0
    assert [change.dates for change in changes_of(lake, CLEAN)].count(None) == 0
    build(lake, {THIRD: 30}, {THIRD: 25.0}, "2026-11-21 09:00")
    assert scans(lake, "2026-11-21 10:00", "daily_clean") == 1


def test_files_that_were_vacuumed_are_named_with_their_date(tmp_path: Path) -> None:
    lake = published(tmp_path / "lake")
    vacuumed(lake, {})
    assert known(lake, RESTATED) == (OPEN_INTEREST[RESTATED], STRIKES[RESTATED])
    with pytest.raises(LakeError, match=r"2026-11-18 as known at 2026-11-18 18:00 New York are gone") as refused:
        asked(lake, CAPTURED, "select * from clean.daily_clean")
    assert "\n" not in str(refused.value)


def test_a_version_that_the_log_no_longer_has_is_named_with_its_date(tmp_path: Path) -> None:
    lake = published(tmp_path / "lake")
    table = lake.table(CLEAN)
    assert table is not None
    table.create_checkpoint()
    log = Path(lake.uri(CLEAN)) / "_delta_log"
    for version in range(table.version()):
        (log / f"{version:020}.json").unlink()
    assert known(lake, RESTATED)[0] == OPEN_INTEREST[RESTATED]
    with pytest.raises(LakeError, match=r"daily_clean of 2026-11-18 as known then is gone") as refused:
        asked(lake, CAPTURED, "select 1")
    assert "\n" not in str(refused.value)


# -- raw and ops -------------------------------------------------------------------------------------------------------


def test_every_table_has_an_instant_but_the_calendar() -> None:
    assert {table.name for table in TABLES} - set(RECORDED) == {"raw/sessions"}
    for name, when in RECORDED.items():
        columns = {column.name: column for column in BY_NAME[name].columns}
        *_, last = when.removeprefix("coalesce(").removesuffix(")").split(", ")
        assert columns[last].required, "a row without an instant would never be known"


def test_raw_tables_answer_by_the_instant_of_each_row(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake", "simulated", datetime(2026, 11, 18, tzinfo=UTC))
    day, asked_for = Day(lake, FIRST), contract(1, expiry=date(2027, 1, 15))
    day.open(asked_for)
    good, failed = day.quote(asked_for, 3), day.failure(asked_for, 4)
    day.write("raw/option_quotes", [good, failed])
    day.write("raw/underlying_quotes", [day.underlying("AAPL", 3)])
    day.write("raw/open_interest", [day.open_interest(asked_for, 7)])

    def counts(moment: datetime) -> list[tuple[object, ...]]:
        tables = ("contracts", "option_quotes", "underlying_quotes", "open_interest", "sessions")
        return asked(lake, moment, f"select {', '.join(f'(select count(*) from raw.{each})' for each in tables)}")

    # Frozen at 09:30; the underlying's quote came at 11:00:05 and the option's at 11:00:20; the failed one was asked
    # for at 11:30:19; open interest was observed at 04:00 of the next day.
    assert counts(at("2026-11-18 09:29")) == [(0, 0, 0, 0, 14)]
    assert counts(at("2026-11-18 11:00:05")) == [(1, 0, 1, 0, 14)]
    assert counts(at("2026-11-18 11:00:20")) == [(1, 1, 1, 0, 14)]
    assert counts(at("2026-11-18 11:30:18")) == [(1, 1, 1, 0, 14)]
    assert counts(at("2026-11-18 11:30:19")) == [(1, 2, 1, 0, 14)]
    assert counts(at("2026-11-19 04:00")) == [(1, 2, 1, 1, 14)]


# -- where the lake is -------------------------------------------------------------------------------------------------


def test_an_object_store_answers_as_a_disk_does(in_store: ObjectStore) -> None:
    lake = published(in_store.new_root())
    assert known(lake, NEXT_DAY) == (OPEN_INTEREST[NEXT_DAY], STRIKES[NEXT_DAY])
    vacuumed(lake, {})
    with pytest.raises(LakeError, match="2026-11-18 as known at 2026-11-18 18:00 New York are gone"):
        asked(lake, CAPTURED, "select * from clean.daily_clean")


# -- instants ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-20 17:30", "2026-11-20T22:30+00:00"),
        ("2026-07-01 17:30", "2026-07-01T21:30+00:00"),
        ("2026-11-20T22:30Z", "2026-11-20T22:30+00:00"),
        ("2026-11-20 17:30+01:00", "2026-11-20T16:30+00:00"),
    ],
)
def test_an_instant_is_new_york_time_unless_it_says_otherwise(text: str, utc: str) -> None:
    assert instant(text) == datetime.fromisoformat(utc)


@pytest.mark.parametrize("text", ["yesterday", "2026-11-20", "17:30", ""])
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(QueryRefused, match="is no instant: write it as"):
        instant(text)


def test_beyond_the_horizon_the_earliest_answerable_instant_is_named(lake: Lake) -> None:
    with pytest.raises(QueryRefused, match=r"earliest instant that can be answered is 2026-11-19 07:00 New York"):
        as_of(lake.root, "2026-11-19 06:59", days=3, now=NOW)
    as_of(lake.root, "2026-11-19 07:00", days=3, now=NOW, limits=SMALL).close()
    with pytest.raises(QueryRefused, match="is 2026-11-19 07:01 New York"):
        as_of(lake.root, "2026-11-19 07:00", days=3, now=NOW + timedelta(microseconds=1))


def test_the_future_cannot_be_asked(lake: Lake) -> None:
    with pytest.raises(QueryRefused, match="2026-11-22 07:01 New York lies in the future"):
        as_of(lake.root, NOW + timedelta(minutes=1), now=NOW)


def test_a_replayed_lake_has_the_clock_of_its_market(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake", "replay", NOW)
    day = date(2014, 6, 6)
    replace(lake, CLEAN, "open_interest", {day: 7})
    publish(lake, day, {CLEAN: lake.version(CLEAN) or 0}, at("2014-06-06 17:10"))
    assert asked(lake, "2014-06-06 18:00", "select open_interest from clean.daily_clean") == [(7,)]
    with pytest.raises(QueryRefused, match="earliest instant that can be answered is 2014-04-07 17:10 New York"):
        as_of(lake.root, "2014-04-07 17:09", now=NOW)
