"""Several connections to one gateway: IB paces each of them by itself, and counts market data lines for all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import structlog

from ingest.broker.pacing import PoolPace
from ingest.broker.session import BrokerSession
from ingest.calendar.clock import Clock
from ingest.errors import BrokerUnreachable
from ingest.settings import MOST_CONNECTIONS, AcquisitionSettings, IbSettings
from lake.origin import Origin

log = structlog.get_logger(__name__)

# A gateway that has let in all it takes has given away fewer ids than this.
IDS_TRIED = 2 * MOST_CONNECTIONS


class BrokerPool:
    """Connections to one gateway, with one clock, one budget of lines and one state of delayed data. See `connect`.

    It has what a `BrokerSession` has, for all of its `sessions` together. A pool of one behaves as its session does.
    """

    def __init__(self, sessions: Sequence[BrokerSession]) -> None:
        self.sessions = tuple(sessions)

    @classmethod
    def of(cls, broker: "BrokerSession | BrokerPool") -> "BrokerPool":
        """`broker` itself, or the pool of that session alone."""
        return broker if isinstance(broker, BrokerPool) else cls([broker])

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, settings: IbSettings, connections: int = 1) -> AsyncIterator["BrokerPool"]:
        """So many connections to the gateway of `settings`, or as many as it lets in (`grow`); disconnects at the end.

        Raises BrokerUnreachable, with the reason and the next step, when the gateway lets in none.
        """
        async with BrokerSession.connect(settings) as first:
            pool = cls([first])
            try:
                await pool.grow(connections)
                yield pool
            finally:
                for session in pool.sessions[1:]:
                    session.close()

    async def grow(self, connections: int, *, cancels_free: bool = False) -> None:
        """Open more connections, up to so many, as far as the gateway lets them in; before anything is asked.

        Their client ids come after those of the settings, which stay free for the first connection of another command.
        With `cancels_free` IB is known not to count cancels.
        """
        common, settings = self.first.common, self.first.settings
        common.cancels_free = cancels_free
        ids = settings.client_id + settings.client_id_pool + 1
        settings = settings.model_copy(update={"client_id": ids, "client_id_pool": IDS_TRIED})
        wanted = range(len(self.sessions), connections)
        others = [BrokerSession(settings, common, ids + number - 1) for number in wanted]
        try:
            self.sessions += tuple(await _let_in(others))
        except BaseException:
            for session in others:
                session.close()
            raise

    @property
    def first(self) -> BrokerSession:
        """The connection that came first; it may be lost while others stand."""
        return self.sessions[0]

    @property
    def standing(self) -> list[BrokerSession]:
        """The connections whose socket is up."""
        return [session for session in self.sessions if session.connected]

    @property
    def asked(self) -> BrokerSession:
        """The connection for a question or two: the first that stands, or else the first."""
        return next((session for session in self.sessions if session.connected), self.first)

    @property
    def address(self) -> str:
        """``host:port`` of the gateway."""
        return self.first.address

    @property
    def settings(self) -> IbSettings:
        """The gateway, and what it allows each connection."""
        return self.first.settings

    @property
    def clock(self) -> Clock:
        """The pipeline's clock, one for all connections."""
        return self.first.clock

    @property
    def origin(self) -> Origin:
        """What kind of data this gateway gives."""
        return self.first.origin

    @property
    def delayed(self) -> bool:
        """Whether delayed data is taken."""
        return self.first.delayed

    @property
    def connected(self) -> bool:
        """Whether any connection stands."""
        return any(session.connected for session in self.sessions)

    @property
    def messages(self) -> int:
        """Messages that all connections have sent."""
        return sum(session.messages for session in self.sessions)

    @property
    def pacing_errors(self) -> int:
        """Errors 100, 101 and 420 of all connections."""
        return sum(session.pacing_errors for session in self.sessions)

    def pace(self, acquisition: AcquisitionSettings) -> PoolPace:
        """The budgets of all connections under the preset."""
        return PoolPace([session.pace(acquisition) for session in self.sessions])

    def use_market_data_type(self, market_data_type: int) -> None:
        """Ask for live (1), frozen (2), delayed (3) or delayed-frozen (4) data from now on, on every connection."""
        for session in self.sessions:
            session.use_market_data_type(market_data_type)

    async def reconnect(self, seconds: float) -> None:
        """See that one connection stands at least, trying for so many seconds.

        Raises BrokerUnreachable when none comes back in that time.
        """
        if self.connected:
            return
        seeking = [asyncio.create_task(session.reconnect(seconds)) for session in self.sessions]
        try:
            failure: BrokerUnreachable | None = None
            for attempt in asyncio.as_completed(seeking):
                try:
                    await attempt
                    return
                except BrokerUnreachable as reason:
                    failure = failure or reason
            assert failure is not None, "a pool has a connection"
            raise failure
        finally:
            # The capture seeks those that are still missing, beside its work.
            for task in seeking:
                task.cancel()
            await asyncio.gather(*seeking, return_exceptions=True)


async def _let_in(others: Sequence[BrokerSession]) -> list[BrokerSession]:
    """Connect `others` to a gateway that has let in one; those that it let in too, in order."""

    async def open_one(session: BrokerSession) -> BrokerSession | None:
        # Where ids are left without an answer, trying one after another would take the slot's time.
        try:
            async with asyncio.timeout(session.settings.connect_timeout_s):
                await session.open()
        except (BrokerUnreachable, TimeoutError) as reason:
            why = str(reason) or "it did not answer in time"
            log.warning("connection_refused", gateway=session.address, reason=why)
            return None
        return session

    answers = await asyncio.gather(*map(open_one, others))
    return [session for session in answers if session is not None]
