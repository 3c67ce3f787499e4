"""A clock that the lake contradicts deletes nothing and publishes nothing."""

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest

from flows.clock_evidence import (
    ClockRefused,
    newest_recording,
    newest_session,
    require_evidence,
    require_publishable,
)
from flows.maintenance import MaintenanceContext, run_vacuum
from ingest.calendar.sessions import new_york
from ingest.settings import load
from lake.store import Lake
from tests.lake.maintained import CREATED, publish
from tests.models.rows import Day

DAY, NEXT = date(2026, 11, 19), date(2026, 11, 20)
PUBLISHED = new_york(DAY, time(17, 30))


@pytest.fixture
def paper(tmp_path: Path) -> Lake:
    """A lake of the host's clock with one published session."""
    lake = Lake.create(tmp_path / "lake", "ibkr-paper", CREATED)
    Day(lake, DAY).open()
    publish(lake, DAY, {}, PUBLISHED)
    return lake


@pytest.mark.parametrize(("origin", "seen"), [("ibkr-paper", DAY), ("replay", datetime.now(UTC).date())])
def test_a_lake_of_the_hosts_clock_is_as_late_as_its_last_session_and_any_other_as_its_last_write(
    tmp_path: Path, origin: str, seen: date
) -> None:
    lake = Lake.create(tmp_path / "lake", origin, CREATED)  # type: ignore[arg-type]
    Day(lake, DAY).open()
    found = newest_recording(lake)
    assert newest_session(lake) == DAY
    assert found is not None
    # The New York date of the write, which midnight may have separated from the beginning of this test run.
    assert abs(found - seen) <= timedelta(days=1)


def test_an_empty_lake_contradicts_no_clock(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake", "ibkr-live", CREATED)
    assert newest_session(lake) is None
    require_evidence(lake, PUBLISHED, None, "retention")


def test_two_weeks_after_the_last_session_the_clock_is_doubted(paper: Lake) -> None:
    require_evidence(paper, PUBLISHED + timedelta(days=14), newest_session(paper), "rollup")
    with pytest.raises(ClockRefused) as refused:
        require_evidence(paper, PUBLISHED + timedelta(days=15), newest_session(paper), "rollup")
    assert str(refused.value) == (
        f"the clock says 2026-12-04, 15 days after the last that {paper.root} has recorded (2026-11-19), so nothing "
        "was done: set the host's clock, or, if it is right, run `chainlake rollup --clock-is-right`"
    )


def test_a_date_that_has_not_come_is_not_published(paper: Lake) -> None:
    require_publishable(paper, [DAY, NEXT], new_york(NEXT, time(0)))
    with pytest.raises(ClockRefused, match=f"{NEXT} lies in the future .it is {DAY} in New York."):
        require_publishable(paper, [DAY, NEXT], new_york(DAY, time(23, 59)))


def test_nothing_is_published_before_its_last_publication(paper: Lake) -> None:
    require_publishable(paper, [DAY], PUBLISHED)
    with pytest.raises(ClockRefused, match=f"{DAY} was published at 2026-11-19 22:30 UTC, and the clock says"):
        require_publishable(paper, [DAY], PUBLISHED - timedelta(seconds=1))
    # Another date of that time, and a day that is simulated once more, may be.
    require_publishable(paper, [date(2026, 11, 18)], PUBLISHED - timedelta(seconds=1))


def test_a_simulated_day_may_be_published_again_by_a_clock_that_was_set_back(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake", "simulated", CREATED)
    publish(lake, DAY, {}, PUBLISHED)
    require_publishable(lake, [DAY], PUBLISHED - timedelta(hours=1))


def test_vacuum_does_not_believe_such_a_clock_either(paper: Lake, tmp_path: Path) -> None:
    """It would forget the versions that as-of queries need."""
    settings = load(state={"dir": tmp_path / "state"})
    with pytest.raises(ClockRefused, match="chainlake vacuum --clock-is-right"):
        run_vacuum(MaintenanceContext(paper, settings, PUBLISHED + timedelta(days=400)))
    assert paper.version("ops/runs") == 0
    assert not (tmp_path / "state").exists()
    assert run_vacuum(MaintenanceContext(paper, settings, PUBLISHED + timedelta(days=14))).passed
