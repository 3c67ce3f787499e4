"""The capture engine: requests go out over one connection or several, and every contract is accounted for."""

import asyncio
from collections.abc import Callable, Iterable

from ingest.broker import BrokerPool, BrokerSession
from ingest.broker.pacing import Pace, PoolPace
from ingest.capture.outage_log import PastOutage, merged, seconds_on_all
from ingest.capture.outcomes import Outcome
from ingest.capture.requests import QuoteRequest, TrackedRequest
from ingest.capture.rules import CaptureRules
from ingest.capture.sender import Sender, State
from ingest.capture.shared import SharedCapture

PACING_BACKOFF_S = 30.0
NEAREST_TO_ASKING: tuple[State, ...] = ("asking", "suspended", "reconnecting", "finishing")


class CaptureEngine:
    """Sends requests in order; each ends in exactly one Outcome or is never sent (`unasked` afterwards).

    A pool of connections works on one queue: call and put of a strike are asked over one of them, one after the other;
    a connection that is lost gives back what it had asked, and takes part again once it is back. `lost` says that none
    is left. See `Sender` for what becomes of requests on each.
    """

    def __init__(
        self,
        broker: BrokerSession | BrokerPool,
        pace: Pace | PoolPace,
        rules: CaptureRules,
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self._shared = SharedCapture(on_outcome)
        paces = pace.each if isinstance(pace, PoolPace) else (pace,)
        self._senders = [
            Sender(session, its_pace, rules, self._shared, PACING_BACKOFF_S)
            for session, its_pace in zip(BrokerPool.of(broker).sessions, paces, strict=True)
        ]

    @property
    def unasked(self) -> list[QuoteRequest]:
        """What was never sent because time was over or every connection lost."""
        return self._shared.unasked

    @property
    def lost(self) -> bool:
        """Whether every connection was lost, and none came back."""
        return all(sender.lost for sender in self._senders)

    @property
    def state(self) -> State:
        """What the connection does that is nearest to asking."""
        states = [sender.state for sender in self._senders]
        return next(state for state in NEAREST_TO_ASKING if state in states)

    @property
    def outages(self) -> list[PastOutage]:
        """The outages that were met and are over, or were cut off by the end; those of several connections as one."""
        return merged([sender.outages.past for sender in self._senders])

    @property
    def outage_s(self) -> float:
        """Wall-clock seconds in which every connection had something out of reach."""
        return seconds_on_all([sender.outages.past for sender in self._senders])

    async def capture(self, requests: Iterable[QuoteRequest]) -> list[Outcome]:
        """Send all of `requests`; returns their outcomes in the order in which they ended."""
        self._shared.queue.add(TrackedRequest(request) for request in requests)
        for sender in self._senders:
            sender.begin()
        try:
            await self._run()
            best = next((sender for sender in self._senders if not sender.lost), self._senders[0])
            best.account_for_the_rest()
        finally:
            await asyncio.gather(*(sender.end() for sender in self._senders))
        return self._shared.outcomes.all

    async def _run(self) -> None:
        """Let all senders work until nothing is left to ask, or they are stopped."""
        running = {asyncio.create_task(sender.run()): sender for sender in self._senders}
        pending = set(running)
        try:
            while pending:
                ended, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
                # Nobody needs a connection that is sought for work that others have done.
                if not self._shared.unfinished and all(running[task].state == "reconnecting" for task in pending):
                    return
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
