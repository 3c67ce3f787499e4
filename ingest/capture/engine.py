"""The capture engine: a sliding window of requests, paced by messages, that accounts for every contract."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal

import structlog

from ingest.broker import BrokerSession, NullWatcher, Outage, Quote, Subscription, codes
from ingest.broker.pacing import Pace
from ingest.capture.modes import MESSAGES
from ingest.capture.outage_log import OutageLog, PastOutage
from ingest.capture.outage_probe import OutageProbe
from ingest.capture.outcomes import Failure, Outcome, OutcomeList, because, unanswered
from ingest.capture.requests import QuoteRequest, RequestQueue, TrackedRequest
from ingest.capture.rules import CaptureRules
from ingest.contracts import OptionContract
from ingest.errors import BrokerUnreachable

log = structlog.get_logger(__name__)

SWEEP_S = 0.05
STALL_S = 0.25
PACING_BACKOFF_S = 30.0
# IB ends a snapshot after up to 11 s. One that it forgets to end is cancelled, so that its line comes back.
SNAPSHOT_S = 12.0
State = Literal["asking", "suspended", "reconnecting", "finishing"]


class CaptureEngine:
    """Sends requests in order; each ends in exactly one Outcome or is never sent (`unasked` afterwards).

    When the pipeline's clock shows the rules' `ends_at`, what is open ends as it is and nothing more is sent. An outage
    of the broker costs no request a try: what it covers is held back, and sent again where its subscription is gone. A
    lost socket is sought for ``ib.reconnect_s``; `lost` says that it did not come back. `outages` lists what was met.
    """

    def __init__(
        self,
        session: BrokerSession,
        pace: Pace,
        rules: CaptureRules,
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self._session, self._pace, self._rules = session, pace, rules
        self._queue = RequestQueue()
        self._active: dict[Subscription, TrackedRequest] = {}
        self._to_cancel: deque[Subscription] = deque()
        # Snapshots whose row is made and that still hold their line until IB ends them.
        self._ending: dict[Subscription, None] = {}
        self._outcomes = OutcomeList(on_outcome)
        self._outage_log = OutageLog()
        self._probe = OutageProbe(rules.probe_s, rules.timeout_s)
        self._wake = asyncio.Event()
        self._cancelled_last = False
        self._falls_back = False
        self._over = False
        self._laggards = 0
        self._next_sweep = 0.0
        self._stalled = False
        self.lost = False

    @property
    def unasked(self) -> list[QuoteRequest]:
        """What was never sent because time was over or the connection lost."""
        return [tracked.request for tracked in self._queue if tracked.requested_at is None]

    @property
    def state(self) -> State:
        """What the engine does: asks, holds during an outage, seeks the lost socket, or finishes what is open."""
        if self._stopped:
            return "finishing"
        if "socket" in self._outage_log:
            return "reconnecting"
        return "suspended" if self._outage_log else "asking"

    @property
    def outages(self) -> list[PastOutage]:
        """The outages that were met and are over, or were cut off by the end."""
        return self._outage_log.past

    @property
    def outage_s(self) -> float:
        """Wall-clock seconds in which anything was out of reach; outages at one time count once."""
        return self._outage_log.seconds

    async def capture(self, requests: Iterable[QuoteRequest]) -> list[Outcome]:
        """Send all of `requests`; returns their outcomes in the order in which they ended."""
        self._queue.add(TrackedRequest(request) for request in requests)
        self._session.watcher = self
        for outage in self._session.outages:
            self.outage_began(outage)
        self._probe.allow_at_once()
        try:
            await self._run()
            self._account_for_the_rest()
        finally:
            # Also when the step is cancelled: no line stays open.
            self._session.watcher = NullWatcher()
            await self._cancel_all()
            self._outage_log.end_all(time.monotonic())
        return self._outcomes.all

    # -- messages ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        # Each message gives way to the socket once: a budget with tokens to spare must not starve what arrives.
        while True:
            self._sweep()
            if self.state == "reconnecting":
                await self._reconnect()
            elif self._has_message_to_send():
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

    def _has_message_to_send(self) -> bool:
        if self._pace.quiet:
            return False
        return bool(self._to_cancel) or self._falls_back or self._next_request() is not None

    async def _send(self) -> None:
        """Send the one message whose turn it is: what was next before the wait for a token may not be any more."""
        if not self._session.connected:
            return
        if self._falls_back:
            self._falls_back = False
            self._session.fall_back_to_delayed()
            return
        tracked = self._next_request()
        # Cancel and subscribe in turns: each cancel frees a line, and a wave of them must not keep new ones waiting.
        if self._to_cancel and (tracked is None or not self._cancelled_last):
            self._cancelled_last = True
            self._session.cancel(self._to_cancel.popleft())
        elif tracked is not None:
            self._cancelled_last = False
            await self._pace.admission()
            self._subscribe(tracked)

    def _next_request(self) -> TrackedRequest | None:
        """The request that may be asked now, if any."""
        if self._stopped or self._falls_back or not len(self._queue):
            return None
        now = time.monotonic()
        tracked = self._queue.next(now, self._blocked if self._outage_log else None)
        if tracked is None and self._outage_log and self._probe.may_be_sent(now, self._active):
            self._resend_probe()
            tracked = self._queue.next(now)
        if tracked is None or self._session.lines_in_use >= self._pace.lines or not self._pace.admits():
            return None
        expected = len(self._active) - self._laggards
        window = self._pace.window(MESSAGES["snapshot" if tracked.request.snapshot else "streaming"])
        return tracked if expected < window else None

    def _subscribe(self, tracked: TrackedRequest) -> None:
        request, session = tracked.request, self._session
        if self._time_is_over() or not session.connected:
            return
        self._queue.take(tracked)
        contract, ticks, snapshot = request.contract, request.generic_ticks, request.snapshot
        if isinstance(contract, OptionContract):
            subscription = session.subscribe_option(contract, ticks, snapshot=snapshot)
        else:
            subscription = session.subscribe_underlying(contract, ticks, snapshot=snapshot)
        tracked.since, tracked.requested_at = subscription.sent_at, subscription.requested_at
        self._active[subscription] = tracked
        if self._blocked(request):
            self._probe.sent(subscription, time.monotonic())

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

    # -- what becomes of a request --------------------------------------------------------------------------------

    def updated(self, subscription: Subscription) -> None:
        """Ticks or an error arrived, or a snapshot ended."""
        tracked = self._active.get(subscription)
        if tracked is None:
            if not subscription.is_open:
                self._ending.pop(subscription, None)
                self._wake.set()
        elif self._time_is_over():
            self._wake.set()
        elif subscription.error is not None:
            self._fail(subscription, tracked)
        elif tracked.request.ready(quote := subscription.quote(), time.monotonic() - tracked.since):
            self._settle(subscription, quote, None)
            self._pace.answered(time.monotonic() - tracked.since)
        elif subscription.ended:
            self._expire(subscription, tracked, quote)

    def pacing_error(self, code: int) -> None:
        """IB says that this is too fast, or too much at once."""
        self._pace.pacing_error(code, self._session.lines_in_use)
        log.warning("pacing_error", code=code, rate=round(self._pace.rate, 1), lines=self._pace.lines)
        if code != codes.LINES_EXHAUSTED:
            self._to_cancel.extend(self._session.doubtful_cancels())

    def _fail(self, subscription: Subscription, tracked: TrackedRequest) -> None:
        error = tracked.error = subscription.error
        assert error is not None
        unpermitted = error.code in codes.NO_LIVE_PERMISSION
        if error.code == codes.COMPETING_SESSION or (unpermitted and self._takes_delayed(subscription)):
            self._resend(subscription, tracked)
        elif error.code in codes.PACING:
            if not self._retry(subscription, tracked, PACING_BACKOFF_S):
                self._settle(subscription, None, Failure("pacing", error.message, error.code))
        elif error.code in codes.FINAL | codes.NO_LIVE_PERMISSION or not self._retry(subscription, tracked, 0.0):
            self._settle(subscription, None, Failure("ib_error", error.message, error.code))

    def _takes_delayed(self, subscription: Subscription) -> bool:
        """Whether delayed data is asked for instead of what was refused; from now on, if it was not before."""
        if not self._rules.delayed_fallback or subscription.delayed or self._stopped:
            return False
        self._falls_back = not self._session.delayed
        return True

    def _sweep(self) -> None:
        """Settle what has waited long enough; requests are in the order in which they were sent."""
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
        for subscription, tracked in list(self._active.items()):
            if now - subscription.sent_at > self._pace.line_seconds:
                laggards += 1
            if not self._over and self._blocked(tracked.request):
                continue
            elapsed = now - tracked.since
            if elapsed < SWEEP_S and not self._over:
                continue
            quote = subscription.quote()
            if subscription.updated_at is not None and tracked.request.ready(quote, elapsed):
                self._settle(subscription, quote, None)
            elif self._over or elapsed >= self._patience_s(subscription, quote):
                self._expire(subscription, tracked, quote)
        self._laggards = laggards
        for subscription in [s for s in self._ending if now - s.sent_at >= SNAPSHOT_S or self._stopped]:
            del self._ending[subscription]
            self._to_cancel.append(subscription)

    def _patience_s(self, subscription: Subscription, quote: Quote) -> float:
        """How long it is waited for; less where IB has said that a part is not permitted, and no market shows."""
        patience = SNAPSHOT_S if subscription.snapshot else self._rules.timeout_s
        refused = subscription.partly_permitted is not None and not quote.anything_traded
        return min(patience, self._rules.partial_s) if refused else patience

    def _expire(self, subscription: Subscription, tracked: TrackedRequest, quote: Quote) -> None:
        tracked.error = tracked.error or subscription.advisory
        if quote.anything_traded:
            self._settle(subscription, quote, None)
        elif (remark := subscription.partly_permitted) is not None:
            # Asking again for the same would be answered the same.
            if codes.offers_delayed(remark.message) and self._takes_delayed(subscription):
                self._resend(subscription, tracked)
            else:
                self._settle(subscription, quote, Failure("ib_error", remark.message, remark.code))
        elif self._over:
            self._settle(subscription, None, self._unanswered(tracked))
        elif not self._retry(subscription, tracked, 0.0):
            message = f"no answer within {self._rules.timeout_s:g} s"
            self._settle(subscription, None, because("timeout", message, tracked.error))

    def _retry(self, subscription: Subscription, tracked: TrackedRequest, delay_s: float) -> bool:
        """Queue the contract once more, later by `delay_s` doubling; False when it is out of retries or time."""
        delay = delay_s * 2 ** (tracked.tries - 1)
        if tracked.tries > self._rules.retries or self._stopped or delay >= self._seconds_left():
            return False
        del self._active[subscription]
        self._release(subscription)
        tracked.tries += 1
        self._queue.retry(tracked, time.monotonic() + delay)
        return True

    def _resend(self, subscription: Subscription, tracked: TrackedRequest) -> None:
        """Queue the contract as if it had not been asked: the broker, not the contract, had no answer."""
        del self._active[subscription]
        self._release(subscription)
        self._queue.put_back([tracked])

    def _settle(self, subscription: Subscription, quote: Quote | None, failure: Failure | None) -> None:
        tracked = self._active.pop(subscription)
        self._release(subscription)
        asof = subscription.updated_at if quote is not None else None
        if asof is not None and self._rules.ends_at is not None and asof >= self._rules.ends_at:
            quote, failure, asof = None, self._unanswered(tracked), None
        latency_s = time.monotonic() - subscription.sent_at
        self._outcomes.add(
            Outcome(tracked.request, subscription.requested_at, asof, quote, failure, latency_s, tracked.tries)
        )

    def _account_for_the_rest(self) -> None:
        """End what was sent and waits to be sent again: it is no more unasked than what has an answer."""
        for tracked in self._queue:
            if tracked.requested_at is not None:
                self._outcomes.add_unanswered(tracked, self._unanswered(tracked))

    def _unanswered(self, tracked: TrackedRequest) -> Failure:
        outages = self._outage_log.on(option=tracked.request.is_option, delayed=self._session.delayed)
        return unanswered(tracked.error, outages, lost=self.lost)

    # -- time ----------------------------------------------------------------------------------------------------

    def _seconds_left(self) -> float:
        ends_at = self._rules.ends_at
        return math.inf if ends_at is None else self._session.clock.wall_seconds_until(ends_at)

    def _time_is_over(self) -> bool:
        return self._rules.ends_at is not None and self._session.clock.now() >= self._rules.ends_at

    # -- outages -------------------------------------------------------------------------------------------------

    def outage_began(self, outage: Outage) -> None:
        """Hold what the outage covers; after a lost socket nothing is open any more."""
        now = time.monotonic()
        self._outage_log.begin(outage, now)
        self._probe.postpone(now)
        if outage.kind == "socket":
            self._resend_everything()
        self._wake.set()

    def outage_over(self, outage: Outage, *, data_lost: bool) -> None:
        """Go on: what was held has its full time again, and what was lost is asked again at once."""
        now = time.monotonic()
        self._outage_log.end(outage.kind, now)
        self._probe.withdraw()
        if data_lost:
            self._resend_everything()
        for tracked in self._active.values():
            if outage.concerns(option=tracked.request.is_option):
                tracked.since = now
        self._wake.set()

    def _blocked(self, request: QuoteRequest) -> bool:
        return bool(self._outage_log and self._outage_log.on(option=request.is_option, delayed=self._session.delayed))

    def _resend_everything(self) -> None:
        self._queue.put_back(list(self._active.values()))
        self._active.clear()
        self._ending.clear()
        self._to_cancel.clear()

    def _resend_probe(self) -> None:
        """Have the request that was sent during the outage sent once more: it may be lost."""
        probe = self._probe.withdraw()
        if probe is not None and (tracked := self._active.get(probe)):
            self._resend(probe, tracked)

    async def _reconnect(self) -> None:
        try:
            await self._session.reconnect(min(self._session.settings.reconnect_s, self._seconds_left()))
        except BrokerUnreachable as reason:
            self._over = self._time_is_over()
            self.lost = not self._over
            log.warning("reconnect_failed", reason=str(reason), waiting=len(self._queue))
