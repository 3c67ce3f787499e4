"""Several connections to one gateway: IB paces each of them by itself, and counts market data lines for all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import structlog

from ingest.broker.common import CommonState
from ingest.broker.pacing import PoolPace
from ingest.broker.session import BrokerSession
from ingest.calendar.clock import Clock
from ingest.errors import BrokerUnreachable
from ingest.settings import AcquisitionSettings, IbSettings
from lake.origin import Origin

log = structlog.get_logger(__name__)


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
    async def connect(
        cls, settings: IbSettings, connections: int = 1, *, cancels_free: bool = False
    ) -> AsyncIterator["BrokerPool"]:
        """So many connections to the gateway of `settings`, or as many as it lets in; disconnects at the end.

        Client ids follow that of the settings, one each. Raises BrokerUnreachable, with the reason and the next step,
        when the gateway lets in none.
        """
        spares = max(0, connections - 1)
        each = settings.model_copy(update={"client_id_pool": settings.client_id_pool + spares})
        common = CommonState(cancels_free=cancels_free)
        first = BrokerSession(each, common)
        await first.open()
        others = [BrokerSession(each, common, each.client_id + number) for number in range(1, connections)]
        try:
            yield cls([first, *await _let_in(others)])
        finally:
            for session in (first, *others):
                session.close()

    @property
    def first(self) -> BrokerSession:
        """The connection that came first; it may be lost while others stand."""
        return self.sessions[0]

    @property
    def standing(self) -> list[BrokerSession]:
        """The connections whose socket is up."""
        return [session for session in self.sessions if session.connected]

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
        try:
            await session.open()
        except BrokerUnreachable as reason:
            log.warning("connection_refused", gateway=session.address, reason=str(reason))
            return None
        return session

    answers = await asyncio.gather(*map(open_one, others))
    return [session for session in answers if session is not None]
