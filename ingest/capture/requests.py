"""What is asked for: requests for quotes, and the order in which they wait."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ingest.broker import RequestError
from ingest.capture.readiness import Ready
from ingest.contracts import OptionContract, Underlying


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """One contract to ask for, and what makes its answer complete. A `snapshot` takes no generic ticks."""

    contract: OptionContract | Underlying
    generic_ticks: str
    ready: Ready
    snapshot: bool = False

    @property
    def conid(self) -> int:
        """IB's contract id, 0 when unknown."""
        return self.contract.conid or 0

    @property
    def is_option(self) -> bool:
        """Whether it is an option, or else an underlying."""
        return isinstance(self.contract, OptionContract)


def are_pair(one: OptionContract | Underlying, other: OptionContract | Underlying) -> bool:
    """Whether they are call and put of one strike."""
    return (
        isinstance(one, OptionContract)
        and isinstance(other, OptionContract)
        and one.right != other.right
        and one.strike == other.strike
        and one.expiry == other.expiry
        and one.trading_class == other.trading_class
        and one.underlying == other.underlying
    )


@dataclass(slots=True, eq=False)
class TrackedRequest:
    """One contract on its way through a slot.

    `tries` counts its own failures only, not what an outage or a missing permission has cost. `since` (monotonic) is
    when its present try began, or went on after an outage. `error` is the last one IB gave.
    """

    request: QuoteRequest
    tries: int = 1
    since: float = 0.0
    not_before: float = 0.0
    requested_at: datetime | None = None
    error: RequestError | None = None


class RequestQueue:
    """Requests that wait: underlyings before options, retries behind everything that was never sent."""

    def __init__(self) -> None:
        self._underlyings: deque[TrackedRequest] = deque()
        self._options: deque[TrackedRequest] = deque()
        self._retries: list[TrackedRequest] = []
        # The other right of a strike that a sender has just taken, for the same sender.
        self._reserved: dict[object, TrackedRequest] = {}

    def __len__(self) -> int:
        return len(self._underlyings) + len(self._options) + len(self._retries) + len(self._reserved)

    def __iter__(self) -> Iterator[TrackedRequest]:
        yield from self._reserved.values()
        yield from self._underlyings
        yield from self._options
        yield from self._retries

    def add(self, requests: Iterable[TrackedRequest]) -> None:
        """Queue `requests` behind the others, in order."""
        for tracked in requests:
            self._line(tracked).append(tracked)

    def put_back(self, requests: Sequence[TrackedRequest]) -> None:
        """Queue `requests` before all others, in order: they were sent and an outage took their answer."""
        for tracked in reversed(requests):
            self._line(tracked).appendleft(tracked)

    def retry(self, tracked: TrackedRequest, not_before: float) -> None:
        """Queue a request for another try, not before that monotonic instant."""
        tracked.not_before = not_before
        self._retries.append(tracked)

    def next(
        self, now: float, blocked: Callable[[QuoteRequest], bool] | None = None, sender: object = None
    ) -> TrackedRequest | None:
        """The request that is sent next, by `sender`, None while none may be; it stays queued."""
        if self._reserved and (reserved := self._reserved.get(sender)) is not None:
            return reserved
        if self._retries and not self._underlyings and not self._options:
            waited = [tracked for tracked in self._retries if tracked.not_before <= now]
            self._retries = [tracked for tracked in self._retries if tracked.not_before > now]
            self.add(waited)
        for line in (self._underlyings, self._options):
            if line and (blocked is None or not blocked(line[0].request)):
                return line[0]
        return None

    def is_first(self, tracked: TrackedRequest, sender: object = None) -> bool:
        """Whether `sender` may still take the request that `next` gave."""
        line = self._line(tracked)
        return self._reserved.get(sender) is tracked or bool(line and line[0] is tracked)

    def take(self, tracked: TrackedRequest, sender: object = None) -> None:
        """Remove the request that `next` gave; where `sender` is one of several, it gets the other right next."""
        if self._reserved and self._reserved.get(sender) is tracked:
            del self._reserved[sender]
            return
        line = self._line(tracked)
        assert line.popleft() is tracked
        if sender is not None and line and are_pair(tracked.request.contract, line[0].request.contract):
            self._reserved[sender] = line.popleft()

    def unreserve(self, sender: object) -> None:
        """`sender` cannot go on: what is reserved for it is the next for any."""
        if (tracked := self._reserved.pop(sender, None)) is not None:
            self.put_back([tracked])

    def _line(self, tracked: TrackedRequest) -> deque[TrackedRequest]:
        return self._options if tracked.request.is_option else self._underlyings
