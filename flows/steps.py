"""The steps of a day as plain functions: what the command line calls and the Prefect flows wrap.

A step that needs the broker takes an open session, so that a day can use one connection for all of them.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import structlog

from flows.active_steps import active_step
from flows.clock_evidence import require_publishable
from flows.models import BuildPaths, BuildResult, DbtProject, clock_variables
from flows.publication import BuildOutcome, Publication, dates_to_judge_again, publish
from flows.seeds import symbols_of_no_use
from ingest.broker import BrokerPool, BrokerSession
from ingest.broker.pacing import ASSUMED_LINE_SECONDS
from ingest.calendar.clock import Clock, MarketClock
from ingest.calendar.sessions import NEW_YORK, Session, Slot, next_session, previous_session, session_on
from ingest.capacity.probe_result import connections_for, stored
from ingest.capture import Outcome
from ingest.capture.fleet import BatchConnection, SlotObserver
from ingest.capture.modes import UNMEASURED
from ingest.capture.rows import View
from ingest.capture.slot import STEPS as CAPTURE_STEPS
from ingest.capture.snapshot import capture_slot_on
from ingest.context import StepContext
from ingest.contracts import Underlying
from ingest.discovery.discover import STEPS, Discovered, Mode, discover, reuse_last_frozen
from ingest.errors import BrokerUnreachable, UsageError
from ingest.open_interest.enrichment import enrich, last_resort
from ingest.recovery import recover_answers
from ingest.runs import Run, Trigger
from ingest.settings import IbSettings, Settings
from ingest.universe import choose, read_universe, write_universe
from lake.maintenance.evolution import upgrade
from lake.reads import reader
from lake.store import Lake

log = structlog.get_logger(__name__)

WHOLE_UNIVERSE = "all"


@dataclass(frozen=True, slots=True)
class PipelineContext:
    """What every step of a command or a flow shares: settings, the underlyings, who started it, and the dbt project.

    `chosen` says that the underlyings are a choice (``--symbols``), and not the universe of the settings.
    """

    settings: Settings
    universe: tuple[Underlying, ...]
    trigger: Trigger
    chosen: bool = False
    project: DbtProject = field(default_factory=DbtProject, repr=False, compare=False)

    @classmethod
    def prepare(cls, settings: Settings, symbols: Sequence[str] = (), trigger: Trigger = "manual") -> "PipelineContext":
        """Read the universe file and choose `symbols` of it, all when there are none."""
        universe = choose(read_universe(settings.universe.file), symbols)
        return cls(settings, tuple(universe), trigger, chosen=bool(symbols))

    @property
    def part(self) -> str:
        """The part of the universe that this is: its symbols when they were chosen, else ``all``."""
        return ",".join(underlying.symbol for underlying in self.universe) if self.chosen else WHOLE_UNIVERSE

    @property
    def state(self) -> Path:
        """The folder of logs and working files."""
        return Path(self.settings.state.dir)

    @property
    def build_paths(self) -> BuildPaths:
        """Where a rollup reads and writes."""
        return BuildPaths(self.settings.lake.root, self.state / "seeds", self.state)

    def step(self, lake: Lake, trading_session: Session, settings: Settings | None = None) -> StepContext:
        """What a step of `ingest` takes for a session; `settings` in place of the command's."""
        return StepContext(lake, trading_session, self.universe, settings or self.settings, self.trigger, self.part)


