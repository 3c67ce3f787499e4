"""Worker, server and flow runs are killed in the middle of a slot: nothing hangs, doubles, or is hidden.

One stage for all; each test takes a trade date of its own, with the gateway's clock standing in a slot.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Pending, Scheduled

from chainlake.ops.incidents.alerts import Channel
from chainlake.ops.incidents.incidents import open_incidents
from flows.prefect.bootstrap import BEGINS_WITHIN, bootstrap
from flows.prefect.deployments import at_instants, deploy, deployments
from flows.prefect.rehearsal import runs_between
from flows.steps import PipelineContext, rollup
from ingest.calendar.sessions import Session, Slot
from ingest.settings import load
from tests.flows.prefect.conftest import until
from tests.flows.prefect.stage import Stage, staged

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KILL, TERM = signal.SIGKILL, signal.SIGTERM
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Gateway, server and worker."""
    with staged(tmp_path_factory.mktemp("stage")) as made:
        asyncio.run(_raise(made))
        yield made


async def _raise(made: Stage) -> None:
    await made.start_gateway()
    await made.start_server()
    await bootstrap(load(), Channel())
    await deploy(deployments(load()), lambda each: [])
    made.start_worker()


@pytest.fixture(scope="module", autouse=True)
def never_begun(stage: Stage) -> FlowRun:
    """A run that a worker has claimed, which died before it could start the run's process."""

    async def claimed() -> FlowRun:
        run = await stage.run("daily-report/daily-report", Scheduled(scheduled_time=datetime.now(UTC) + HOUR))
        async with get_client() as client:
            assert (await client.set_flow_run_state(run.id, Pending())).state is not None
        return await stage.state(run)

    run = asyncio.run(claimed())
    assert run.state_name == "Pending"
    return run


@pytest.fixture(autouse=True)
async def whole_stage(stage: Stage, never_begun: FlowRun) -> AsyncIterator[None]:
    """Start again what the test before has killed; afterwards no run is left under way."""
    if not stage.runs("server"):
        await stage.start_server()
    if not stage.runs("worker"):
        stage.start_worker()
    yield
    if stage.runs("server"):
        left = await until(lambda: stage.under_way(never_begun), lambda runs: not runs, 240)
        assert left == []
    assert stage.doubled() == []


async def says_what_is_missing(stage: Stage, session: Session, slot: Slot) -> int:
    """Contracts that the slot lacks, which is what `missing_items` says and what the rows say."""
    missing = stage.frozen(session) - stage.captured(slot)
    said = [
        (each.label, each.missing) for each in await stage.missing_items(session) if each.label == f"slot {slot.label}"
    ]
    assert said == ([(f"slot {slot.label}", len(missing))] if missing else [])
    return len(missing)


async def goes_on(stage: Stage, session: Session, slot: Slot) -> None:
    """The next slot is captured whole."""
    await stage.control.step(slot.sample_time + timedelta(seconds=30))
    await stage.captures_whole(session, slot)


async def test_a_flow_that_is_killed_is_crashed_told_of_and_repaired(stage: Stage) -> None:
    session = await stage.day(date(2025, 11, 4))
    slot, then = session.slots[2:4]
    run = await stage.slot_half_captured(session, slot)
    os.kill(stage.processes_of(run)[-1], KILL)
    assert (await stage.ended(run)).state_name == "Crashed"
    assert await says_what_is_missing(stage, session, slot) > 0

    # An automation has the watchdog look at once.
    async def causes() -> list[str]:
        return [each.cause for each in await asyncio.to_thread(open_incidents, stage.lake)]

    assert "flow_failed:snapshot" in await until(causes, lambda found: "flow_failed:snapshot" in found, 240)

    # Repair gets the rest while the window is open.
    repaired = await stage.ended(await stage.run("repair/repair"))
    assert repaired.state_name == "Completed", (repaired.state, stage.words())
    assert await says_what_is_missing(stage, session, slot) == 0
    await goes_on(stage, session, then)

    # The flow has run well since: it is over.
    await stage.ended(await stage.run("watchdog/watchdog"))
    assert "flow_failed:snapshot" not in await causes()


