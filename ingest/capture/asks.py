"""What is asked and what becomes of it: asks, failures, outcomes, and the order in which asks wait."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ingest.broker import Quote, RequestError
from ingest.capture.readiness import Ready
from ingest.contracts import OptionContract, Underlying


@dataclass(frozen=True, slots=True)
class Ask:
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


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a contract has no answer. `kind` is timeout, ib_error, pacing, outage, disconnected or window_over."""

    kind: str
    message: str
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The one result of one contract: a quote, or a failure.

    `requested_at` and `asof` (last tick in the quote) are pipeline time; `latency_s` is wall-clock.
    """

    ask: Ask
    requested_at: datetime
    asof: datetime | None
    quote: Quote | None
    failure: Failure | None
    latency_s: float
    tries: int


@dataclass(slots=True, eq=False)
class Flight:
    """One contract on its way through a slot.

    `tries` counts its own failures only, not what an outage or a missing permission has cost. `since` (monotonic) is
    when its present try began, or went on after an outage. `error` is the last one IB gave.
    """

    ask: Ask
    tries: int = 1
    since: float = 0.0
    not_before: float = 0.0
    requested_at: datetime | None = None
    error: RequestError | None = None


class AskQueue:
    """Flights that wait: underlyings before options, retries behind everything that was never asked."""

    def __init__(self) -> None:
        self._underlyings: deque[Flight] = deque()
        self._options: deque[Flight] = deque()
        self._retries: list[Flight] = []

    def __len__(self) -> int:
        return len(self._underlyings) + len(self._options) + len(self._retries)

    def __iter__(self) -> Iterator[Flight]:
        yield from self._underlyings
        yield from self._options
        yield from self._retries

    def add(self, flights: Iterable[Flight]) -> None:
        """Queue `flights` behind the others, in order."""
        for flight in flights:
            self._line(flight).append(flight)

    def put_back(self, flights: Sequence[Flight]) -> None:
        """Queue `flights` before all others, in order: they were asked and an outage took their answer."""
        for flight in reversed(flights):
            self._line(flight).appendleft(flight)

    def retry(self, flight: Flight, not_before: float) -> None:
        """Queue a flight for another try, not before that monotonic instant."""
        flight.not_before = not_before
        self._retries.append(flight)

    def next(self, now: float, blocked: Callable[[Ask], bool] | None = None) -> Flight | None:
        """The flight that is asked next, None while all that wait are blocked or not due; it stays queued."""
        if self._retries and not self._underlyings and not self._options:
            due = [flight for flight in self._retries if flight.not_before <= now]
            self._retries = [flight for flight in self._retries if flight.not_before > now]
            self.add(due)
        for line in (self._underlyings, self._options):
            if line and (blocked is None or not blocked(line[0].ask)):
                return line[0]
        return None

    def take(self, flight: Flight) -> None:
        """Remove the flight that `next` gave."""
        assert self._line(flight).popleft() is flight

    def _line(self, flight: Flight) -> deque[Flight]:
        return self._options if flight.ask.is_option else self._underlyings
