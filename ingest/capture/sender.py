"""One connection of a capture: a sliding window of requests, paced by messages, each accounted for."""

import asyncio
import math
import time
from typing import Literal

import structlog

from ingest.broker import BrokerSession, NullWatcher, Outage, Quote, Subscription, codes
from ingest.broker.pacing import Pace
from ingest.capture.modes import messages_of
from ingest.capture.outage_log import OutageLog
from ingest.capture.outage_probe import OutageProbe
from ingest.capture.outcomes import Failure, Outcome, because, unanswered
from ingest.capture.releases import SNAPSHOT_S, Releases
from ingest.capture.requests import QuoteRequest, TrackedRequest
from ingest.capture.rules import CaptureRules
from ingest.capture.shared import SharedCapture
from ingest.contracts import OptionContract
from ingest.errors import BrokerUnreachable

log = structlog.get_logger(__name__)

SWEEP_S = 0.05
STALL_S = 0.25
State = Literal["asking", "suspended", "reconnecting", "finishing"]


class Sender:
    """Takes requests from the queue that is `shared`, and sends them over one connection.

    Each ends in exactly one Outcome or is never sent. When the pipeline's clock shows the rules' `ends_at`, what is
    open ends as it is and nothing more is sent. An outage of the broker costs no request a try: what it covers is held
    back, and sent again where its subscription is gone. A lost socket is sought for ``ib.reconnect_s``; `lost` says
    that it did not come back. What was asked on it is the next for the other connections. `outages` tells what was met.
    """

    def __init__(
        self, session: BrokerSession, pace: Pace, rules: CaptureRules, shared: SharedCapture, pacing_backoff_s: float
    ) -> None:
        self._session, self._pace, self._rules, self._shared = session, pace, rules, shared
        self._pacing_backoff_s = pacing_backoff_s
        shared.join(self)
        self._queue = shared.queue
        self._active: dict[Subscription, TrackedRequest] = {}
        self._releases = Releases()
        self.outages = OutageLog()
        self._probe = OutageProbe(rules.probe_s, rules.timeout_s)
        self._wake = asyncio.Event()
        self._has_token = False
        self._cancelled_last = False
        self._falls_back = False
        self._over = False
        self._laggards = 0
        self._next_sweep = 0.0
        self._stalled = False
        self.lost = False

    @property
    def state(self) -> State:
        """What it does: asks, holds during an outage, seeks the lost socket, or finishes what is open."""
        if self._stopped:
            return "finishing"
        if "socket" in self.outages:
            return "reconnecting"
        return "suspended" if self.outages else "asking"

    @property
    def open_requests(self) -> int:
        """Requests that were sent and have no outcome yet."""
        return len(self._active)

    @property
    def lines_in_use(self) -> int:
        """Market data lines that the connection holds."""
        return self._session.lines_in_use

    def begin(self) -> None:
        """Watch the session, whose outages count from now on."""
        self._session.watcher = self
        for outage in self._session.outages:
            self.outage_began(outage)
        self._probe.allow_at_once()

    async def end(self) -> None:
        """Give up what is open. Also when the step is cancelled: no line stays open."""
        self._session.watcher = NullWatcher()
        await self._cancel_all()
        self.outages.end_all(time.monotonic())

    # -- messages ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask until nothing is left, here or on another connection that may give it back, or it is stopped."""
        # Each message gives way to the socket once: a budget with tokens to spare must not starve what arrives.
        while True:
            self._sweep()
            if self.state == "reconnecting" and (self._shared.alone or self._shared.unfinished):
                await self._reconnect()
            elif self._has_message_to_send():
                await self._take_token()
                await self._send()
                await asyncio.sleep(0)
            elif self._active or self._releases.ending or (self._shared.unfinished and not self._stopped):
                await self._sleep_until_something_happens()
            else:
                return

    async def _take_token(self) -> None:
        # A token that was not used, as another connection was faster, is there for the next message.
        if not self._has_token and not (self._pace.cancels_free and self._releases.waiting and not self._falls_back):
            await self._pace.message()
            self._has_token = True

    @property
    def _stopped(self) -> bool:
        return self._over or self.lost

    def _has_message_to_send(self) -> bool:
        if self._pace.quiet:
            return False
        return self._releases.waiting or self._falls_back or self._next_request() is not None

    async def _send(self) -> None:
        """Send the one message whose turn it is: what was next before the wait for a token may not be any more."""
        if not self._session.connected:
            return
        if self._falls_back:
            self._falls_back = self._has_token = False
            self._session.fall_back_to_delayed()
            return
        tracked = self._next_request() if self._has_token else None
        # Cancel and subscribe in turns: each cancel frees a line, and a wave of them must not keep new ones waiting.
        if self._releases.waiting and (tracked is None or not self._cancelled_last):
            self._cancelled_last = True
            self._has_token = self._has_token and self._pace.cancels_free
            self._session.cancel(self._releases.next())
            self._shared.line_freed(self)
        elif tracked is not None:
            self._cancelled_last = False
            await self._pace.admission()
            self._subscribe(tracked)

    def _next_request(self) -> TrackedRequest | None:
        """The request that may be asked now, if any."""
        if self._stopped or self._falls_back or not len(self._queue):
            return None
        now = time.monotonic()
        tracked = self._queue.next(now, self._blocked if self.outages else None, self)
        if tracked is None and self.outages and self._probe.may_be_sent(now, self._active):
            self._resend_probe()
            tracked = self._queue.next(now)
        if tracked is None or not self._shared.has_line_for(self, self._pace.lines) or not self._pace.admits():
            return None
        expected = len(self._active) - self._laggards
        messages = messages_of("snapshot" if tracked.request.snapshot else "streaming", self._pace.cancels_free)
        return tracked if expected < self._pace.window(messages) else None

    def _subscribe(self, tracked: TrackedRequest) -> None:
        request, session = tracked.request, self._session
        # While the stage's admission was awaited another connection may have taken it.
        if self._time_is_over() or not session.connected or not self._queue.is_first(tracked, self):
            return
        # During an outage it is a probe: its pair is not reserved for a connection that cannot go on.
        self._queue.take(tracked, None if self._shared.alone or self.outages else self)
        self._has_token = False
        self._shared.line_taken(self)
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
        for subscription in (*self._active, *self._releases):
            if self._session.connected and subscription.is_open:
                await self._pace.message()
            self._session.cancel(subscription)
        self._active.clear()
        self._releases.clear()

    def _release(self, subscription: Subscription) -> None:
        """Give up a subscription: with a cancel where IB may hold a line for it."""
        if subscription.is_open:
            self._releases.add(subscription)
        else:
            self._session.cancel(subscription)
        self._wake.set()

    # -- what becomes of a request --------------------------------------------------------------------------------

    def updated(self, subscription: Subscription) -> None:
        """Ticks or an error arrived, or a snapshot ended."""
        tracked = self._active.get(subscription)
        if tracked is None:
            if not subscription.is_open:
                self._releases.ended(subscription)
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
        self._pace.pacing_error(code, self._shared.lines_in_use)
        log.warning("pacing_error", code=code, rate=round(self._pace.rate, 1), lines=self._pace.lines)
        if code != codes.LINES_EXHAUSTED:
            self._releases.cancel_again(self._session.doubtful_cancels())

    def _fail(self, subscription: Subscription, tracked: TrackedRequest) -> None:
        error = tracked.error = subscription.error
        assert error is not None
        unpermitted = error.code in codes.NO_LIVE_PERMISSION
        if error.code == codes.COMPETING_SESSION or (unpermitted and self._takes_delayed(subscription)):
            self._resend(subscription, tracked)
        elif error.code in codes.PACING:
            if not self._retry(subscription, tracked, self._pacing_backoff_s):
                self._settle(subscription, None, Failure("pacing", error.message, error.code))
        elif error.code in codes.FINAL | codes.NO_LIVE_PERMISSION or not self._retry(subscription, tracked, 0.0):
            self._settle(subscription, None, Failure("ib_error", error.message, error.code))

    def _takes_delayed(self, subscription: Subscription) -> bool:
        """Whether delayed data is asked for instead of what was refused; from now on, if it was not before."""
        if not self._rules.delayed_fallback or subscription.delayed or self._stopped:
            return False
        if not self._session.delayed:
            self._shared.fall_back_to_delayed()
        return True

    def ask_for_delayed(self) -> None:
        """Ask for delayed data before anything else, unless that is done."""
        self._falls_back = not self._session.asks_for_delayed

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
        self._releases.give_up_waiting(for_all=self._stopped)

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
        self._shared.outcomes.add(
            Outcome(tracked.request, subscription.requested_at, asof, quote, failure, latency_s, tracked.tries)
        )

    def account_for_the_rest(self) -> None:
        """End what was sent and waits to be sent again: it is no more unasked than what has an answer."""
        for tracked in self._queue:
            if tracked.requested_at is not None:
                self._shared.outcomes.add_unanswered(tracked, self._unanswered(tracked))

    def _unanswered(self, tracked: TrackedRequest) -> Failure:
        outages = self.outages.on(option=tracked.request.is_option, delayed=self._session.delayed)
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
        self.outages.begin(outage, now)
        self._probe.postpone(now)
        self._queue.unreserve(self)
        if outage.kind == "socket":
            self._resend_everything()
        self._wake.set()

    def outage_over(self, outage: Outage, *, data_lost: bool) -> None:
        """Go on: what was held has its full time again, and what was lost is asked again at once."""
        now = time.monotonic()
        self.outages.end(outage.kind, now)
        self._probe.withdraw()
        if data_lost:
            self._resend_everything()
        for tracked in self._active.values():
            if outage.concerns(option=tracked.request.is_option):
                tracked.since = now
        self._wake.set()

    def _blocked(self, request: QuoteRequest) -> bool:
        return bool(self.outages and self.outages.on(option=request.is_option, delayed=self._session.delayed))

    def _resend_everything(self) -> None:
        self._queue.put_back(list(self._active.values()))
        self._active.clear()
        self._releases.clear()

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
