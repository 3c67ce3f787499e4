"""A rehearsal: real days of the schedule, run by a real Prefect server and worker, in minutes.

A simulated gateway's market clock goes at many times the host's speed, and each cron instant of a New York day becomes
an instant of the host's clock at which Prefect's own scheduler starts the flow. Hours in which nothing is due are cut
out: the market clock stands still until every run before them has ended, and is then set to the next instant. The flows
are the production flows; they take trade date and slot from the scheduled time, as that clock shows it.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from prefect import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.server.schemas.schedules import CronSchedule as ServerCron

from chainlake.ops.incidents.alerts import Channel
from flows.prefect.bootstrap import bootstrap
from flows.prefect.deployments import POOL, Deployment, at_instants, deploy, deployments
from flows.prefect.service import server
from flows.prefect_environment import prefect_environment
from flows.prefect_password import password_variables
from flows.processes import child, ended_by_sigterm
from flows.simulated_gateway import LINES, MESSAGES_PER_SECOND, GatewayCommand, gateway_process
from ingest.calendar.clock import ControlPort
from ingest.calendar.sessions import NEW_YORK, new_york
from ingest.errors import ChainlakeError
from ingest.settings import Settings

# A watchdog every five minutes would be one every five seconds: in a rehearsal it looks once an hour, between slots.
WATCHDOG = ("45 9-18 * * 1-5",)
# Longer without anything due is cut out.
GAP = timedelta(minutes=31)
# Host seconds between the schedule of a part and its first run: Prefect plans new schedules every five seconds.
LEAD_S = 25
# Host seconds that the runs of a part may take beyond its last instant.
PATIENCE_S = 420
GOOD = (StateType.COMPLETED,)


class RehearsalFailed(ChainlakeError):
    """A process of the rehearsal has ended, or its runs do not."""


@dataclass(frozen=True, slots=True)
class Instant:
    """One scheduled start: which deployment, and when (UTC, market time)."""

    deployment: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RehearsalContext:
    """Where a rehearsal runs: the gateway's ports, the server's API, and how fast the market goes."""

    gateway_port: int
    control_port: int
    api_url: str
    speed: float

    @property
    def control(self) -> ControlPort:
        """The control port of the gateway."""
        return ControlPort("127.0.0.1", self.control_port)


async def instants_of(day: date, chosen: Sequence[Deployment]) -> list[Instant]:
    """Every cron instant of a New York day, in order: on holidays too, as Prefect knows no calendar."""
    start, end = new_york(day, datetime.min.time()), new_york(day + timedelta(days=1), datetime.min.time())
    found = []
    for each in chosen:
        for schedule in each.schedules:
            assert isinstance(schedule, CronSchedule)
            cron = ServerCron(cron=schedule.cron, timezone=schedule.timezone)
            dates = await cron.get_dates(500, start=start, end=end)
            # Plain datetimes: those of Prefect lose their time zone in arithmetic.
            found += [Instant(each.name, datetime.fromtimestamp(at.timestamp(), UTC)) for at in dates]
    return sorted((each for each in found if start <= each.at < end), key=lambda each: (each.at, each.deployment))


def parts(instants: Sequence[Instant]) -> list[list[Instant]]:
    """The instants, cut where nothing is due for more than `GAP`."""
    found: list[list[Instant]] = []
    for each in instants:
        if found and each.at - found[-1][-1].at <= GAP:
            found[-1].append(each)
        else:
            found.append([each])
    return found


def rehearsed(settings: Settings) -> list[Deployment]:
    """The deployments of `settings` with the watchdog's looks thinned out."""
    return [replace(each, crons=WATCHDOG) if each.name == "watchdog" else each for each in deployments(settings)]


async def run_days(
    context: RehearsalContext,
    settings: Settings,
    days: Sequence[date],
    on_part: Callable[[str], None] = lambda words: None,
    until: datetime | None = None,
    since: datetime | None = None,
) -> list[FlowRun]:
    """Run `days` (New York, in order), from `since` to `until` at most, and give every run that the scheduler started.

    Raises RehearsalFailed when runs do not end.
    """
    chosen = rehearsed(settings)
    instants = [
        each
        for day in days
        for each in await instants_of(day, chosen)
        if (since is None or each.at >= since) and (until is None or each.at <= until)
    ]
    done: list[FlowRun] = []
    for part in parts(instants):
        first, last = (each.astimezone(NEW_YORK) for each in (part[0].at, part[-1].at))
        on_part(f"{first:%a %Y-%m-%d %H:%M} to {last:%H:%M}: {', '.join(sorted({each.deployment for each in part}))}")
        done += await _run_part(context, chosen, part)
    return done


