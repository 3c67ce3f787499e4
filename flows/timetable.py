"""What a New York day has to do, and when. Pure: the schedules, the plan on paper and the watchdog all ask here.

Prefect's own schedules only say *at which clock times* a flow starts; whether the day is a session, and which slots it
has, is decided here and in `ingest.calendar.sessions`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal

from ingest.calendar.sessions import Session, Slot, new_york, previous_session, session_on
from ingest.open_interest.enrichment import attempts_at
from ingest.settings import Settings

Step = Literal[
    "enrichment",
    "prewarm",
    "discover",
    "snapshot",
    "midday-refresh",
    "close-snapshot",
    "daily-report",
    "maintain",
    "weekly-report",
]
# What steps, and their flows and deployments, were called up to version 0.1.
FORMER_NAMES: dict[str, Step] = {"enrich": "enrichment", "close": "close-snapshot"}
MIDNIGHT = time()
SUNDAY = 6
# The weekly report tells of the maintenance before it.
AFTER_MAINTENANCE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Planned:
    """One run: its step, its instant (UTC), the trade date that it works on, and the slot of a snapshot."""

    step: Step
    at: datetime
    trade_date: date
    slot: Slot | None = None

    @property
    def label(self) -> str:
        """The step, and the slot's New York time."""
        return f"{self.step} {self.slot.label}" if self.slot else self.step


def plan(day: date, settings: Settings) -> list[Planned]:
    """Every run of a New York calendar day in the order of its times; empty on a holiday without maintenance."""
    return sorted(_runs(day, settings), key=lambda run: run.at)


def _runs(day: date, settings: Settings) -> Iterator[Planned]:
    schedule = settings.schedule
    before = previous_session(day)
    for instant in attempts_at(before.trade_date, settings):
        if new_york(day, MIDNIGHT) <= instant < new_york(day + timedelta(days=1), MIDNIGHT):
            yield Planned("enrichment", instant, before.trade_date)
    if session := session_on(day):
        yield from _session_runs(session, settings)
    if day.weekday() == SUNDAY:
        at = new_york(day, schedule.maintain_at)
        yield Planned("maintain", at, day)
        yield Planned("weekly-report", at + AFTER_MAINTENANCE, day)


def _session_runs(session: Session, settings: Settings) -> Iterator[Planned]:
    schedule, day = settings.schedule, session.trade_date
    if schedule.prewarm:
        yield Planned("prewarm", session.at(schedule.prewarm_at), day)
    yield Planned("discover", session.at(schedule.freeze_at), day)
    for slot in session.slots:
        yield Planned("snapshot", slot.sample_time, day, slot)
    refresh = session.at(schedule.midday_refresh_at)
    if schedule.midday_refresh and refresh < session.close:
        yield Planned("midday-refresh", refresh, day)
    yield Planned("close-snapshot", session.at(schedule.close_snapshot_at), day)
    yield Planned("daily-report", session.at(schedule.daily_report_at), day)
