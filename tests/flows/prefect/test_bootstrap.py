"""What a real Prefect server holds after `bootstrap`: the coming starts, nothing twice, no secret to be read."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import httpx
import pytest
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import EventTrigger, Posture
from prefect.events.actions import DoNothing
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.states import Completed, Crashed, Failed, Scheduled

from chainlake.ops.incidents.alerts import Channel
from flows.prefect import trouble
from flows.prefect.bootstrap import NOBODY_WORKS, bootstrap
from flows.prefect.deployments import POOL, TAG, deployments
from flows.prefect.reporting import BREACHED
from flows.prefect.trouble import LATE_AFTER, troubles
from flows.timetable import plan
from ingest.calendar.sessions import NEW_YORK, next_session, session_on
from ingest.settings import PROJECT, Settings
from tests.flows.prefect.conftest import credentials, until

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

SETTINGS = Settings()
LATER = Settings(schedule={"close_snapshot_at": time(17, 30)})  # type: ignore[arg-type]
SECRETS = ("hunter2", "T0KENTOKENA", "T0KENTOKENB", "T0KENTOKENC", "passw0rd-of-mail")
CHANNEL = Channel.of(
    [
        f"json://operator:{SECRETS[0]}@127.0.0.1:9/alerts",
        f"slack://{SECRETS[1]}/{SECRETS[2]}/{SECRETS[3]}",
        f"mailto://operator:{SECRETS[4]}@127.0.0.1:9?from=lake@example.org&to=operator@example.org",
    ]
)
SOMEBODY_ELSES = AutomationCore(
    name="not Chainlake's",
    trigger=EventTrigger(expect={"nothing.ever"}, posture=Posture.Reactive, threshold=1, within=timedelta(0)),
    actions=[DoNothing()],
)


@pytest.fixture(scope="module", autouse=True)
def first_bootstrap(api: str) -> tuple[str, ...]:
    """What the first `bootstrap` of the server said."""

    async def work() -> tuple[str, ...]:
        async with get_client() as client:
            await client.create_automation(SOMEBODY_ELSES)
        return (await bootstrap(SETTINGS, CHANNEL)).lines

    return asyncio.run(work())


def coming() -> date:
    """The trade date whose steps are all still to come."""
    return next_session(datetime.now(NEW_YORK).date()).trade_date


async def listed(day: date, name: str | None = None) -> Counter[tuple[str, datetime]]:
    """What the scheduler has planned for a New York day: deployment and instant."""
    start = datetime.combine(day, time(), NEW_YORK)
    async with get_client() as client:
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                expected_start_time=FlowRunFilterExpectedStartTime(after_=start, before_=start + timedelta(days=1))
            ),
            deployment_filter=DeploymentFilter(
                name=DeploymentFilterName(any_=[name] if name else [each.name for each in deployments(SETTINGS)])
            ),
            limit=200,
        )
        names = {each.id: each.name for each in await client.read_deployments()}
    return Counter(
        (names[run.deployment_id], datetime.fromtimestamp(run.expected_start_time.timestamp(), UTC))
        for run in runs
        if run.deployment_id and run.expected_start_time and names[run.deployment_id] != "watchdog"
    )


def planned(day: date, settings: Settings = SETTINGS) -> Counter[tuple[str, datetime]]:
    return Counter((str(run.step), run.at) for run in plan(day, settings))


async def test_the_scheduler_lists_every_slot_and_step_of_the_next_session() -> None:
    """Guards against a SQLAlchemy with which Prefect starts, deploys, and schedules nothing."""
    day = coming()
    session = session_on(day)
    assert session is not None
    found = await until(lambda: listed(day), lambda answer: not planned(day) - answer)
    assert sorted(at for name, at in found if name == "snapshot" and at <= session.close) == [
        slot.sample_time for slot in session.slots
    ]
    assert not planned(day) - found
    assert max(found.values()) == 1


async def inventory(api: str) -> dict[str, list[str]]:
    """Everything that `bootstrap` makes, by kind: names with their ids."""
    found = {}
    async with httpx.AsyncClient(base_url=api, auth=credentials()) as http:
        for kind in ("work_pools", "deployments", "automations", "block_documents"):
            answer = (await http.post(f"/{kind}/filter", json={})).raise_for_status().json()
            found[kind] = sorted(f"{each.get('name')} {each['id']}" for each in answer)
    return found


async def test_bootstrap_twice_makes_nothing_twice(api: str) -> None:
    before = await inventory(api)
    again = (await bootstrap(SETTINGS, CHANNEL)).lines
    assert await inventory(api) == before
    assert len(before["deployments"]) == len(deployments(SETTINGS))
    assert [line for line in before["automations"] if line.startswith("not Chainlake's")]
    assert len(before["automations"]) == 5
    assert not any(line.endswith(" made") for line in again)
    # Schedules are written anew, and the runs that they had planned with them.
    day = coming()
    found = await until(lambda: listed(day), lambda answer: not planned(day) - answer)
    assert not planned(day) - found
    assert max(found.values()) == 1


async def test_a_deployment_of_a_former_name_is_deleted_with_its_schedule() -> None:
    async with get_client() as client:
        await client.create_deployment(flow_id=await client.create_flow_from_name("enrich"), name="enrich")
        assert "deployment enrich deleted: it is enrichment now" in (await bootstrap(SETTINGS, CHANNEL)).lines
        with pytest.raises(ObjectNotFound):
            await client.read_deployment_by_name("enrich/enrich")


async def test_who_takes_the_alert_urls_back_gets_no_alert_of_a_missing_worker_from_the_server(api: str) -> None:
    async def automations() -> set[str]:
        return {each.rpartition(" ")[0] for each in (await inventory(api))["automations"]}

    with_alerts = await automations()
    said = (await bootstrap(SETTINGS, Channel.of([]))).lines
    assert with_alerts - await automations() == {NOBODY_WORKS}
    assert f"automation {NOBODY_WORKS!r} withdrawn" in said
    await bootstrap(SETTINGS, CHANNEL)
    assert await automations() == with_alerts


async def test_another_time_in_the_settings_replaces_the_schedule() -> None:
    day = coming()
    await bootstrap(LATER, CHANNEL)
    wanted = [key for key in planned(day, LATER) if key[0] == "close-snapshot"]
    assert list(await until(lambda: listed(day, "close-snapshot"), lambda answer: list(answer) == wanted)) == wanted
    await bootstrap(SETTINGS, CHANNEL)
    wanted = [key for key in planned(day) if key[0] == "close-snapshot"]
    assert list(await until(lambda: listed(day, "close-snapshot"), lambda answer: list(answer) == wanted)) == wanted


async def deployed(client: PrefectClient) -> dict[str, dict[str, Any]]:
    """What counts of each deployment, by its name: not how its code is found, but which flow that is."""

    async def of(each: DeploymentResponse) -> dict[str, Any]:
        assert each.entrypoint is not None
        loaded: Flow[..., Any] = load_flow_from_entrypoint(each.entrypoint)
        limit = each.global_concurrency_limit
        return {
            "flow": (await client.read_flow(each.flow_id)).name,
            "function": (loaded.name, loaded.fn.__name__),
            "schedules": sorted(
                (entry.schedule.cron, entry.schedule.timezone, entry.active)
                for entry in each.schedules
                if isinstance(entry.schedule, CronSchedule)
            ),
            "not cron": [entry for entry in each.schedules if not isinstance(entry.schedule, CronSchedule)],
            "parameters": each.parameters,
            "takes": sorted((each.parameter_openapi_schema or {}).get("properties", {})),
            "at once": limit and limit.limit,
            "others": each.concurrency_options and each.concurrency_options.collision_strategy.value,
            "tags": each.tags,
            "description": each.description,
            "pool": each.work_pool_name,
            "paused": each.paused,
        }

    return {each.name: await of(each) for each in await client.read_deployments()}


async def test_prefects_own_deploy_command_makes_the_same_deployments(monkeypatch: pytest.MonkeyPatch) -> None:
    # The entry points of prefect.yaml are paths within the checkout.
    monkeypatch.chdir(PROJECT)
    async with get_client() as client:
        by_bootstrap = await deployed(client)
        for each in await client.read_deployments():
            await client.delete_deployment(each.id)
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        done = await asyncio.to_thread(subprocess.run, command, cwd=PROJECT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        by_command = await deployed(client)
    # The automation that starts the watchdog named the deployment that is gone.
    await bootstrap(SETTINGS, CHANNEL)
    assert set(by_command) == {each.name for each in deployments(SETTINGS)}
    for name, facts in by_bootstrap.items():
        assert by_command[name] == facts, name
        assert (facts["pool"], facts["tags"], facts["at once"], facts["others"]) == (POOL, [TAG], 1, "ENQUEUE")


async def test_alert_urls_are_in_no_answer_of_the_server(api: str, first_bootstrap: tuple[str, ...]) -> None:
    answers = ["\n".join(first_bootstrap)]
    async with httpx.AsyncClient(base_url=api, auth=credentials()) as http:
        kinds = ("block_documents", "automations", "deployments", "work_pools", "flow_runs", "logs", "events")
        for kind in kinds:
            answers.append((await http.post(f"/{kind}/filter", json={})).raise_for_status().text)
        for name in (
            "secret/block_documents/name/chainlake-alert-urls",
            "webhook/block_documents/name/chainlake-alert-1",
        ):
            answers.append((await http.get(f"/block_types/slug/{name}")).raise_for_status().text)
    assert "chainlake-alert-2" in answers[1]
    for secret in SECRETS:
        assert not [answer for answer in answers if secret in answer], secret


async def ended(client: PrefectClient, name: str, minutes_ago: float, *states: State[Any]) -> FlowRun:
    """A run of a deployment that was due some minutes ago, and went through `states`."""
    deployment = await client.read_deployment_by_name(f"{flow_of(name)}/{name}")
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    run = await client.create_flow_run_from_deployment(deployment.id, state=Scheduled(scheduled_time=at))
    for state in states:
        await client.set_flow_run_state(run.id, state, force=True)
    return run


def flow_of(name: str) -> str:
    return next(each.flow.name for each in deployments(SETTINGS) if each.name == name)


async def looks(client: PrefectClient) -> list[FlowRun]:
    """Runs of the watchdog that no schedule has made."""
    runs = await client.read_flow_runs(
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=["watchdog"])), limit=200
    )
    return [run for run in runs if not run.auto_scheduled]


async def test_trouble_is_a_flows_last_run_that_ended_badly_or_a_run_that_nobody_starts() -> None:
    async with get_client() as client:
        assert await troubles() == []
        await ended(client, "discover", 40, Failed(message="the broker\n cannot be reached"))
        await ended(client, "snapshot", 30, Crashed(message="no heartbeat"))
        # What the lake knows better than Prefect is told by the watchdog's other rules.
        await ended(client, "close-snapshot", 20, Failed(name=BREACHED, message="published as failed"))
        waiting = await ended(client, "enrichment", LATE_AFTER.total_seconds() / 60 + 1)

        async def state() -> str | None:
            return (await client.read_flow_run(waiting.id)).state_name

        assert await until(state, lambda name: name == "Late") == "Late"
        found = {(each.flow, each.kind, each.cause) for each in await troubles()}
        assert found == {
            ("discover", "failed", "flow_failed:discover"),
            ("snapshot", "crashed", "flow_failed:snapshot"),
            ("enrichment", "late", "flow_late:enrichment"),
        }
        said = next(each.detail for each in await troubles() if each.flow == "discover")
        assert said.endswith(": the broker cannot be reached")

        # A good run of the flow clears it, whichever deployment that was of, and the late run by starting.
        await ended(client, "prewarm", 10, Completed())
        await ended(client, "snapshot", 10, Completed(name="Skipped"))
        await client.set_flow_run_state(waiting.id, Completed(), force=True)
        assert await troubles() == []


async def test_trouble_is_seen_after_more_runs_than_one_answer_of_the_server_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trouble, "PAGE", 5)
    async with get_client() as client:
        watchdog = await client.read_deployment_by_name("watchdog/watchdog")
        for _ in range(12):
            await client.create_flow_run_from_deployment(watchdog.id, state=Completed())
        await ended(client, "rollup", 0, Failed(message="no space left"))
        assert [(each.flow, each.kind) for each in await troubles()] == [("rollup", "failed")]
        await ended(client, "rollup", -0.01, Completed())


async def test_a_failure_makes_the_watchdog_look_at_once_but_not_its_own() -> None:
    async with get_client() as client:

        async def seen() -> Sequence[FlowRun]:
            return [run for run in await looks(client) if run.state_type != StateType.COMPLETED]

        for run in await seen():
            await client.delete_flow_run(run.id)
        await ended(client, "watchdog", 1, Failed(message="its own"))
        await ended(client, "repair", 1, Failed(message="another's"))
        about = await until(seen, lambda runs: any(run.state_name != "Failed" for run in runs))
        started = [run for run in about if run.state_name != "Failed"]
        assert len(started) == 1
        assert started[0].created_by is not None
        assert started[0].created_by.type == "AUTOMATION"
        kept = await client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[started[0].id])))
        assert len(kept) == 1
