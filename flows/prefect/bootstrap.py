"""What a Prefect server needs for Chainlake: work pool, alert blocks, automations. Made or renewed, never doubled."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from prefect import get_client
from prefect.blocks.notifications import SlackWebhook
from prefect.blocks.system import Secret
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.events import Event, EventTrigger, Posture, Resource, get_events_client
from prefect.events.actions import ActionTypes, CallWebhook, ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from pydantic import SecretStr

from chainlake.ops.incidents.alerts import Channel
from flows.prefect.deployments import POOL, deploy, deployments
from flows.prefect.reporting import ALERT_URLS_BLOCK, BREACHED
from flows.prefect.scheduled_run import SKIPPED
from flows.timetable import FORMER_NAMES
from ingest.settings import Settings

# Three heartbeats of 30 s.
SILENT_FOR = timedelta(seconds=90)
# What `bootstrap` says of each run: a renewed automation knows nothing of what came before it.
SEEN = {state: f"chainlake.flow-run.seen-{state.value.lower()}" for state in (StateType.PENDING, StateType.RUNNING)}
HEARTBEAT = "prefect.flow-run.heartbeat"
# Events are called by the name of a state, which flows choose for some of their ends.
ENDED = tuple(
    f"prefect.flow-run.{state}" for state in ("Completed", SKIPPED, "Failed", BREACHED, "Crashed", "Cancelled")
)
# A busy host takes a quarter of a minute from the worker's claim to the flow's first line.
BEGINS_WITHIN = timedelta(minutes=5)
BEGUN = (*ENDED, "prefect.flow-run.Running", "prefect.flow-run.Scheduled")
CRASH_SILENT = "chainlake: a run without a heartbeat has crashed"
NEVER_BEGAN = "chainlake: a run that was claimed and never began has crashed"
LOOK_AT_TROUBLE = "chainlake: look at once when a run failed, crashed or is late"
NOBODY_WORKS = "chainlake: no worker, or the watchdog does not run"
# Services that the server itself can alert by, when there is no worker that could: by the scheme of their URL.
WEBHOOKS = {"json": "http", "jsons": "https"}
PAYLOAD = (
    '{"title": "Chainlake: {{ automation.name }}", "message": "{{ event.event }} {{ event.resource.name }}", '
    '"type": "failure"}'
)


@dataclass(frozen=True, slots=True)
class BootstrapReport:
    """What `bootstrap` has done: one line for each thing."""

    lines: tuple[str, ...]


async def bootstrap(settings: Settings, channel: Channel, pool: bool = True) -> BootstrapReport:
    """Bring a server up to date: work pool, the deployments of `settings` in it, alert blocks, automations.

    Without a `pool` the deployments are somebody else's: they are there already.

    The server is that of PREFECT_API_URL. Can be repeated; what other programs made there stays.
    """
    lines = []
    if pool:
        async with get_client() as client:
            lines.append(await _work_pool(client))
        chosen = deployments(settings)
        await deploy(chosen)
        lines.append(f"deployments {', '.join(each.name for each in chosen)}")
    blocks = await _alert_blocks(channel)
    lines.append(
        f"alerts by {', '.join(channel.kinds)}" if channel.kinds else "no alert URLs: set CHAINLAKE_ALERT_URLS"
    )
    async with get_client() as client:
        lines += await _delete_former_deployments(client)
        watchdog = await client.read_deployment_by_name("watchdog/watchdog")
        wanted = list(_automations(watchdog.id, blocks if pool else []))
        lines += [await _renew(client, automation) for automation in wanted]
        if NOBODY_WORKS not in {automation.name for automation in wanted}:
            lines += await _withdraw(client, NOBODY_WORKS)
        await _announce_runs(client)
    return BootstrapReport(tuple(lines))


async def _work_pool(client: PrefectClient) -> str:
    try:
        await client.create_work_pool(
            WorkPoolCreate(name=POOL, type="process", description="Chainlake's flows, a process each")
        )
    except ObjectAlreadyExists:
        return f"work pool {POOL} is there"
    return f"work pool {POOL} made"


async def _delete_former_deployments(client: PrefectClient) -> list[str]:
    """Delete deployments that have another name since: their schedules would start the same steps once more."""
    deleted = []
    for name in FORMER_NAMES:
        try:
            deployment = await client.read_deployment_by_name(f"{name}/{name}")
        except ObjectNotFound:
            continue
        await client.delete_deployment(deployment.id)
        deleted.append(f"deployment {name} deleted: it is {FORMER_NAMES[name]} now")
    return deleted


async def _alert_blocks(channel: Channel) -> list[ActionTypes]:
    """Keep the URLs in a secret block, for workers; what the server can do by itself for those it understands."""
    if not channel.destinations:
        return []
    urls = [destination.url for destination in channel.destinations]
    await Secret(value=SecretStr(" ".join(urls))).asave(ALERT_URLS_BLOCK, overwrite=True)
    return [action async for action in _server_actions(urls)]


async def _server_actions(urls: list[str]) -> Any:
    for number, url in enumerate(urls, 1):
        scheme = urlsplit(url).scheme.lower()
        name = f"chainlake-alert-{number}"
        if scheme in WEBHOOKS:
            http = urlunsplit(urlsplit(url)._replace(scheme=WEBHOOKS[scheme]))
            block = Webhook(method="POST", url=SecretStr(http), headers={"Content-Type": "application/json"})
            yield CallWebhook(block_document_id=await _saved(block, name), payload=PAYLOAD)
        elif scheme == "slack":
            parts = urlsplit(url)
            hook = f"https://hooks.slack.com/services/{parts.netloc}{parts.path}"
            block_id = await _saved(SlackWebhook(url=SecretStr(hook)), name)
            yield SendNotification(
                block_document_id=block_id,
                subject="Chainlake: {{ automation.name }}",
                body="{{ event.event }} {{ event.resource.name }}",
            )


async def _saved(block: Webhook | SlackWebhook, name: str) -> UUID:
    block_id: UUID = await block.asave(name, overwrite=True)
    return block_id


def _automations(watchdog: UUID, alerts: list[ActionTypes]) -> Iterator[AutomationCore]:
    yield _crash(
        CRASH_SILENT,
        "Frees the place of a run whose process is gone: the next one of its deployment waits for it.",
        after={HEARTBEAT, SEEN[StateType.RUNNING]},
        unless={HEARTBEAT, *ENDED},
        within=SILENT_FOR,
        message="no heartbeat for 90 s: its process, worker or host is gone",
    )
    yield _crash(
        NEVER_BEGAN,
        "Its worker died between taking the run and starting its process.",
        after={"prefect.flow-run.Pending", SEEN[StateType.PENDING]},
        unless=set(BEGUN),
        within=BEGINS_WITHIN,
        message="claimed by a worker and not begun within 5 minutes: the worker is gone",
    )
    yield AutomationCore(
        name=LOOK_AT_TROUBLE,
        description="The watchdog opens an incident and alerts of it once.",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "Late")},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            # Of Chainlake's deployments, and not the watchdog's own.
            match_related={"prefect.resource.role": "deployment", "prefect.resource.name": "!watchdog"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(seconds=0),
        ),
        actions=[RunDeployment(source="selected", deployment_id=watchdog)],
    )
    if alerts:
        yield AutomationCore(
            name=NOBODY_WORKS,
            description="Sent by the server itself, as nobody else would.",
            trigger=EventTrigger(
                expect={"prefect.work-pool.not-ready"},
                match={"prefect.resource.id": ["prefect.work-pool.*"], "prefect.resource.name": [POOL]},
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(seconds=0),
            ),
            actions=alerts,
        )


def _crash(
    name: str, description: str, *, after: set[str], unless: set[str], within: timedelta, message: str
) -> AutomationCore:
    """Set a run to Crashed when none of the events `unless` follows one of its events `after` in time."""
    return AutomationCore(
        name=name,
        description=description,
        trigger=EventTrigger(
            after=after,
            expect=unless,
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=message)],
    )


async def _renew(client: PrefectClient, automation: AutomationCore) -> str:
    known = await client.read_automations_by_name(automation.name)
    if not known:
        await client.create_automation(automation)
        return f"automation {automation.name!r} made"
    await client.update_automation(known[0].id, automation)
    for double in known[1:]:
        await client.delete_automation(double.id)
    return f"automation {automation.name!r} renewed"


async def _announce_runs(client: PrefectClient) -> None:
    """Let the renewed automations wait for a sign of the runs under way: some may have died with the host."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(SEEN)))
    runs = await client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state))
    async with get_events_client() as events:
        for run in runs:
            if run.state_type in SEEN:
                resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name}
                await events.emit(Event(event=SEEN[run.state_type], resource=Resource(resource)))


async def _withdraw(client: PrefectClient, name: str) -> list[str]:
    # Who has gone over from workers to one process has no worker to miss, and who has taken the URLs back no alerts.
    known = await client.read_automations_by_name(name)
    for automation in known:
        await client.delete_automation(automation.id)
    return [f"automation {name!r} withdrawn"] if known else []