@dataclass(frozen=True, slots=True)
class BrokerContext:
    """What the steps share that need the broker: it is connected, and the lake of its origin is open.

    `pools` are the connections to each gateway that answered, which share the batches of slots; discovery and open
    interest use the first.
    """

    context: PipelineContext
    lake: Lake
    pools: tuple[BrokerPool, ...]

    @property
    def session(self) -> BrokerSession:
        """The first connection to the first gateway."""
        return self.pools[0].first

    @property
    def others(self) -> tuple[BrokerSession, ...]:
        """The first connection to each other gateway."""
        return tuple(pool.first for pool in self.pools[1:])

    async def discover(
        self,
        trading_session: Session,
        on_underlying: Callable[[Discovered], None] = lambda discovered: None,
        mode: Mode = "freeze",
    ) -> Run:
        """Freeze the contract set of a session, prepare that (prewarm), or add to it (refresh).

        Raises UsageError when the session is over.
        """
        _check_discovery(trading_session, self.session.clock.now())
        context = self.context
        with active_step(context.state, STEPS[mode], trading_session.trade_date):
            return await discover(self._context(trading_session, self._alone), self.pools[0], on_underlying, mode)

    def reuse_frozen(self, trading_session: Session, reason: str) -> Run:
        """Freeze the last set for a session whose discovery has lost the broker."""
        return reuse_last_frozen(self._context(trading_session), self.session.clock, reason)

    def is_frozen(self, trading_session: Session) -> bool:
        """Whether a session has any contracts to capture."""
        with reader(self.lake) as reads:
            return bool(reads.frozen_conids(trading_session.trade_date))

    async def snapshot(
        self,
        trading_session: Session,
        slot: Slot,
        view: View = "intraday",
        observer: SlotObserver | None = None,
    ) -> list[Run]:
        """Capture what a slot of a view still lacks, on all gateways."""
        context = self.context
        await self._align_clocks()
        with active_step(context.state, CAPTURE_STEPS[view], slot.trade_date, slot.slot_30m):
            connections = [self._connection(pool) for pool in self.pools]
            return await capture_slot_on(self._context(trading_session), connections, slot, view, observer)

    async def enrich(
        self, trading_session: Session, on_outcome: Callable[[Outcome], None] = lambda outcome: None
    ) -> Run:
        """Observe the open interest of a session that has closed."""
        context = self.context
        with active_step(context.state, "enrichment", trading_session.trade_date):
            return await enrich(self._context(trading_session, self._alone), self.pools[0], on_outcome)

    def _context(self, trading_session: Session, settings: Settings | None = None) -> StepContext:
        return self.context.step(self.lake, trading_session, settings)

    def _connection(self, broker: BrokerSession | BrokerPool) -> BatchConnection:
        probed = stored(self.context.state, broker.address, broker.origin)
        return BatchConnection(broker, probed.occupancy if probed else UNMEASURED)

    @property
    def _alone(self) -> Settings:
        """Settings of a step that asks the first gateway only: its limits, and the full time to find it again."""
        settings = self.context.settings
        ib = self.session.settings.model_copy(update={"reconnect_s": settings.ib.reconnect_s})
        return settings.model_copy(update={"ib": ib})

    async def _align_clocks(self) -> None:
        """Step the clocks of simulated gateways that stand still to that of the first."""
        clock = self.session.clock
        for session in self.others:
            if isinstance(clock, MarketClock) and not clock.speed and session.control and session.connected:
                await session.step_clock(clock.now())

    def close_open_interest(self, trading_session: Session) -> Run | None:
        """Fill what a session still lacks from the next session's snapshots, and give up the rest.

        None when nothing is missing, or IB may still show it. A run that filled or gave up anything calls for a rollup.
        """
        return last_resort(self._context(trading_session), self.session.clock)


def reuse_frozen(context: PipelineContext, trading_session: Session, clock: Clock, reason: str) -> Run:
    """Freeze the last set for a session that no broker can be asked about, once it has to be frozen.

    Raises LakeMissing without a lake, UsageError when the session is over or not due yet.
    """
    settings = context.settings
    _check_discovery(trading_session, clock.now())
    if clock.now() < trading_session.at(settings.schedule.freeze_at):
        raise UsageError(
            f"{trading_session.trade_date} is frozen at {settings.schedule.freeze_at:%H:%M}: there is time"
        )
    lake = Lake.open(settings.lake.root)
    return reuse_last_frozen(context.step(lake, trading_session), clock, reason)


