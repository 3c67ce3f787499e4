"""The capture engine: a sliding window of requests, paced by messages, that accounts for every contract."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Literal

import structlog

from ingest.broker import BrokerSession, Nobody, Outage, Quote, Subscription, codes
from ingest.capture.asks import Ask, AskQueue, Failure, Flight, Outcome
from ingest.capture.holding import Holds, PastOutage
from ingest.capture.modes import MESSAGES
from ingest.capture.pacing import Pace
from ingest.contracts import OptionContract
from ingest.errors import BrokerUnreachable

__all__ = ["Ask", "CaptureEngine", "Failure", "Outcome"]

log = structlog.get_logger(__name__)

SWEEP_S = 0.05
STALL_S = 0.25
PACING_BACKOFF_S = 30.0
# IB ends a snapshot after up to 11 s. One that it forgets to end is cancelled, so that its line comes back.
SNAPSHOT_S = 12.0
State = Literal["asking", "holding", "reconnecting", "finishing"]


class CaptureEngine:
    """Asks for contracts in order; each ends in exactly one Outcome or is never asked (`unasked` afterwards).

    When the pipeline's clock shows `ends_at`, what is open ends as it is and nothing more is asked. An outage of the
    broker costs no contract a try: what it covers is held (`probe_s`: how often one is asked all the same), and asked
    again where its subscription is gone. A lost socket is sought for ``ib.reconnect_s``; `lost` tells that it did not
    come back. `outages` lists what was met.
    """

    def __init__(
        self,
        session: BrokerSession,
        pace: Pace,
        *,
        timeout_s: float,
        retries: int,
        ends_at: datetime | None = None,
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
        delayed_fallback: bool = True,
        probe_s: float = 15.0,
    ) -> None:
        self._session, self._pace = session, pace
        self._timeout_s, self._retries, self._ends_at = timeout_s, retries, ends_at
        self._on_outcome, self._delayed_fallback, self._probe_s = on_outcome, delayed_fallback, probe_s
        self._queue = AskQueue()
        self._active: dict[Subscription, Flight] = {}
        self._to_cancel: deque[Subscription] = deque()
        # Snapshots whose row is made and that still hold their line until IB ends them.
        self._ending: dict[Subscription, None] = {}
        self._outcomes: list[Outcome] = []
        self._holds = Holds()
        self._probe: Subscription | None = None
        self._probe_at = 0.0
        self._wake = asyncio.Event()
        self._cancelled_last = False
        self._falls_back = False
        self._over = False
        self._laggards = 0
        self._next_sweep = 0.0
        self._stalled = False
        self.lost = False

    @property
    def unasked(self) -> list[Ask]:
        """What was never sent because time was over or the connection lost."""
        return [flight.ask for flight in self._queue if flight.requested_at is None]

    @property
    def state(self) -> State:
        """What the engine does: asks, holds during an outage, seeks the lost socket, or finishes what is open."""
        if self._stopped:
            return "finishing"
        if "socket" in self._holds:
            return "reconnecting"
        return "holding" if self._holds else "asking"

    @property
    def outages(self) -> list[PastOutage]:
        """The outages that were met and are over, or were cut off by the end."""
        return self._holds.past

    @property
    def outage_s(self) -> float:
        """Wall-clock seconds in which anything was out of reach; outages at one time count once."""
        return self._holds.seconds

    async def capture(self, asks: Iterable[Ask]) -> list[Outcome]:
        """Ask for all of `asks`; returns their outcomes in the order in which they ended."""
        self._queue.add(Flight(ask) for ask in asks)
        self._session.watcher = self
        for outage in self._session.outages:
            self.outage_began(outage)
        # An outage of before may be over without a word: try at once.
        self._probe_at = 0.0
        try:
            await self._run()
            self._account_for_the_rest()
        finally:
            # Also when the step is cancelled: no line stays open.
            self._session.watcher = Nobody()
            await self._cancel_all()
            self._holds.end_all(time.monotonic())
        return self._outcomes

    # -- messages ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        # Each message gives way to the socket once: a budget with tokens to spare must not starve what arrives.
        while True:
            self._sweep()
            if self.state == "reconnecting":
                await self._reconnect()
            elif self._message_is_due():
                await self._pace.message()
                await self._send()
                await asyncio.sleep(0)
            elif self._active or self._ending or (len(self._queue) and not self._stopped):
                await self._sleep_until_something_happens()
            else:
                return

    @property
    def _stopped(self) -> bool:
        return self._over or self.lost

    def _message_is_due(self) -> bool:
        if self._pace.quiet:
            return False
        return bool(self._to_cancel) or self._falls_back or self._next_flight() is not None

    async def _send(self) -> None:
        """Send the one message that is due: what was due before the wait for a token may not be any more."""
        if not self._session.connected:
            return
        if self._falls_back:
            self._falls_back = False
            self._session.fall_back_to_delayed()
            return
        flight = self._next_flight()
        # Cancel and subscribe in turns: each cancel frees a line, and a wave of them must not keep new ones waiting.
        if self._to_cancel and (flight is None or not self._cancelled_last):
            self._cancelled_last = True
            self._session.cancel(self._to_cancel.popleft())
        elif flight is not None:
            self._cancelled_last = False
            await self._pace.admission()
            self._subscribe(flight)

    def _next_flight(self) -> Flight | None:
        """The flight that may be asked now, if any."""
        if self._stopped or self._falls_back or not len(self._queue):
            return None
        now = time.monotonic()
        flight = self._queue.next(now, self._blocked if self._holds else None)
        if flight is None and self._holds and self._probe_is_due(now):
            self._take_back_probe()
            flight = self._queue.next(now)
        if flight is None or self._session.lines_in_use >= self._pace.lines or not self._pace.admits():
            return None
        expected = len(self._active) - self._laggards
        window = self._pace.window(MESSAGES["snapshot" if flight.ask.snapshot else "streaming"])
        return flight if expected < window else None

    def _subscribe(self, flight: Flight) -> None:
        ask, session = flight.ask, self._session
        if self._time_is_over() or not session.connected:
            return
        self._queue.take(flight)
        if isinstance(ask.contract, OptionContract):
            subscription = session.subscribe_option(ask.contract, ask.generic_ticks, snapshot=ask.snapshot)
        else:
            subscription = session.subscribe_underlying(ask.contract, ask.generic_ticks, snapshot=ask.snapshot)
        flight.since, flight.requested_at = subscription.sent_at, subscription.requested_at
        self._active[subscription] = flight
        if self._blocked(ask):
            self._probe, self._probe_at = subscription, time.monotonic() + self._probe_s

    async def _sleep_until_something_happens(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(min(SWEEP_S, self._seconds_left())):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _cancel_all(self) -> None:
        for subscription in (*self._active, *self._ending, *self._to_cancel):
            if self._session.connected and subscription.is_open:
                await self._pace.message()
            self._session.cancel(subscription)
        self._active.clear()
        self._ending.clear()
        self._to_cancel.clear()

    def _release(self, subscription: Subscription) -> None:
        """Give up a subscription: with a cancel where IB may hold a line for it."""
        if subscription.snapshot and subscription.is_open and time.monotonic() - subscription.sent_at < SNAPSHOT_S:
            self._ending[subscription] = None
        elif subscription.is_open:
            self._to_cancel.append(subscription)
        else:
            self._session.cancel(subscription)
        self._wake.set()

    # -- what happens to a flight --------------------------------------------------------------------------------

    def updated(self, subscription: Subscription) -> None:
        """Ticks or an error arrived, or a snapshot ended."""
        flight = self._active.get(subscription)
        if flight is None:
            if not subscription.is_open:
                self._ending.pop(subscription, None)
                self._wake.set()
        elif self._time_is_over():
            self._wake.set()
        elif subscription.error is not None:
            self._fail(subscription, flight)
        elif flight.ask.ready(quote := subscription.quote(), time.monotonic() - flight.since):
            self._settle(subscription, quote, None)
            self._pace.answered(time.monotonic() - flight.since)
        elif subscription.ended:
            self._expire(subscription, flight, quote)

    def pacing_error(self, code: int) -> None:
        """IB says that this is too fast, or too much at once."""
        self._pace.pacing_error(code, self._session.lines_in_use)
        log.warning("pacing_error", code=code, rate=round(self._pace.rate, 1), lines=self._pace.lines)
        if code != codes.LINES_EXHAUSTED:
            self._to_cancel.extend(self._session.doubtful_cancels())

    def _fail(self, subscription: Subscription, flight: Flight) -> None:
        error = flight.error = subscription.error
        assert error is not None
        if error.code == codes.COMPETING_SESSION:
            self._ask_again(subscription, flight)
        elif error.code in codes.NO_LIVE_PERMISSION and self._delayed_fallback and not subscription.delayed:
            self._falls_back = not self._session.delayed
            self._ask_again(subscription, flight)
        elif error.code in codes.PACING:
            if not self._retry(subscription, flight, PACING_BACKOFF_S):
                self._settle(subscription, None, Failure("pacing", error.message, error.code))
        elif error.code in codes.FINAL | codes.NO_LIVE_PERMISSION or not self._retry(subscription, flight, 0.0):
            self._settle(subscription, None, Failure("ib_error", error.message, error.code))

    def _sweep(self) -> None:
        """Settle what has waited long enough; flights are in the order in which they were sent."""
        now = time.monotonic()
        self._over = self._over or self._time_is_over()
        if now < self._next_sweep and not self._over:
            return
        # A host that stood still has ticks to read before anything is too late.
        self._stalled = not self._stalled and 0 < self._next_sweep < now - STALL_S
        self._next_sweep = now + SWEEP_S
        if self._stalled and not self._over:
            return
        self._pace.recover()
        laggards = 0
        for subscription, flight in list(self._active.items()):
            if now - subscription.sent_at > self._pace.holding_s:
                laggards += 1
            if not self._over and self._blocked(flight.ask):
                continue
            elapsed = now - flight.since
            if elapsed < SWEEP_S and not self._over:
                continue
            silent = subscription.updated_at is None
            if not silent and flight.ask.ready(quote := subscription.quote(), elapsed):
                self._settle(subscription, quote, None)
            elif self._over or elapsed >= (SNAPSHOT_S if subscription.snapshot else self._timeout_s):
                self._expire(subscription, flight, subscription.quote())
        self._laggards = laggards
        for subscription in [s for s in self._ending if now - s.sent_at >= SNAPSHOT_S or self._stopped]:
            del self._ending[subscription]
            self._to_cancel.append(subscription)

    def _expire(self, subscription: Subscription, flight: Flight, quote: Quote) -> None:
        if quote.bid_seen or quote.ask_seen or quote.last is not None:
            self._settle(subscription, quote, None)
        elif self._over:
            self._settle(subscription, None, self._unanswered(flight))
        elif not self._retry(subscription, flight, 0.0):
            self._settle(subscription, None, Failure("timeout", f"no answer within {self._timeout_s:g} s"))

    def _retry(self, subscription: Subscription, flight: Flight, delay_s: float) -> bool:
        """Queue the contract once more, later by `delay_s` doubling; False when it is out of retries or time."""
        delay = delay_s * 2 ** (flight.tries - 1)
        if flight.tries > self._retries or self._stopped or delay >= self._seconds_left():
            return False
        del self._active[subscription]
        self._release(subscription)
        flight.tries += 1
        self._queue.retry(flight, time.monotonic() + delay)
        return True

    def _ask_again(self, subscription: Subscription, flight: Flight) -> None:
        """Queue the contract as if it had not been asked: the broker, not the contract, had no answer."""
        del self._active[subscription]
        self._release(subscription)
        self._queue.put_back([flight])

    def _settle(self, subscription: Subscription, quote: Quote | None, failure: Failure | None) -> None:
        flight = self._active.pop(subscription)
        self._release(subscription)
        asof = subscription.updated_at if failure is None else None
        if asof is not None and self._ends_at is not None and asof >= self._ends_at:
            quote, failure, asof = None, self._unanswered(flight), None
        self._finish(flight, subscription.requested_at, asof, quote, failure, time.monotonic() - subscription.sent_at)

    def _finish(
        self,
        flight: Flight,
        requested_at: datetime,
        asof: datetime | None,
        quote: Quote | None,
        failure: Failure | None,
        latency_s: float,
    ) -> None:
        outcome = Outcome(flight.ask, requested_at, asof, quote, failure, latency_s, flight.tries)
        self._outcomes.append(outcome)
        self._on_outcome(outcome)

    def _account_for_the_rest(self) -> None:
        """End what was asked and waits to be asked again: it is no more unasked than what has an answer."""
        for flight in self._queue:
            if flight.requested_at is not None:
                self._finish(flight, flight.requested_at, None, None, self._unanswered(flight), 0.0)

    def _unanswered(self, flight: Flight) -> Failure:
        if self.lost:
            return Failure("disconnected", "the connection to the gateway was lost")
        if flight.error is not None and flight.error.code in codes.PACING:
            return Failure("pacing", flight.error.message, flight.error.code)
        if kinds := self._holds.on(option=flight.ask.is_option, delayed=self._session.delayed):
            code = flight.error.code if flight.error is not None else None
            return Failure("outage", f"out of reach to the end of the window: {', '.join(kinds)}", code)
        return Failure("window_over", "the slot's window ended before an answer")

    # -- time ----------------------------------------------------------------------------------------------------

    def _seconds_left(self) -> float:
        return float("inf") if self._ends_at is None else self._session.clock.wall_seconds_until(self._ends_at)

    def _time_is_over(self) -> bool:
        return self._ends_at is not None and self._session.clock.now() >= self._ends_at

    # -- outages -------------------------------------------------------------------------------------------------

    def outage_began(self, outage: Outage) -> None:
        """Hold what the outage covers; after a lost socket nothing is open any more."""
        now = time.monotonic()
        self._holds.begin(outage, now)
        self._probe_at = now + self._probe_s
        if outage.kind == "socket":
            self._ask_everything_again()
        self._wake.set()

    def outage_over(self, outage: Outage, *, data_lost: bool) -> None:
        """Go on: what was held has its full time again, and what was lost is asked again at once."""
        now = time.monotonic()
        self._holds.end(outage.kind, now)
        self._probe = None
        if data_lost:
            self._ask_everything_again()
        for flight in self._active.values():
            if outage.concerns(option=flight.ask.is_option):
                flight.since = now
        self._wake.set()

    def _blocked(self, ask: Ask) -> bool:
        return bool(self._holds and self._holds.on(option=ask.is_option, delayed=self._session.delayed))

    def _ask_everything_again(self) -> None:
        self._queue.put_back(list(self._active.values()))
        self._active.clear()
        self._ending.clear()
        self._to_cancel.clear()

    def _probe_is_due(self, now: float) -> bool:
        # A probe has the time of any contract to answer: taken back sooner, it would never show that all is well.
        if self._probe in self._active and now - self._probe.sent_at < self._timeout_s:
            return False
        return now >= self._probe_at

    def _take_back_probe(self) -> None:
        """Have the contract that was asked during the outage asked once more: its request may be lost."""
        if self._probe is not None and (flight := self._active.get(self._probe)):
            self._ask_again(self._probe, flight)
        self._probe = None

    async def _reconnect(self) -> None:
        try:
            await self._session.reconnect(min(self._session.settings.reconnect_s, self._seconds_left()))
        except BrokerUnreachable as reason:
            self._over = self._time_is_over()
            self.lost = not self._over
            log.warning("reconnect_failed", reason=str(reason), waiting=len(self._queue))
