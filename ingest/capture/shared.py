"""What the connections of one capture have in common: the queue, the outcomes, and the lines that are in doubt."""

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ingest.capture.outcomes import Outcome, OutcomeList
from ingest.capture.requests import QuoteRequest, RequestQueue

# Two sockets know no order: for so long IB may not have read the cancel of one when it reads a request of the other.
IN_DOUBT_S = 0.1


class Sender(Protocol):
    """One connection of a capture, as the others see it."""

    @property
    def open_requests(self) -> int:
        """Requests that were sent and have no outcome yet; they may come back to the queue."""

    @property
    def lines_in_use(self) -> int:
        """Market data lines that the connection holds."""

    def ask_for_delayed(self) -> None:
        """Ask for delayed data before anything else, unless that is done."""


class SharedCapture:
    """One queue, one list of outcomes and one count of lines for the senders that have joined."""

    def __init__(self, on_outcome: Callable[[Outcome], None]) -> None:
        self.queue = RequestQueue()
        self.outcomes = OutcomeList(on_outcome)
        self._senders: list[Sender] = []
        # Who has cancelled, and until when its line may be in use all the same for the others.
        self._doubtful: dict[Sender, deque[float]] = {}

    def join(self, sender: Sender) -> None:
        """One more connection takes part."""
        self._senders.append(sender)
        self._doubtful[sender] = deque()

    @property
    def alone(self) -> bool:
        """Whether there is one connection only."""
        return len(self._senders) == 1

    @property
    def unfinished(self) -> bool:
        """Whether anything waits, or may have to wait again."""
        return bool(len(self.queue)) or any(sender.open_requests for sender in self._senders)

    @property
    def unasked(self) -> list[QuoteRequest]:
        """What was never sent."""
        return [tracked.request for tracked in self.queue if tracked.requested_at is None]

    @property
    def lines_in_use(self) -> int:
        """Market data lines that all connections hold."""
        return sum(sender.lines_in_use for sender in self._senders)

    def has_line_for(self, asking: Sender, lines: int) -> bool:
        """Whether `asking` may take one more of `lines`: one that it has freed itself, or another has a while ago."""
        used = self.lines_in_use
        if self.alone or used >= lines:
            return used < lines
        now = time.monotonic()
        for sender, until in self._doubtful.items():
            while until and until[0] <= now:
                until.popleft()
            if sender is not asking:
                used += len(until)
        return used < lines

    def line_taken(self, sender: Sender) -> None:
        """`sender` has asked for one more, with what its latest cancel has freed: its messages are in order."""
        if self._doubtful[sender]:
            self._doubtful[sender].pop()

    def line_freed(self, sender: Sender) -> None:
        """`sender` has cancelled."""
        if not self.alone:
            self._doubtful[sender].append(time.monotonic() + IN_DOUBT_S)

    def fall_back_to_delayed(self) -> None:
        """Have every connection ask for delayed data."""
        for sender in self._senders:
            sender.ask_for_delayed()
