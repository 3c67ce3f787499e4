"""What a flow run leaves for people: log lines, artifacts, and an incident when it failed."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from prefect import get_run_logger, runtime
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.blocks.system import Secret
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow

from chainlake.ops.incidents.alerts import Channel
from chainlake.ops.incidents.causes import Breach
from chainlake.ops.incidents.incidents import report
from ingest.calendar.sessions import NEW_YORK
from ingest.errors import UsageError
from ingest.runs import Run
from ingest.settings import StateSettings, load
from lake.location import DEFAULT_ROOT, ROOT_VARIABLE

log = structlog.get_logger(__name__)

ALERT_URLS_BLOCK = "chainlake-alert-urls"
# The end of a run whose work is done and whose numbers are not good: the watchdog tells of those one by one.
BREACHED = "Breached"


def run_name() -> str:
    """A flow run's name: its deployment (or flow), and the New York time that it was scheduled for."""
    name = runtime.deployment.name or runtime.flow_run.flow_name
    scheduled = runtime.flow_run.scheduled_start_time
    at = datetime.fromtimestamp(scheduled.timestamp(), UTC) if scheduled else datetime.now(UTC)
    return f"{name} {at.astimezone(NEW_YORK):%Y-%m-%d %H:%M}"


def log_runs(runs: Sequence[Run]) -> list[str]:
    """One line a run of a step, which also goes to the flow run's log."""
    lines = [f"{run.app_id}: {run.status}, {run.captured} of {run.asked} captured, {run.failed} failed" for run in runs]
    for line in lines:
        get_run_logger().info(line)
    return lines


async def show_markdown(key: str, markdown: str, description: str) -> None:
    """Keep `markdown` as the artifact `key` (lower-case letters, digits, dashes); it has a history of its own."""
    await acreate_markdown_artifact(markdown, key=key, description=description)


async def show_table(key: str, rows: Sequence[dict[str, Any]], description: str) -> None:
    """Keep `rows` as the artifact `key`."""
    table = [{name: str(value) for name, value in row.items()} for row in rows]
    await acreate_table_artifact(table, key=key, description=description)


async def alert_channel() -> Channel:
    """Where alerts go: the URLs of the environment, and those of a Prefect secret block."""
    try:
        block: Secret[str] = await Secret.aload(ALERT_URLS_BLOCK)
    except (ObjectNotFound, ValueError):
        return Channel.from_environment()
    return Channel.from_environment([block.get()])


async def report_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of every flow: a run that failed or crashed opens an incident, which is alerted once a day."""
    if state.name == BREACHED:
        return
    now = datetime.now(UTC)
    scheduled = flow_run.expected_start_time or now
    breach = Breach(
        cause=f"flow_failed:{flow.name}",
        trade_date=scheduled.astimezone(NEW_YORK).date(),
        severity="severe",
        detail=f"run {flow_run.name}: {' '.join((state.message or 'no message').split())}",
    )
    log.error("flow_failed", flow=flow.name, run=flow_run.name, message=state.message)
    report(*_lake_and_state(flow_run.parameters.get("config")), breach, now, await alert_channel())


def _lake_and_state(config: Path | None) -> tuple[str, Path]:
    """Where the lake and the state folder are; wrong settings may be why the run has failed, and are no reason."""
    try:
        settings = load(config)
    except UsageError:
        root = os.environ.get(ROOT_VARIABLE, DEFAULT_ROOT)
        return root, Path(os.environ.get("CHAINLAKE_STATE__DIR", StateSettings().dir))
    return settings.lake.root, settings.state.dir
