"""Flows that keep the lake and the pipeline well: maintain, watchdog, and repair."""

import asyncio
from datetime import date
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Failed

from chainlake.ops.incidents.incidents import open_incidents, settle
from chainlake.ops.monitoring.watchdog import look
from flows import repair
from flows.maintenance import WEEKLY, Site
from flows.prefect.daily import roll_up
from flows.prefect.reporting import BREACHED, alert_channel, run_name, said, show_table, tell_failure
from flows.prefect.scheduled_run import NO_SESSION, Due, due, seeking_broker, skipped
from flows.prefect.session import capture
from flows.prefect.trouble import GatewayState, gateway_state, troubles
from flows.steps import desk
from ingest.calendar.sessions import Session
from ingest.runs import Run
from lake.errors import LakeMissing
from lake.store import Lake


@flow(name="maintain", flow_run_name=run_name, on_failure=[tell_failure], on_crashed=[tell_failure])
async def maintain_flow(config: Path | None = None) -> State[Any] | list[str]:
    """Compact, retire, sweep, and look at the disk; the first step that fails ends it."""
    run = await due(config)
    site = Site(Lake.open(run.settings.lake.root), run.settings, run.clock.now(), "schedule")
    reports = []
    for step in WEEKLY:
        reports.append(await asyncio.to_thread(step, site))
        get_run_logger().info(f"{reports[-1].step}: {reports[-1].sentence}")
    await show_table(
        "maintenance", [{"step": each.step, "result": each.sentence} for each in reports], f"maintenance of {run.day}"
    )
    if full := [each.sentence for each in reports if not each.passed]:
        return Failed(name=BREACHED, message="; ".join(full))
    return [each.sentence for each in reports]


@flow(name="watchdog", flow_run_name=run_name, on_failure=[tell_failure], on_crashed=[tell_failure])
async def watchdog_flow(config: Path | None = None) -> State[Any] | list[str]:
    """Look for what is missing or wrong, open and close incidents, and alert of each once a day."""
    run = await due(config)
    try:
        lake = Lake.open(run.settings.lake.root)
    except LakeMissing:
        return skipped("nothing has been recorded yet")
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
        settle, lake, run.work.state, found.breaches, found.examined, now, await alert_channel()
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


def _asks_gateway(run: Due, lake: Lake) -> bool:
    """Once an hour while it matters, and each time while something is wrong with it: a connection costs IB a login."""
    session = run.session()
    if session is None or run.clock.now() >= session.at(run.settings.close.deadline):
        return False
    troubled = any(each.cause in ("gateway_unreachable", "clock_skew") for each in open_incidents(lake))
    return troubled or run.at.minute < run.settings.schedule.watchdog_minutes


@flow(name="repair", flow_run_name=run_name, on_failure=[tell_failure], on_crashed=[tell_failure])
async def repair_flow(
    trade_date: date | None = None, symbols: list[str] | None = None, config: Path | None = None
) -> State[Any] | list[str]:
    """Say what a day lacks, get what can still be had of it, and say what is gone for good."""
    run = await due(config, symbols, trigger="repair")
    session = run.session(trade_date)
    if session is None:
        return skipped(NO_SESSION)
    try:
        lake = Lake.open(run.settings.lake.root)
    except LakeMissing:
        return skipped("nothing has been recorded yet: run `discover` first")
    before = repair.lacks(run.work, lake, session, run.clock.now())
    for lack in before:
        if not lack.gone:
            await _get(run, session, lack)
    after = repair.lacks(run.work, lake, session, run.clock.now())
    rows = [{"what": each.label, "contracts": each.missing, "gone for good": each.gone} for each in after]
    await show_table("repair", rows or [{"what": "nothing is missing"}], f"what {session.trade_date} lacks")
    lines = [str(each) for each in after] or [f"nothing of {session.trade_date} is missing"]
    for line in lines:
        get_run_logger().info(line)
    return lines


async def _get(run: Due, session: Session, lack: repair.Lack) -> None:
    get_run_logger().info(f"getting {lack.label}")
    if lack.what == "contracts":
        await _at_desk(run, session, lack)
    elif lack.what == "slot":
        slot = next(slot for slot in session.slots if f"slot {slot.label}" == lack.label)
        await capture(run, session, slot)
    elif lack.what == "close snapshot":
        await capture(run, session, session.close_slot, "close")
        await roll_up(run, [session.trade_date], [])
    elif lack.what == "daily views":
        await roll_up(run, [session.trade_date], [])
    else:
        runs = await _at_desk(run, session, lack)
        await roll_up(run, [session.trade_date], runs)


async def _at_desk(run: Due, session: Session, lack: repair.Lack) -> list[Run]:
    assert lack.until is not None
    runs: list[Run] = []
    async for attempt in seeking_broker(run.clock, lack.until):
        with attempt:
            async with desk(run.work) as place:
                runs = [await (place.discover(session) if lack.what == "contracts" else place.enrich(session))]
    said(runs)
    return runs