def _check_discovery(trading_session: Session, now: datetime) -> None:
    today = now.astimezone(NEW_YORK).date()
    if now >= trading_session.close:
        raise UsageError(
            f"the session of {trading_session.trade_date} is over: there is no historical backfill; "
            f"the next one is {next_session(today).trade_date}"
        )
    if trading_session.trade_date > today:
        raise UsageError(
            f"{trading_session.trade_date} lies in the future (it is {today} in New York): "
            "contracts are frozen on the day itself"
        )


@asynccontextmanager
async def connect_broker(context: PipelineContext) -> AsyncIterator[BrokerContext]:
    """Connect to the broker's gateways and open, or create, the lake of their origin.

    Each has as many connections as ``ib.connections`` and its probe say. A gateway that cannot be reached is recorded,
    and the others do its work. Raises BrokerUnreachable when none can, UsageError when they are not of one origin.
    """
    async with AsyncExitStack() as stack:

        async def reach(ib: IbSettings) -> BrokerPool | BrokerUnreachable:
            try:
                return await stack.enter_async_context(_pool_of(context, ib))
            except BrokerUnreachable as reason:
                return reason

        answers = await asyncio.gather(*(reach(ib) for ib in context.settings.ib.each_gateway))
        pools = [answer for answer in answers if isinstance(answer, BrokerPool)]
        reasons = [answer for answer in answers if isinstance(answer, BrokerUnreachable)]
        if not pools:
            raise BrokerUnreachable("; ".join(map(str, reasons))) from reasons[0]
        first = pools[0]
        for other in pools[1:]:
            if other.origin != first.origin:
                raise UsageError(
                    f"{first.address} is {first.origin} and {other.address} is {other.origin}: "
                    "ib.gateways must be of one kind, as a lake holds one"
                )
        lake = Lake.create(context.settings.lake.root, first.origin, first.clock.now())
        upgrade(lake)
        await recover_answers(context.state, lake, first.clock)
        if reasons:
            _record_unreachable(context, lake, first.clock.now(), reasons)
        yield BrokerContext(context, lake, tuple(pools))


@asynccontextmanager
async def _pool_of(context: PipelineContext, ib: IbSettings) -> AsyncIterator[BrokerPool]:
    """The connections to one gateway: as many as its lines can use, as far as its probe has shown."""
    async with BrokerPool.connect(ib) as pool:
        # Only who is connected knows whether this is the gateway that was probed.
        probed = stored(context.state, pool.address, pool.origin)
        holds_s = (probed.occupancy.streaming_s if probed else None) or ASSUMED_LINE_SECONDS
        wanted = connections_for(ib.connections, probed, ib.lines, ib.message_limit, holds_s)
        await pool.grow(wanted, cancels_free=probed is not None and probed.cancels_free is True)
        yield pool


def _record_unreachable(
    context: PipelineContext, lake: Lake, now: datetime, reasons: Sequence[BrokerUnreachable]
) -> None:
    run = Run("connect", now.astimezone(NEW_YORK).date(), context.trigger, now)
    for reason in reasons:
        log.warning("gateway_unreachable", reason=str(reason))
        run.error("gateway_unreachable", str(reason), now)
    lake.append("ops/errors", run.errors, run.ingest_id, 1)


class RawRetired(UsageError):
    """The dates cannot be built again: what they were made of has left the lake."""


@dataclass(frozen=True, slots=True)
class Rollup:
    """What a rollup did: the dbt build, and its publication. `of_no_use`: symbols of actions that reach no row."""

    build: BuildResult
    publication: Publication
    of_no_use: tuple[str, ...] = ()


