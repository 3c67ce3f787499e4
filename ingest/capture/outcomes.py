"""What becomes of requests: a quote or a failure each, exactly once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ingest.broker import OutageKind, Quote, RequestError, codes
from ingest.capture.requests import QuoteRequest, TrackedRequest
from lake.vocabulary import FailureKind


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a contract has no answer. `lake.vocabulary` explains each kind."""

    kind: FailureKind
    message: str
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The one result of one contract: a quote, or a failure; both where IB permits the model but no market.

    `requested_at` and `asof` (last tick in the quote) are pipeline time; `latency_s` is wall-clock.
    """

    request: QuoteRequest
    requested_at: datetime
    asof: datetime | None
    quote: Quote | None
    failure: Failure | None
    latency_s: float
    tries: int


class OutcomeList:
    """The outcomes of a capture in the order in which they came, each told to `on_outcome` at once."""

    def __init__(self, on_outcome: Callable[[Outcome], None]) -> None:
        self._on_outcome = on_outcome
        self.all: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """A request has its outcome."""
        self.all.append(outcome)
        self._on_outcome(outcome)

    def add_unanswered(self, tracked: TrackedRequest, failure: Failure) -> None:
        """A request that was sent, and waits to be sent again, ends without an answer."""
        assert tracked.requested_at is not None, "what was never sent has no outcome"
        self.add(Outcome(tracked.request, tracked.requested_at, None, None, failure, 0.0, tracked.tries))


def unanswered(error: RequestError | None, outages: Sequence[OutageKind], *, lost: bool) -> Failure:
    """Why a request has no answer at the end: by the last error IB gave, the outages that cover it, the lost socket."""
    if lost:
        return Failure("disconnected", "the connection to the gateway was lost")
    if error is not None and error.code in codes.PACING:
        return Failure("pacing", error.message, error.code)
    if outages:
        return because("outage", f"out of reach to the end of the window: {', '.join(outages)}", error)
    return because("window_over", "the slot's window ended before an answer", error)


def because(kind: FailureKind, message: str, said: RequestError | None) -> Failure:
    """A failure with what IB had said of the request, if it said anything."""
    if said is None:
        return Failure(kind, message)
    return Failure(kind, f"{message}; IB said {said.code}: {said.message}", said.code)
