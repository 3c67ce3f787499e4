"""The cron schedules as Prefect's own scheduler reads them, against the calendar and the plan of each day of a year."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

import pytest
from prefect.server.schemas.schedules import CronSchedule

from flows.prefect.deployments import Deployment, deployments
from flows.prefect.prefect_yaml import FILE, prefect_yaml
from flows.prefect.rehearsal import Instant, instants_of, parts
from flows.timetable import plan
from ingest.calendar.sessions import NEW_YORK, session_on, sessions_between
from ingest.settings import Settings

SETTINGS = Settings()
FIRST, LAST = date(2027, 1, 1), date(2027, 12, 31)


def days(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += timedelta(days=1)


@pytest.fixture(scope="module")
def year() -> dict[date, list[Instant]]:
    """Every start of 2027 but the watchdog's, by its New York day."""
    found: dict[date, list[Instant]] = {day: [] for day in days(FIRST, LAST)}
    for instant in asyncio.run(_starts_of_the_year()):
        found[instant.at.astimezone(NEW_YORK).date()].append(instant)
    return {day: sorted(instants, key=lambda each: each.at) for day, instants in found.items()}


async def _starts_of_the_year() -> list[Instant]:
    # By the month: Prefect gives no more than a thousand at once.
    months = [datetime(2027, month, 1, tzinfo=NEW_YORK) for month in range(1, 13)]
    ends = [*months[1:], datetime(2028, 1, 1, tzinfo=NEW_YORK)]
    lines = [(each.name, cron) for each in deployments(SETTINGS) if each.name != "watchdog" for cron in each.crons]
    return [
        Instant(name, datetime.fromtimestamp(at.timestamp(), UTC))
        for name, cron in lines
        for start, end in zip(months, ends, strict=True)
        for at in await CronSchedule(cron=cron, timezone=NEW_YORK.key).get_dates(900, start=start, end=end)
        if at.timestamp() < end.timestamp()
    ]


async def nine_thirty(day: date) -> datetime:
    snapshot = next(each for each in deployments(SETTINGS) if each.name == "snapshot")
    return (await instants_of(day, [snapshot]))[0].at


@pytest.mark.parametrize(
    ("day", "opening"),
    [
        # New York's clocks go forward on 2027-03-14 and back on 2027-11-07 (15 U.S.C. 260a).
        (date(2027, 3, 12), time(14, 30)),
        (date(2027, 3, 15), time(13, 30)),
        (date(2027, 11, 5), time(13, 30)),
        (date(2027, 11, 8), time(14, 30)),
    ],
)
async def test_the_first_slot_follows_new_yorks_clock_over_both_changes(day: date, opening: time) -> None:
    assert await nine_thirty(day) == datetime.combine(day, opening, UTC)


@pytest.mark.parametrize("monday", [date(2027, 3, 8), date(2027, 3, 15), date(2027, 11, 1), date(2027, 11, 8)])
async def test_a_week_beside_a_change_of_clocks_has_five_times_fourteen_slots(monday: date) -> None:
    snapshot = [each for each in deployments(SETTINGS) if each.name == "snapshot"]
    week = [each for day in days(monday, monday + timedelta(days=6)) for each in await instants_of(day, snapshot)]
    clocks = Counter(f"{each.at.astimezone(NEW_YORK):%H:%M}" for each in week)
    half_hours = ["09:30", *(f"{hour}:{minute}" for hour in range(10, 16) for minute in ("00", "30")), "16:00"]
    assert clocks == dict.fromkeys(half_hours, 5)


def test_every_slot_of_every_session_of_a_year_starts_one_snapshot(year: dict[date, list[Instant]]) -> None:
    sessions = sessions_between(FIRST, LAST)
    assert len(sessions) > 245
    for session in sessions:
        starts = Counter(each.at for each in year[session.trade_date] if each.deployment == "snapshot")
        assert [starts[slot.sample_time] for slot in session.slots] == [1] * len(session.slots), session.trade_date


def test_schedules_and_the_plan_of_a_day_agree_all_year(year: dict[date, list[Instant]]) -> None:
    for day, instants in year.items():
        started = Counter((each.deployment, each.at) for each in instants)
        planned = Counter((run.step, run.at) for run in plan(day, SETTINGS))
        assert max(started.values(), default=1) == 1
        assert not planned - started, f"{day}: nothing starts these"
        # What starts beyond the plan is left to the flows' guards: holidays, and slots after an early close.
        session = session_on(day)
        beyond = started - planned
        if session is None:
            assert {name for name, _ in beyond} <= {
                *("prewarm", "discover", "snapshot", "close-snapshot", "daily-report", "enrichment"),
            }
            assert not beyond or day.weekday() < 5
        else:
            assert all(name == "snapshot" and at > session.close for name, at in beyond), f"{day}: {beyond}"


async def test_open_interest_of_fridays_is_asked_for_on_saturdays_where_the_settings_say_so() -> None:
    settings = Settings(enrichment={"on": "next_day"})  # type: ignore[arg-type]
    saturday = date(2027, 6, 12)
    enrich = [each for each in deployments(settings) if each.name == "enrichment"]
    started = {each.at for each in await instants_of(saturday, enrich)}
    planned = {run.at for run in plan(saturday, settings) if run.step == "enrichment"}
    assert planned
    assert planned <= started


async def test_the_optional_refresh_starts_only_where_it_is_switched_on() -> None:
    day = date(2027, 6, 10)
    switched = Settings(schedule={"midday_refresh": True, "midday_refresh_at": time(12, 15)})  # type: ignore[arg-type]
    off, on = [
        [each.at for each in await instants_of(day, deployments(settings)) if each.deployment == "midday-refresh"]
        for settings in (SETTINGS, switched)
    ]
    assert (off, on) == ([], [datetime(2027, 6, 10, 16, 15, tzinfo=UTC)])


async def test_the_watchdog_looks_every_five_minutes_of_a_session_and_hourly_at_week_ends() -> None:
    watchdog: list[Deployment] = [each for each in deployments(SETTINGS) if each.name == "watchdog"]
    session = session_on(date(2027, 6, 10))
    assert session is not None
    looks = {each.at for each in await instants_of(session.trade_date, watchdog)}
    at = session.open
    while at <= session.at(SETTINGS.schedule.daily_report_at):
        assert at in looks
        at += timedelta(minutes=5)
    assert len(await instants_of(date(2027, 6, 12), watchdog)) == 20


def test_a_rehearsal_cuts_a_day_where_nothing_is_due(year: dict[date, list[Instant]]) -> None:
    cut = parts(year[date(2027, 6, 10)])
    began = [f"{part[0].at.astimezone(NEW_YORK):%H:%M}" for part in cut]
    assert began == ["04:00", "05:00", "07:30", "09:00", "17:00", "18:00"]
    assert sum(map(len, cut)) == len(year[date(2027, 6, 10)])


def test_prefect_yaml_is_what_the_deployments_say() -> None:
    assert FILE.read_text(encoding="utf-8") == prefect_yaml(SETTINGS)
