"""The one request that is sent during an outage all the same: it finds out whether the outage is over."""

import math
from collections.abc import Container

from ingest.broker import Subscription


class OutageProbe:
    """When a request may be sent as a probe, every `every_s`, and which one that was. Seconds are monotonic.

    A probe has `timeout_s` to answer, the time of any contract: withdrawn sooner, it would never show that all is well.
    """

    def __init__(self, every_s: float, timeout_s: float) -> None:
        self._every_s, self._timeout_s = every_s, timeout_s
        self._sent: Subscription | None = None
        self._next_at = -math.inf

    def allow_at_once(self) -> None:
        """An outage of before may be over without a word."""
        self._next_at = -math.inf

    def postpone(self, now: float) -> None:
        """An outage has just begun."""
        self._next_at = now + self._every_s

    def sent(self, subscription: Subscription, now: float) -> None:
        """A request was sent as a probe."""
        self._sent = subscription
        self._next_at = now + self._every_s

    def may_be_sent(self, now: float, open_requests: Container[Subscription]) -> bool:
        """Whether it is time for one, and the last one has had its time."""
        if self._sent is not None and self._sent in open_requests and now - self._sent.sent_at < self._timeout_s:
            return False
        return now >= self._next_at

    def withdraw(self) -> Subscription | None:
        """Forget the last probe; returns it."""
        sent, self._sent = self._sent, None
        return sent
