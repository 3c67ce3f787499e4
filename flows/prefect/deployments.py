"""The deployments: which flow runs when. Clock times are New York's; the calendar is asked by the flows themselves.

`deployments` makes them from the settings; ``prefect.yaml`` is the same with the default settings, for who deploys by
Prefect's own command. A weekday schedule starts flows on holidays too, which then say that they skip: that is visible,
survives restarts, and needs no list of holidays in a server.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, RRuleSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.flows import Flow
from prefect.runner.storage import LocalStorage
from prefect.types.entrypoint import EntrypointType

from flows.prefect.daily import (
    close_snapshot_flow,
    daily_report_flow,
    enrichment_flow,
    rollup_flow,
    weekly_report_flow,
)
from flows.prefect.maintenance import maintain_flow, repair_flow, watchdog_flow
from flows.prefect.session import discover_flow, snapshot_flow
from flows.timetable import AFTER_MAINTENANCE
from ingest.calendar.sessions import NEW_YORK, new_york
from ingest.settings import ScheduleSettings, Settings

POOL = "chainlake"
TAG = "chainlake"
WEEKDAYS, SUNDAY = "1-5", "0"
# On which New York's clocks are not set.
ANY_SUNDAY = date(2026, 1, 4)
AnyFlow = Flow[..., Coroutine[Any, Any, Any]]


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment of a flow: its cron lines (New York), and the parameters that differ from the flow's defaults."""

    name: str
    flow: AnyFlow
    crons: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """The first line of the flow's docstring."""
        return (self.flow.fn.__doc__ or "").strip().splitlines()[0]

    @property
    def entrypoint(self) -> str:
        """The flow's place in the checkout."""
        return f"{self.flow.fn.__module__.replace('.', '/')}.py:{self.flow.fn.__name__}"

    def to_prefect(self, schedules: list[SCHEDULE_TYPES] | None = None) -> RunnerDeployment:
        """The deployment as Prefect takes it; `schedules` instead of its own cron lines.

        One run at a time, the others wait: Prefect's way to cancel those that are new would run the stalest slot.
        """
        return RunnerDeployment.from_flow(
            self.flow,
            self.name,
            schedules=self.schedules if schedules is None else schedules,
            parameters=self.parameters,
            description=self.description,
            tags=[TAG],
            concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )

    @property
    def schedules(self) -> list[SCHEDULE_TYPES]:
        """Its cron lines as Prefect's schedules."""
        return [CronSchedule(cron=cron, timezone=NEW_YORK.key) for cron in self.crons]


def deployments(settings: Settings) -> list[Deployment]:
    """Every deployment, with the times of `settings`."""
    schedule = settings.schedule
    return [
        Deployment("enrichment", enrichment_flow, _enrichment(settings)),
        Deployment(
            "prewarm", discover_flow, (_at(schedule.prewarm_at),) if schedule.prewarm else (), {"mode": "prewarm"}
        ),
        Deployment("discover", discover_flow, (_at(schedule.freeze_at),)),
        # Half-hours from 09:30 to 16:00, whatever the calendar says of the day.
        Deployment("snapshot", snapshot_flow, ("30 9 * * 1-5", "0,30 10-15 * * 1-5", "0 16 * * 1-5")),
        Deployment(
            "midday-refresh",
            discover_flow,
            (_at(schedule.midday_refresh_at),) if schedule.midday_refresh else (),
            {"mode": "refresh"},
        ),
        Deployment("close-snapshot", close_snapshot_flow, (_at(schedule.close_snapshot_at),)),
        Deployment("daily-report", daily_report_flow, (_at(schedule.daily_report_at),)),
        Deployment("maintain", maintain_flow, (_at(schedule.maintain_at, SUNDAY),)),
        Deployment("weekly-report", weekly_report_flow, (_at(_hour_later(schedule), SUNDAY),)),
        Deployment("watchdog", watchdog_flow, (f"*/{schedule.watchdog_minutes} 4-19 * * 1-5", "7 4-23 * * 0,6")),
        Deployment("rollup", rollup_flow),
        Deployment("repair", repair_flow),
    ]


def _at(clock_time: time, days: str = WEEKDAYS) -> str:
    return f"{clock_time.minute} {clock_time.hour} * * {days}"


def _enrichment(settings: Settings) -> tuple[str, ...]:
    # On the morning after a session, which is a Saturday when it need not be a session's.
    first = WEEKDAYS if settings.enrichment.on == "next_session" else "2-6"
    return (_at(settings.schedule.enrichment_at, first), *(_at(again) for again in settings.enrichment.repeat_at))


def _hour_later(schedule: ScheduleSettings) -> time:
    return (new_york(ANY_SUNDAY, schedule.maintain_at) + AFTER_MAINTENANCE).astimezone(NEW_YORK).time()


def at_instants(instants: list[datetime]) -> list[SCHEDULE_TYPES]:
    """A schedule of exactly these instants (whole seconds): the compressed day of a rehearsal."""
    if not instants:
        return []
    listed = ",".join(f"{instant.astimezone(NEW_YORK):%Y%m%dT%H%M%S}" for instant in sorted(instants))
    return [RRuleSchedule(rrule=f"RDATE:{listed}", timezone=NEW_YORK.key)]


async def deploy(
    chosen: list[Deployment], schedules: Callable[[Deployment], list[SCHEDULE_TYPES]] = lambda each: each.schedules
) -> None:
    """Make or renew deployments in the work pool. Their schedules are replaced by those given.

    Runs work in the folder of who deploys, where its config/ is.
    """
    for each in chosen:
        deployment = each.to_prefect(schedules(each))
        deployment.storage = LocalStorage(str(Path.cwd()))
        await deployment.aapply(work_pool_name=POOL)
