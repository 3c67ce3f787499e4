"""What Prefect knows to be wrong: flows whose last run failed or crashed, and runs that nobody has started."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prefect import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from chainlake.ops.incidents.causes import FlowTrouble
from flows.prefect.reporting import BREACHED
from ingest.broker import BrokerSession
from ingest.broker.lookup import Lookup
from ingest.calendar.sessions import NEW_YORK
from ingest.errors import BrokerUnreachable
from ingest.settings import Settings

FAILED = (StateType.FAILED, StateType.CRASHED)
ENDED = (*FAILED, StateType.COMPLETED)
# Runs older than this are history, and their trade dates have been published or missed by other evidence.
REMEMBERED = timedelta(days=1)
# Prefect calls a run late after 15 s: a worker that is busy, or starting, is not yet a trouble.
LATE_AFTER = timedelta(minutes=5)
# The most that Prefect's server gives in one answer; a day has some 220 runs.
PAGE = 200


@dataclass(frozen=True, slots=True)
class GatewayState:
    """What the gateway said when it was asked: how far its clock is ahead, seconds; or why there was no answer.

    Neither when it was not asked.
    """

    skew_s: float | None = None
    error: str | None = None


async def gateway_state(settings: Settings) -> GatewayState:
    """Connect to the gateway as capture would, and compare its clock with the host's."""
    try:
        async with BrokerSession.connect(settings.ib) as session:
            server_time = await Lookup(session).server_time()
            # Told in whole seconds: half of one is what it is off by on average.
            skew = (server_time - session.clock.now()).total_seconds() + 0.5
    except BrokerUnreachable as reason:
        return GatewayState(error=str(reason))
    return GatewayState(skew_s=skew)


async def troubles(now: datetime | None = None) -> list[FlowTrouble]:
    """One a flow: its last run of the day ended badly, or runs of it are waiting for a worker (host's time)."""
    now = now or datetime.now(UTC)
    ended = await _runs(now, FlowRunFilterState(type=FlowRunFilterStateType(any_=list(ENDED))))
    late = await _runs(now, FlowRunFilterState(name=FlowRunFilterStateName(any_=["Late"])))
    names = await _flow_names([*ended, *late])
    last = {names[str(run.flow_id)]: run for run in ended}
    found = [
        _trouble(flow, run, "crashed" if run.state_type == StateType.CRASHED else "failed")
        for flow, run in last.items()
        if run.state_type in FAILED and run.state_name != BREACHED
    ]
    waiting = {
        names[str(run.flow_id)]: run for run in reversed(late) if now - (run.expected_start_time or now) > LATE_AFTER
    }
    return [*found, *(_trouble(flow, run, "late") for flow, run in waiting.items())]


def _trouble(flow: str, run: FlowRun, kind: str) -> FlowTrouble:
    at = (run.expected_start_time or datetime.now(UTC)).astimezone(NEW_YORK)
    words = {
        "late": f"due {at:%Y-%m-%d %H:%M} New York and not started: is a worker running?",
        "failed": (run.state.message if run.state else None) or "no message",
        "crashed": (run.state.message if run.state else None) or "its process ended without a word",
    }
    return FlowTrouble(flow, kind, f"run {run.name}: {' '.join(words[kind].split())}", at.date())  # type: ignore[arg-type]


async def _runs(now: datetime, state: FlowRunFilterState) -> Sequence[FlowRun]:
    """Runs of the last day in a state, in the order of their scheduled times."""
    within = FlowRunFilterExpectedStartTime(after_=now - REMEMBERED, before_=now)
    found: list[FlowRun] = []
    async with get_client() as client:
        while True:
            page = await client.read_flow_runs(
                flow_run_filter=FlowRunFilter(state=state, expected_start_time=within),
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                limit=PAGE,
                offset=len(found),
            )
            found += page
            if len(page) < PAGE:
                return found


async def _flow_names(runs: Sequence[FlowRun]) -> dict[str, str]:
    async with get_client() as client:
        return {str(each): (await client.read_flow(each)).name for each in {run.flow_id for run in runs}}
