"""What a flow run is due for: the instant it was scheduled for, its day, and whether that is too long ago.

The trade date and the slot come from the scheduled time, never from the time at which a run happens to start: a worker
starts runs a little early or late, and after downtime it starts every run it has missed, oldest first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect import runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from flows.logs import add_files
from flows.steps import PipelineContext
from ingest.calendar.clock import Clock, ControlPort, HostClock, shown_at
from ingest.calendar.sessions import NEW_YORK, Session, session_on
from ingest.errors import BrokerUnreachable
from ingest.runs import Trigger
from ingest.settings import Settings, load

NO_SESSION = "no session of XNYS"
# The end of a run that had nothing to do.
SKIPPED = "Skipped"
LONGEST_WAIT_S = 30


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """A flow run: where it works, the pipeline's clock, and the instant (UTC, pipeline time) it was scheduled for."""

    context: PipelineContext
    clock: Clock
    at: datetime

    @property
    def settings(self) -> Settings:
        """The settings of this run."""
        return self.context.settings

    @property
    def day(self) -> date:
        """The New York date for which the run was scheduled."""
        return self.at.astimezone(NEW_YORK).date()

    def session(self, trade_date: date | None = None) -> Session | None:
        """The session of `trade_date`, by default of the scheduled day; None when XNYS is closed."""
        return session_on(trade_date or self.day)


async def scheduled_run(
    config: Path | None, symbols: Sequence[str] | None = None, trigger: Trigger = "schedule"
) -> ScheduledRun:
    """What the flow run that is going on is due for. Raises UsageError for wrong settings."""
    settings = load(config)
    context = PipelineContext.prepare(settings, symbols or (), trigger)
    add_files(context.state)
    clock = await pipeline_clock(settings)
    now = datetime.now(UTC)
    scheduled = runtime.flow_run.scheduled_start_time
    at = datetime.fromtimestamp(scheduled.timestamp(), UTC) if scheduled else now
    shown = shown_at(clock, at, now)
    # A simulated clock was read some milliseconds after the host's, which at 60 times its speed are seconds.
    return ScheduledRun(context, clock, shown if isinstance(clock, HostClock) else _whole_minute(shown))


def _whole_minute(instant: datetime) -> datetime:
    return (instant + timedelta(seconds=30)).replace(second=0, microsecond=0)


async def pipeline_clock(settings: Settings) -> Clock:
    """The host's clock, or in a rehearsal that of the simulated gateway. Raises BrokerUnreachable."""
    host, _, port = settings.schedule.market_clock.rpartition(":")
    return await ControlPort(host, int(port)).read_clock() if host else HostClock()


def skipped(reason: str) -> State[Any]:
    """The end of a run that had nothing to do."""
    return Completed(name=SKIPPED, message=reason)


def seeking_broker(clock: Clock, until: datetime) -> AsyncRetrying:
    """Attempts at work that needs the broker, one after the other until `clock` shows `until`."""

    def over(_: RetryCallState) -> bool:
        return clock.now() >= until

    return AsyncRetrying(
        retry=retry_if_exception_type(BrokerUnreachable),
        wait=wait_exponential_jitter(initial=1, max=LONGEST_WAIT_S),
        stop=over,
        reraise=True,
    )
