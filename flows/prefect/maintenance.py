"""Flows that keep the lake and the pipeline well: maintain, watchdog, and repair."""

import asyncio
from datetime import date
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Failed

from chainlake.ops.incidents.incidents import IncidentContext, open_incidents, settle
from chainlake.ops.monitoring.watchdog import look
from flows import repair
from flows.maintenance import WEEKLY, MaintenanceContext
from flows.prefect.daily import roll_up
from flows.prefect.reporting import BREACHED, alert_channel, log_runs, report_failure, run_name, show_table
from flows.prefect.scheduled_run import NO_SESSION, ScheduledRun, scheduled_run, seeking_broker, skipped
from flows.prefect.session import capture
from flows.prefect.trouble import GatewayState, gateway_state, troubles
from flows.steps import connect_broker
from ingest.calendar.sessions import Session
from ingest.recovery import recover_answers
from ingest.runs import Run
from lake.errors import LakeMissing
from lake.store import Lake


@flow(name="maintain", flow_run_name=run_name, on_failure=[report_failure], on_crashed=[report_failure])
async def maintain_flow(config: Path | None = None) -> State[Any] | list[str]:
    """Compact, retention, vacuum and disk; the first step that fails ends it."""
    run = await scheduled_run(config)
    context = MaintenanceContext(Lake.open(run.settings.lake.root), run.settings, run.clock.now(), "schedule")
    reports = []
    for step in WEEKLY:
        reports.append(await asyncio.to_thread(step, context))
        get_run_logger().info(f"{reports[-1].step}: {reports[-1].sentence}")
    await show_table(
        "maintenance", [{"step": each.step, "result": each.sentence} for each in reports], f"maintenance of {run.day}"
    )
    if full := [each.sentence for each in reports if not each.passed]:
        return Failed(name=BREACHED, message="; ".join(full))
    return [each.sentence for each in reports]


@flow(name="watchdog", flow_run_name=run_name, on_failure=[report_failure], on_crashed=[report_failure])
async def watchdog_flow(config: Path | None = None) -> State[Any] | list[str]:
    """Look for what is missing or wrong, open and close incidents, and alert of each once a day."""
    run = await scheduled_run(config)
    try:
        lake = Lake.open(run.settings.lake.root)
    except LakeMissing:
        return skipped("nothing has been recorded yet")
    await recover_answers(run.context.state, lake, run.clock)
    now = run.clock.now()
    gateway = await gateway_state(run.settings) if _asks_gateway(run, lake) else GatewayState()
    found = await asyncio.to_thread(
        look,
        run.settings,
        lake,
        now,
        clock_skew_s=gateway.skew_s,
        gateway_error=gateway.error,
        flows=await troubles(),
    )
    settled = await asyncio.to_thread(
        settle, IncidentContext(lake, run.context.state, await alert_channel(), now), found.breaches, found.examined
    )
    rows = [
        {
            "since": f"{each.opened_at:%Y-%m-%d %H:%M} UTC",
            "cause": each.cause,
            "date": each.trade_date,
            "severity": each.severity,
            "what": each.detail,
        }
        for each in settled.still_open
    ]
    await show_table("incidents", rows or [{"cause": "nothing to do"}], "open incidents")
    return [f"{len(settled.opened)} opened, {len(settled.closed)} closed, {len(rows)} open"]


def _asks_gateway(run: ScheduledRun, lake: Lake) -> bool:
    """Once an hour while it matters, and each time while something is wrong with it: a connection costs IB a login."""
    session = run.session()
    if session is None or run.clock.now() >= session.at(run.settings.close.deadline):
        return False
    troubled = any(each.cause in ("gateway_unreachable", "clock_skew") for each in open_incidents(lake))
    return troubled or run.at.minute < run.settings.schedule.watchdog_minutes


@flow(name="repair", flow_run_name=run_name, on_failure=[report_failure], on_crashed=[report_failure])
async def repair_flow(
    trade_date: date | None = None, symbols: list[str] | None = None, config: Path | None = None
) -> State[Any] | list[str]:
    """Capture what is missing of a day as far as it can still be had, and say what is gone for good."""
    run = await scheduled_run(config, symbols, trigger="repair")
    session = run.session(trade_date)
    if session is None:
        return skipped(NO_SESSION)
    try:
        lake = Lake.open(run.settings.lake.root)
    except LakeMissing:
        return skipped("nothing has been recorded yet: run `discover` first")
    recovered = await recover_answers(run.context.state, lake, run.clock)
    for day in sorted({each.trade_date for each in recovered if each.rebuild}):
        await roll_up(run, [day], [])
    before = repair.missing_items(run.context, lake, session, run.clock.now())
    for item in before:
        if not item.gone:
            await _get(run, session, item)
    after = repair.missing_items(run.context, lake, session, run.clock.now())
    rows = [{"what": each.label, "contracts": each.missing, "gone for good": each.gone} for each in after]
    await show_table("repair", rows or [{"what": "nothing is missing"}], f"missing of {session.trade_date}")
    lines = [str(each) for each in after] or [f"nothing of {session.trade_date} is missing"]
    for line in lines:
        get_run_logger().info(line)
    return lines


async def _get(run: ScheduledRun, session: Session, item: repair.MissingItem) -> None:
    get_run_logger().info(f"getting {item.label}")
    if item.what == "contracts":
        await _with_broker(run, session, item)
    elif item.slot is not None:
        await capture(run, session, item.slot)
    elif item.what == "close snapshot":
        await capture(run, session, session.close_slot, "close")
        await roll_up(run, [session.trade_date], [])
    elif item.what == "daily views":
        await roll_up(run, [session.trade_date], [])
    else:
        runs = await _with_broker(run, session, item)
        await roll_up(run, [session.trade_date], runs)


async def _with_broker(run: ScheduledRun, session: Session, item: repair.MissingItem) -> list[Run]:
    assert item.until is not None
    runs: list[Run] = []
    async for attempt in seeking_broker(run.clock, item.until):
        with attempt:
            async with connect_broker(run.context) as broker:
                runs = [await (broker.discover(session) if item.what == "contracts" else broker.enrich(session))]
    log_runs(runs)
    return runs
