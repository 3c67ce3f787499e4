"""The steps of a day as plain functions: what the command line calls and the Prefect flows wrap.

A step that needs the broker takes an open session, so that a day can use one connection for all of them.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import structlog

from flows import models
from flows.publication import Publication, publish
from ingest.broker import BrokerSession
from ingest.capture import Outcome
from ingest.capture.rows import View
from ingest.capture.snapshot import capture_slot
from ingest.contracts import Underlying
from ingest.discovery import discover
from ingest.errors import UsageError
from ingest.open_interest import enrich
from ingest.runs import Run, Trigger
from ingest.sessions import NEW_YORK, Session, Slot, next_session, previous_session, session_on
from ingest.settings import Settings
from ingest.universe import choose, read_universe, write_universe
from lake.reads import reader
from lake.store import Lake

log = structlog.get_logger(__name__)

WHOLE_UNIVERSE = "all"


@dataclass(frozen=True, slots=True)
class Workplace:
    """What every step of a command shares: settings, the underlyings, and who started it.

    `chosen` says that the underlyings are a choice (``--symbols``), and not the universe of the settings.
    """

    settings: Settings
    universe: tuple[Underlying, ...]
    trigger: Trigger
    chosen: bool = False

    @classmethod
    def prepare(cls, settings: Settings, symbols: Sequence[str] = (), trigger: Trigger = "manual") -> "Workplace":
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


@dataclass(frozen=True, slots=True)
class Desk:
    """A workplace with the broker connected and the lake of that broker's origin open."""

    work: Workplace
    session: BrokerSession
    lake: Lake

    async def discover(
        self, trading_session: Session, on_underlying: Callable[[str, int], None] = lambda symbol, contracts: None
    ) -> Run:
        """Freeze the contract set of a session. Raises UsageError when the session is over."""
        now = self.session.clock.now()
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
        work = self.work
        return await discover(
            self.lake,
            self.session,
            trading_session,
            work.universe,
            work.part,
            work.settings,
            work.trigger,
            on_underlying,
        )

    async def snapshot(
        self,
        trading_session: Session,
        slot: Slot,
        view: View = "intraday",
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
        on_batch: Callable[[str, int], None] = lambda batch, contracts: None,
    ) -> list[Run]:
        """Capture what a slot of a view still lacks."""
        work = self.work
        return await capture_slot(
            self.lake,
            self.session,
            trading_session,
            slot,
            view,
            work.universe,
            work.settings,
            work.trigger,
            on_outcome,
            on_batch,
        )

    async def enrich(
        self, trading_session: Session, on_outcome: Callable[[Outcome], None] = lambda outcome: None
    ) -> Run:
        """Observe the open interest of a session that has closed."""
        work = self.work
        return await enrich(
            self.lake, self.session, trading_session, work.universe, work.settings, work.trigger, on_outcome
        )


@asynccontextmanager
async def desk(work: Workplace) -> AsyncIterator[Desk]:
    """Connect to the broker and open, or create, the lake of its origin."""
    async with BrokerSession.connect(work.settings.ib) as session:
        lake = Lake.create(work.settings.lake.root, session.origin, session.clock.now())
        yield Desk(work, session, lake)


@dataclass(frozen=True, slots=True)
class Rollup:
    """What a rollup did: the dbt build, and its publication."""

    build: models.BuildResult
    publication: Publication


async def rollup(
    work: Workplace, lake: Lake, dates: Sequence[date], as_of: datetime, target: str | None = None
) -> Rollup:
    """Build and test the models of `dates`, then publish these dates and those that were restated."""
    settings = work.settings
    build = await asyncio.to_thread(
        models.build,
        settings.lake.root,
        dates,
        seeds=stage_seeds(work, lake, dates),
        state=work.state,
        as_of=as_of,
        target=target,
    )
    publication = publish(
        lake,
        [*dates, *build.restated],
        build.versions,
        [failure.name for failure in build.failures],
        [warning.name for warning in build.warnings],
        settings.reference.corporate_actions,
        as_of,
    )
    log.info(
        "published",
        dates=[str(day) for day in publication.dates],
        status=publication.status,
        restated=[str(day) for day in build.restated],
        detail=publication.detail,
        elapsed_s=round(build.elapsed_s, 1),
    )
    return Rollup(build, publication)


def stage_seeds(work: Workplace, lake: Lake, dates: Sequence[date]) -> Path:
    """Write the two files that dbt seeds: corporate actions, and the universe that `dates` are held to.

    That is the universe of the settings, unless every discovery of the dates was for chosen symbols only.
    """
    folder = work.state / "seeds"
    folder.mkdir(parents=True, exist_ok=True)
    actions = work.settings.reference.corporate_actions
    if not actions.is_file():
        raise UsageError(f"no corporate actions at {actions}: set reference.corporate_actions, or run `chainlake init`")
    shutil.copyfile(actions, folder / "corporate_actions.csv")
    with reader(lake) as reads:
        parts = set().union(*(reads.discovered_parts(day) for day in dates))
    chosen = sorted({symbol for part in parts for symbol in part.split(",")})
    universe = read_universe(work.settings.universe.file)
    if parts and WHOLE_UNIVERSE not in parts:
        universe = choose(universe, chosen)
    write_universe(universe, folder / "universe.csv")
    return folder


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
