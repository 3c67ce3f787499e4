"""The capture engine: a sliding window of subscriptions, paced by messages, that accounts for every contract."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import structlog

from ingest.broker import BrokerSession, Quote, Subscription
from ingest.broker.session import PACING_ERRORS
from ingest.capture.pacing import Pace
from ingest.capture.readiness import Ready
from ingest.contracts import OptionContract, Underlying

log = structlog.get_logger(__name__)

SWEEP_S = 0.05
PACING_BACKOFF_S = 30.0
# No such contract, bad request, no permission: asking again gives the same answer.
FINAL_ERRORS = frozenset({200, 321, 354, 10089, 10168})


@dataclass(frozen=True, slots=True)
class Ask:
    """One contract to ask for, and what makes its answer complete."""

    contract: OptionContract | Underlying
    generic_ticks: str
    ready: Ready

    @property
    def conid(self) -> int:
        """IB's contract id, 0 when unknown."""
        return self.contract.conid or 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a contract has no answer. `kind` is timeout, ib_error, pacing, disconnected or window_over."""

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


@dataclass(slots=True)
class _Flight:
    ask: Ask
    tries: int


@dataclass(order=True, slots=True)
class _Waiting:
    not_before: float
    ask: Ask
    tries: int


class CaptureEngine:
    """Asks for contracts in order, `pace.window` at a time; each ends in exactly one Outcome or is never asked.

    `seconds_left` gives the wall-clock seconds that remain: when they are over, what is open ends as it is, and what
    was not asked yet stays unasked (`unasked` afterwards). `lost` tells that the socket dropped.
    """

    def __init__(
        self,
        session: BrokerSession,
        pace: Pace,
        *,
        timeout_s: float,
        retries: int,
        seconds_left: Callable[[], float] = lambda: float("inf"),
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self._session, self._pace = session, pace
        self._timeout_s, self._retries, self._seconds_left, self._on_outcome = (
            timeout_s,
            retries,
            seconds_left,
            on_outcome,
        )
        self._queue: deque[_Waiting] = deque()
        self._delayed: list[_Waiting] = []
        self._active: dict[Subscription, _Flight] = {}
        self._to_cancel: deque[Subscription] = deque()
        self._outcomes: list[Outcome] = []
        self._wake = asyncio.Event()
        self._over = False
        self._next_sweep = 0.0
        self.lost = False

    @property
    def unasked(self) -> list[Ask]:
        """What was never sent because time was over or the connection lost."""
        return [waiting.ask for waiting in (*self._queue, *self._delayed)]

    async def capture(self, asks: Iterable[Ask]) -> list[Outcome]:
        """Ask for all of `asks`; returns their outcomes in the order in which they ended."""
        self._queue.extend(_Waiting(0.0, ask, 1) for ask in asks)
        self._session.on_update = self._updated
        self._session.on_lost = self._lost
        self._session.on_pacing = self._pace.slow_down
        try:
            await self._send_and_settle()
        finally:
            # Also when the step is cancelled: no line stays open.
            for subscription in (*self._active, *self._to_cancel):
                self._session.cancel(subscription)
            self._session.on_update = lambda subscription: None
            self._session.on_lost = lambda: None
            self._session.on_pacing = lambda: None
        return self._outcomes

    async def _send_and_settle(self) -> None:
        # Each message gives way to the socket once: a budget with tokens to spare must not starve what arrives.
        while True:
            self._sweep()
            if self._to_cancel:
                # Cancels go first: each frees a line, and there is never more than one for each subscription.
                await self._pace.message()
                self._session.cancel(self._to_cancel.popleft())
                await asyncio.sleep(0)
            elif self._queue and len(self._active) < self._pace.window and not self._stopped:
                await self._pace.admission()
                await self._pace.message()
                self._subscribe()
                await asyncio.sleep(0)
            elif self._active or (not self._stopped and (self._queue or self._delayed)):
                await self._sleep_until_something_happens()
            else:
                return

    @property
    def _stopped(self) -> bool:
        return self._over or self.lost

    async def _sleep_until_something_happens(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(SWEEP_S):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _subscribe(self) -> None:
        if self._stopped:
            return
        waiting = self._queue.popleft()
        ask = waiting.ask
        if isinstance(ask.contract, OptionContract):
            subscription = self._session.subscribe_option(ask.contract, ask.generic_ticks)
        else:
            subscription = self._session.subscribe_underlying(ask.contract, ask.generic_ticks)
        self._active[subscription] = _Flight(ask, waiting.tries)

    # -- what happens to a flight --------------------------------------------------------------------------------

    def _updated(self, subscription: Subscription) -> None:
        flight = self._active.get(subscription)
        if flight is None:
            return
        if subscription.error is not None:
            self._fail(subscription, flight)
        elif flight.ask.ready(quote := subscription.quote(), time.monotonic() - subscription.sent_at):
            self._settle(subscription, quote, None)
            self._pace.recover()

    def _fail(self, subscription: Subscription, flight: _Flight) -> None:
        error = subscription.error
        assert error is not None
        pacing = error.code in PACING_ERRORS
        if error.code not in FINAL_ERRORS and self._again(subscription, flight, PACING_BACKOFF_S if pacing else 0.0):
            return
        self._settle(subscription, None, Failure("pacing" if pacing else "ib_error", error.message, error.code))

    def _sweep(self) -> None:
        """Settle what has waited long enough; flights are in the order in which they were sent."""
        now = time.monotonic()
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP_S
        if not self._over and self._seconds_left() <= 0:
            self._over = True
        for subscription, flight in list(self._active.items()):
            elapsed = now - subscription.sent_at
            if elapsed < SWEEP_S and not self._over:
                break
            quote = subscription.quote()
            if subscription.updated_at is not None and flight.ask.ready(quote, elapsed):
                self._settle(subscription, quote, None)
            elif self._over or elapsed >= self._timeout_s:
                self._expire(subscription, flight, quote)
        self._release_delayed(now)

    def _expire(self, subscription: Subscription, flight: _Flight, quote: Quote) -> None:
        if quote.bid_seen or quote.ask_seen or quote.last is not None:
            self._settle(subscription, quote, None)
        elif self._over:
            self._settle(subscription, None, Failure("window_over", "the slot's window ended before an answer"))
        elif not self._again(subscription, flight, 0.0):
            self._settle(subscription, None, Failure("timeout", f"no answer within {self._timeout_s:g} s"))

    def _again(self, subscription: Subscription, flight: _Flight, delay_s: float) -> bool:
        """Queue the contract once more, later by `delay_s` doubling; False when it is out of retries or time."""
        delay = delay_s * 2 ** (flight.tries - 1)
        if flight.tries > self._retries or self._stopped or delay >= self._seconds_left():
            return False
        del self._active[subscription]
        self._to_cancel.append(subscription)
        self._delayed.append(_Waiting(time.monotonic() + delay, flight.ask, flight.tries + 1))
        self._wake.set()
        return True

    def _release_delayed(self, now: float) -> None:
        # Retries wait behind the contracts that were never asked, so that a silent wing costs the others nothing.
        if self._delayed and not self._queue:
            due = [waiting for waiting in self._delayed if waiting.not_before <= now]
            self._delayed = [waiting for waiting in self._delayed if waiting.not_before > now]
            self._queue.extend(due)

    def _settle(self, subscription: Subscription, quote: Quote | None, failure: Failure | None) -> None:
        flight = self._active.pop(subscription)
        self._to_cancel.append(subscription)
        outcome = Outcome(
            flight.ask,
            subscription.requested_at,
            subscription.updated_at if failure is None else None,
            quote,
            failure,
            time.monotonic() - subscription.sent_at,
            flight.tries,
        )
        self._outcomes.append(outcome)
        self._on_outcome(outcome)
        self._wake.set()

    def _lost(self) -> None:
        self.lost = True
        log.warning("connection_lost", open_subscriptions=len(self._active), waiting=len(self._queue))
        for subscription in list(self._active):
            self._settle(subscription, None, Failure("disconnected", "the connection to the gateway was lost"))