async def test_a_flow_that_is_terminated_ends_and_says_what_is_missing(stage: Stage) -> None:
    session = await stage.day(date(2025, 11, 5))
    slot, then = session.slots[2:4]
    run = await stage.slot_half_captured(session, slot)
    os.kill(stage.processes_of(run)[-1], TERM)
    assert (await stage.ended(run)).state_name != "Completed"
    assert await says_what_is_missing(stage, session, slot) > 0
    await goes_on(stage, session, then)


async def test_a_worker_that_is_killed_holds_nobody_up(stage: Stage) -> None:
    session = await stage.day(date(2025, 11, 6))
    slot, then = session.slots[2:4]
    run = await stage.slot_half_captured(session, slot)
    stage.kill("worker", KILL)
    stage.start_worker()
    # Its run is ended too, or goes on to its end: what that left out is said.
    ended = await stage.ended(run)
    missing = await says_what_is_missing(stage, session, slot)
    assert ended.state_name == "Crashed" or not missing
    await goes_on(stage, session, then)


async def test_a_worker_that_is_terminated_holds_nobody_up(stage: Stage) -> None:
    session = await stage.day(date(2025, 11, 7))
    slot, then = session.slots[2:4]
    run = await stage.slot_half_captured(session, slot)
    stage.kill("worker", TERM)
    stage.start_worker()
    # The next slot's run waits for its place until the first one is freed.
    await stage.ended(run)
    missing = await says_what_is_missing(stage, session, slot)
    assert missing > 0 or stage.captured(slot) == stage.frozen(session)
    await goes_on(stage, session, then)


async def test_a_host_that_dies_with_worker_and_flow_holds_nobody_up(stage: Stage) -> None:
    session = await stage.day(date(2025, 11, 10))
    slot, then = session.slots[2:4]
    run = await stage.slot_half_captured(session, slot)
    for process in [stage.processes["worker"].pid, *stage.processes_of(run)]:
        os.kill(process, KILL)
    stage.processes.pop("worker").wait(60)
    stage.start_worker()
    ended = await stage.ended(run)
    assert ended.state_name == "Crashed"
    assert ended.state
    assert "heartbeat" in str(ended.state.message)
    assert await says_what_is_missing(stage, session, slot) > 0
    await goes_on(stage, session, then)


@pytest.mark.parametrize(("how", "day"), [(KILL, date(2025, 11, 11)), (TERM, date(2025, 11, 12))], ids=["kill", "term"])
async def test_a_slot_in_progress_outlives_the_server(stage: Stage, how: signal.Signals, day: date) -> None:
    session = await stage.day(day)
    slot, then = session.slots[2:4]
    run = await stage.slot_half_captured(session, slot)
    stage.kill("server", how)
    await stage.start_server()
    await stage.ended(run)
    assert await says_what_is_missing(stage, session, slot) == 0
    await goes_on(stage, session, then)


async def test_a_long_capture_keeps_its_place_over_a_restart_of_the_server(stage: Stage) -> None:
    """A run renews its hold on its place every 225 s, and is ended by Prefect when the server knows nothing of it."""
    session = await stage.day(date(2025, 11, 14))
    slot = session.slots[2]
    stage.kill("worker", TERM)
    stage.start_worker(CHAINLAKE_IB__MESSAGES_PER_SECOND="0.2", CHAINLAKE_ACQUISITION__CONTRACT_TIMEOUT_S="60")
    run = await stage.slot_half_captured(session, slot)
    began = (await stage.state(run)).start_time
    stage.kill("server", KILL)
    await stage.start_server()
    ended = await stage.ended(run, 600)
    assert ended.state_name == "Completed", (ended.state, stage.words())
    assert await says_what_is_missing(stage, session, slot) == 0
    assert began
    assert ended.end_time
    assert (ended.end_time - began).total_seconds() > 240
    stage.kill("worker", TERM)