async def _run_part(context: RehearsalContext, chosen: Sequence[Deployment], part: Sequence[Instant]) -> list[FlowRun]:
    # Prefect's schedules have whole seconds.
    began = datetime.now(UTC)
    zero = (began + timedelta(seconds=LEAD_S)).replace(microsecond=0)
    wall = {each: zero + (each.at - part[0].at) / context.speed for each in part}
    starts = {each.name: [wall[instant] for instant in part if instant.deployment == each.name] for each in chosen}
    await deploy([each for each in chosen if starts[each.name]], lambda each: at_instants(starts[each.name]))
    await context.control.call({"op": "speed", "speed": context.speed})
    ahead = (zero - datetime.now(UTC)).total_seconds() * context.speed
    await context.control.step(part[0].at - timedelta(seconds=ahead))
    ends_at = max(wall.values()) + timedelta(seconds=PATIENCE_S)
    while True:
        await asyncio.sleep(2)
        runs = await runs_between(zero - timedelta(seconds=1), max(wall.values()) + timedelta(seconds=1))
        if len(runs) >= len(part) and all(run.state and run.state.is_final() for run in runs):
            break
        if datetime.now(UTC) > ends_at:
            states = ", ".join(f"{run.name} {run.state_name}" for run in runs)
            raise RehearsalFailed(f"{len(part)} runs were due and did not end in time: {states}")
    await context.control.call({"op": "speed", "speed": 0})
    # Otherwise the schedule of this part would come again with the next deployment.
    await deploy([each for each in chosen if starts[each.name]], lambda each: [])
    return runs


async def runs_between(first: datetime, last: datetime) -> list[FlowRun]:
    """The scheduled runs that were due between two instants of the host's clock, in order."""
    async with get_client() as client:
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                expected_start_time=FlowRunFilterExpectedStartTime(after_=first, before_=last),
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=200,
        )
    return [run for run in runs if run.auto_scheduled]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What is rehearsed: New York days in order, underlyings, market seconds a second, and the last instant (UTC).

    `config` is the settings file of the flows.
    """

    days: Sequence[date]
    symbols: Sequence[str]
    speed: float
    until: datetime | None = None
    config: Path | None = None


async def rehearse(
    settings: Settings, rehearsal: Rehearsal, api_url: str, on_part: Callable[[str], None] = lambda words: None
) -> list[FlowRun]:
    """Run the days on services of their own and give the runs.

    Raises RehearsalFailed, ServerFailed, BrokerUnreachable; Terminated by SIGTERM.
    """
    on_part("starting gateway, Prefect's server and a worker")
    with ended_by_sigterm():
        async with rehearsal_services(settings, rehearsal, api_url) as context:
            return await run_days(context, settings, rehearsal.days, on_part, rehearsal.until)


@asynccontextmanager
async def rehearsal_services(settings: Settings, rehearsal: Rehearsal, api_url: str) -> AsyncIterator[RehearsalContext]:
    """A simulated gateway, a Prefect server at `api_url` and a worker, as processes that end with the block.

    PREFECT_API_URL was `api_url` before Prefect was imported.
    """
    start = new_york(rehearsal.days[0], settings.schedule.enrichment_at) - timedelta(minutes=30)
    gateway = GatewayCommand(rehearsal.symbols, start)
    context = RehearsalContext(gateway.port, gateway.control_port, api_url, rehearsal.speed)
    logs = Path(settings.state.dir) / "run_logs"
    variables = environment(settings, context)
    if rehearsal.config:
        variables["CHAINLAKE_CONFIG"] = str(rehearsal.config.resolve())
    async with (
        gateway_process(settings, gateway, "rehearsal_gateway", variables),
        server(context.api_url, logs / "rehearsal_server.log", variables),
    ):
        await bootstrap(settings, Channel.from_environment())
        await deploy(deployments(settings), lambda each: [])
        # As a service would run it.
        worker = ("-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process")
        async with child(*worker, log=logs / "rehearsal_worker.log", variables=variables):
            yield context


def environment(settings: Settings, context: RehearsalContext) -> dict[str, str]:
    """What the environment of every process of a rehearsal says besides that of this one."""
    return {
        **prefect_environment(Path(settings.state.dir), context.api_url),
        **password_variables(Path(settings.state.dir), os.environ, context.api_url),
        "CHAINLAKE_LAKE__ROOT": str(Path(settings.lake.root).resolve()),
        "CHAINLAKE_STATE__DIR": str(Path(settings.state.dir).resolve()),
        "CHAINLAKE_UNIVERSE__FILE": str(settings.universe.file.resolve()),
        "CHAINLAKE_SCHEDULE__MARKET_CLOCK": f"127.0.0.1:{context.control_port}",
        "IB_PORT": str(context.gateway_port),
        "CHAINLAKE_IB__LINES": str(LINES),
        "CHAINLAKE_IB__MESSAGES_PER_SECOND": str(MESSAGES_PER_SECOND),
        # A second is a market minute: what is scheduled has to be found at once.
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_WORKER_PREFETCH_SECONDS": "10",
    }