async def rollup(
    context: PipelineContext, lake: Lake, dates: Sequence[date], as_of: datetime, target: str | None = None
) -> Rollup:
    """Build and test the models of `dates`, then publish these dates and those that were restated.

    A published session after one of them whose open interest has come since is built as well: its plausibility is
    judged again.
    A date whose quotes are gone is left as it is, with the verdict that it has. Raises RawRetired when that is so of
    each of `dates`, ClockRefused when `as_of` cannot be right; nothing is written then.
    """
    require_publishable(lake, dates, as_of)
    require_raw(lake, dates)
    if again := dates_to_judge_again(lake, dates):
        log.info("judged_again", dates=[str(day) for day in again], reason="open interest of the session before came")
        dates = [*dates, *again]
    stage_seeds(context, lake, dates)
    build = await asyncio.to_thread(
        context.project.build,
        context.build_paths,
        dates,
        as_of=as_of,
        target=target,
        variables=clock_variables(context.settings),
    )
    outcome = BuildOutcome(
        build.versions,
        tuple(failure.name for failure in build.failures),
        tuple(warning.name for warning in build.warnings),
        build.restated,
    )
    publication = publish(lake, build.dates, outcome, context.settings.reference.corporate_actions, as_of)
    log.info(
        "published",
        dates=[str(day) for day in publication.dates],
        status=publication.status,
        left_alone=[str(day) for day in build.left_alone],
        restated=[str(day) for day in build.restated],
        detail=publication.detail,
        elapsed_s=round(build.elapsed_s, 1),
    )
    if of_no_use := symbols_of_no_use(context.settings, lake):
        log.warning("corporate actions of symbols that neither the universe nor the lake has", symbols=of_no_use)
    return Rollup(build, publication, tuple(of_no_use))


def require_raw(lake: Lake, dates: Sequence[date]) -> None:
    """Raise RawRetired when there are `dates`, and the quotes of all of them are gone."""
    with reader(lake) as reads:
        gone = reads.retired(dates)
        kept = "; ".join(f"{day} stays {reads.verdict(day) or 'unpublished'}" for day in gone)
    if gone and set(gone) == set(dates):
        raise RawRetired(
            f"the quotes of {', '.join(map(str, gone))} are no longer in raw/option_quotes of {lake.root}, so there is "
            f"nothing to build: {kept}, as do its daily tables; `chainlake rollup --restate` applies corporate actions"
        )


def stage_seeds(context: PipelineContext, lake: Lake, dates: Sequence[date]) -> None:
    """Write the two files that dbt seeds: corporate actions, and the universe that `dates` are held to.

    That is the universe of the settings, unless every discovery of the dates was for chosen symbols only.
    """
    folder = context.build_paths.seeds
    folder.mkdir(parents=True, exist_ok=True)
    actions = context.settings.reference.corporate_actions
    if not actions.is_file():
        raise UsageError(f"no corporate actions at {actions}: set reference.corporate_actions, or run `chainlake init`")
    shutil.copyfile(actions, folder / "corporate_actions.csv")
    with reader(lake) as reads:
        parts = set().union(*(reads.discovered_parts(day) for day in dates))
    chosen = sorted({symbol for part in parts for symbol in part.split(",")})
    universe = read_universe(context.settings.universe.file)
    if parts and WHOLE_UNIVERSE not in parts:
        universe = choose(universe, chosen)
    write_universe(universe, folder / "universe.csv")


def trading_session(day: date) -> Session:
    """The session of `day`. Raises UsageError, naming the nearest sessions, when XNYS is closed."""
    session = session_on(day)
    if session is None:
        raise UsageError(
            f"{day} is not a session of XNYS: the one before is {previous_session(day).trade_date}, "
            f"the next {next_session(day).trade_date}"
        )
    return session


def choose_slot(session: Session, choice: str, now: datetime) -> Slot:
    """The slot that `choice` names: ``HH:MM`` New York, a number, or ``now``. Raises UsageError."""
    if choice == "now":
        slot = session.slot_at(now)
        if slot is None:
            raise UsageError(
                f"no slot of {session.trade_date} is open at {now.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York"
            )
        return slot
    for slot in session.slots:
        if choice in (slot.label, str(slot.slot_30m)):
            return slot
    labels = ", ".join(slot.label for slot in session.slots)
    raise UsageError(
        f"{choice!r} is no slot of {session.trade_date}: use now, 0-{session.close_slot.slot_30m}, or {labels}"
    )