async def test_after_two_slots_without_a_server_the_stale_ones_are_refused_and_the_current_one_is_captured(
    stage: Stage,
) -> None:
    session = await stage.day(date(2025, 11, 13))
    slots, speed = session.slots[1:6], 20
    zero = (datetime.now(UTC) + timedelta(seconds=25)).replace(microsecond=0)
    wall = [zero + (slot.sample_time - slots[0].sample_time) / speed for slot in slots]
    snapshot = [each for each in deployments(load()) if each.name == "snapshot"]
    await deploy(snapshot, lambda each: at_instants(wall))
    await stage.control.call({"op": "speed", "speed": speed})
    ahead = (zero - datetime.now(UTC)).total_seconds() * speed
    await stage.control.step(slots[0].sample_time - timedelta(seconds=ahead))

    async def runs() -> list[str]:
        return [
            f"{run.state_name}: {run.state.message if run.state else None}"
            for run in await runs_between(wall[0] - timedelta(seconds=1), wall[-1] + timedelta(seconds=1))
        ]

    # The first slot is captured; the server is away from then on until the fourth has begun.
    first = await until(runs, lambda found: found and found[0].startswith("Completed"), 85)
    assert first[0].startswith("Completed")
    stage.kill("server", KILL)
    await asyncio.sleep((wall[3] - datetime.now(UTC)).total_seconds() + 3)
    await stage.start_server()
    ended = await until(runs, lambda found: all(line.split(":")[0] in ("Completed", "Skipped") for line in found), 300)
    await stage.control.call({"op": "speed", "speed": 0})
    await deploy(snapshot, lambda each: [])
    states = [line.split(":")[0] for line in ended]
    assert ended[1:3] == [f"Skipped: stale: the window of slot {slot.label} is over" for slot in slots[1:3]], ended
    assert states[3:] == ["Completed", "Completed"] or states[4] == "Completed", ended
    for slot, state in zip(slots, states, strict=True):
        assert len(stage.captured(slot)) == (len(stage.frozen(session)) if state == "Completed" else 0), ended
    gone = [
        str(each)
        for each in await stage.missing_items(session)
        if each.label in {f"slot {slot.label}" for slot in slots}
    ]
    whole = len(stage.frozen(session))
    assert gone == [
        f"slot {slot.label}: {whole} contracts, gone for good"
        for slot, state in zip(slots, states, strict=True)
        if state == "Skipped"
    ]


async def test_a_run_that_was_claimed_and_never_began_frees_its_place(stage: Stage, never_begun: FlowRun) -> None:
    ended = await stage.ended(never_begun, BEGINS_WITHIN.total_seconds() + 120)
    assert ended.state_name == "Crashed"
    await stage.control.step(datetime(2025, 11, 27, 23, tzinfo=UTC))
    after = await stage.ended(await stage.run("daily-report/daily-report"))
    assert (after.state_name, after.state and after.state.message) == ("Skipped", "no session of XNYS")


async def test_what_was_captured_among_the_kills_rolls_up_and_nothing_is_doubled(stage: Stage) -> None:
    """The last of these tests: all of their dates at once."""
    days = [day for (day,) in stage.ask("select distinct trade_date from raw.option_quotes order by trade_date")]
    assert days
    result = await rollup(PipelineContext.prepare(load()), stage.lake, days, datetime(2025, 12, 1, tzinfo=UTC))
    # Most slots were never asked for, and no close view or open interest: that fails, and nothing else does.
    holes = {"slot_coverage_holds", "missing_slots_holds", "fallback_holds", "oi_filled_holds"}
    assert {failure.name for failure in result.build.failures} <= holes
    for table, key in (("intraday", "trade_date, sample_time, conid"), ("daily_clean", "trade_date, conid")):
        assert stage.ask(f"select 1 from clean.{table} group by {key} having count(*) > 1") == []
    (rows,) = stage.ask(
        "select (select count(*) from clean.intraday),"
        " (select count(distinct (trade_date, slot_30m, conid)) from raw.option_quotes where view = 'intraday')"
    )
    assert rows[0] == rows[1] > 0
