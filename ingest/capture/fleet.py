"""Batches of a slot, and the connections that share them: one queue; what is lost with a connection is taken over."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import structlog

from ingest.broker import BrokerPool, BrokerSession
from ingest.capture.modes import UNMEASURED, LineOccupancy
from ingest.capture.outcomes import Outcome
from ingest.contracts import Underlying
from ingest.errors import BrokerUnreachable

log = structlog.get_logger(__name__)
T = TypeVar("T")

WHOLE, UNGROUPED = "all", "other"


@dataclass(frozen=True, slots=True)
class BatchConnection:
    """A gateway that captures batches, over one connection or a pool of them, and its measured occupancy."""

    session: BrokerSession | BrokerPool
    occupancy: LineOccupancy = UNMEASURED


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """The underlyings of one batch; names sort in the order in which batches are captured."""

    name: str
    underlyings: tuple[Underlying, ...]


class SlotObserver(Protocol):
    """Is told how a slot goes on."""

    def slot_began(
        self, batches: dict[str, int], seconds_left: Callable[[], float], bound: Callable[[], float]
    ) -> None:
        """Contracts to ask by batch; wall-clock seconds left in the window; contracts a second that limits allow."""

    def batch_began(self, batch: str, gateway: str, contracts: int) -> None:
        """A gateway asks for so many contracts of a batch, for the first time or once more."""

    def settled(self, batch: str, outcome: Outcome) -> None:
        """A contract has its outcome."""

    def batch_ended(self, batch: str) -> None:
        """A batch is done, or given back by its connection."""


class NullObserver:
    """Nobody watches."""

    def slot_began(
        self, batches: dict[str, int], seconds_left: Callable[[], float], bound: Callable[[], float]
    ) -> None:
        """Nothing."""

    def batch_began(self, batch: str, gateway: str, contracts: int) -> None:
        """Nothing."""

    def settled(self, batch: str, outcome: Outcome) -> None:
        """Nothing."""

    def batch_ended(self, batch: str) -> None:
        """Nothing."""


def plan_batches(universe: Sequence[Underlying], size: int) -> list[PlannedBatch]:
    """The batches of a universe: its groups as they first appear; those of no group by `size` (0: all together).

    A batch that is alone has the name of its group, or ``all``; else a number comes first (``02-energy``, ``03-MSFT``).
    """
    groups: dict[str, list[Underlying]] = {}
    for underlying in universe:
        groups.setdefault(underlying.group, []).append(underlying)
    parts: list[tuple[str, list[Underlying]]] = []
    for group, members in groups.items():
        if group or not size or len(members) <= size:
            parts.append((group or (UNGROUPED if len(groups) > 1 else WHOLE), members))
        else:
            chunks = [members[start : start + size] for start in range(0, len(members), size)]
            parts += [(chunk[0].symbol, chunk) for chunk in chunks]
    if len(parts) == 1:
        ((name, members),) = parts
        return [PlannedBatch(name, tuple(members))]
    width = max(2, len(str(len(parts))))
    return [
        PlannedBatch(f"{number:0{width}d}-{name}", tuple(members)) for number, (name, members) in enumerate(parts, 1)
    ]


async def share(
    connections: Sequence[BatchConnection],
    batches: Iterable[T],
    capture: Callable[[BatchConnection, T], Awaitable[None]],
    reconnect_s: float,
    seconds_left: Callable[[], float],
) -> None:
    """Have `capture` done for every batch, in order, by whichever connection is free.

    A `capture` that raises BrokerUnreachable gives its batch back: the next free one takes it first. A lost connection
    is sought for `reconnect_s` altogether, while there are `seconds_left`, and takes batches again once it is back.
    Raises BrokerUnreachable when no connection is left and a batch is, and whatever else `capture` raises.
    """
    queue = _Queue[T](deque(batches))
    serving = {asyncio.create_task(_serve(one, queue, capture, reconnect_s, seconds_left)) for one in connections}
    try:
        while serving and not queue.finished:
            ended, serving = await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
    finally:
        # What is left only seeks a connection that nothing needs any more, unless all of it is given up.
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
    if not queue.finished:
        raise queue.losses[-1]


@dataclass(slots=True)
class _Queue(Generic[T]):
    """Batches that wait, how many are being captured, and why connections were given up."""

    waiting: deque[T]
    running: int = 0
    losses: list[BrokerUnreachable] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def finished(self) -> bool:
        """Whether every batch was captured."""
        return not self.waiting and not self.running

    async def take(self) -> T | None:
        """The next batch, as soon as there is one; None when all are captured."""
        while not self.waiting:
            if self.finished:
                return None
            self.changed.clear()
            await self.changed.wait()
        self.running += 1
        return self.waiting.popleft()

    def give_back(self, batch: T) -> None:
        """A batch is not done: it is the next one again."""
        self.running -= 1
        self.waiting.appendleft(batch)
        self.changed.set()

    def done(self) -> None:
        """A batch is done."""
        self.running -= 1
        self.changed.set()


async def _serve(
    connection: BatchConnection,
    queue: _Queue[T],
    capture: Callable[[BatchConnection, T], Awaitable[None]],
    reconnect_s: float,
    seconds_left: Callable[[], float],
) -> None:
    session, patience = connection.session, reconnect_s
    while True:
        try:
            await session.reconnect(min(patience, seconds_left()))
        except BrokerUnreachable as reason:
            queue.losses.append(reason)
            log.warning("gateway_lost", gateway=session.address, reason=str(reason))
            return
        batch = await queue.take()
        if batch is None:
            return
        try:
            await capture(connection, batch)
        except BrokerUnreachable as reason:
            queue.losses.append(reason)
            queue.give_back(batch)
            # The session itself has sought it before it gave up. One that answers nothing on an open socket is no use.
            patience = reconnect_s - session.settings.reconnect_s
            log.warning("batch_given_back", gateway=session.address, reason=str(reason), seeks_on_s=max(0, patience))
            if session.connected or patience <= 0:
                return
        else:
            queue.done()
