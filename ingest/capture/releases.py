"""Subscriptions whose contract has its outcome, or another try, and that still hold a market data line."""

import time
from collections import deque
from collections.abc import Iterator

from ingest.broker import Subscription

# IB ends a snapshot after up to 11 s. One that it forgets to end is cancelled, so that its line comes back.
SNAPSHOT_S = 12.0


class Releases:
    """What waits for its cancel, and snapshots that IB ends by itself."""

    def __init__(self) -> None:
        self._to_cancel: deque[Subscription] = deque()
        self._ending: dict[Subscription, None] = {}

    def __iter__(self) -> Iterator[Subscription]:
        yield from self._ending
        yield from self._to_cancel

    @property
    def waiting(self) -> bool:
        """Whether a cancel is due."""
        return bool(self._to_cancel)

    @property
    def ending(self) -> bool:
        """Whether a snapshot is still open."""
        return bool(self._ending)

    def add(self, subscription: Subscription) -> None:
        """An open subscription is needed no more."""
        if subscription.snapshot and time.monotonic() - subscription.sent_at < SNAPSHOT_S:
            self._ending[subscription] = None
        else:
            self._to_cancel.append(subscription)

    def cancel_again(self, subscriptions: list[Subscription]) -> None:
        """Their cancel may not have reached IB."""
        self._to_cancel.extend(subscriptions)

    def next(self) -> Subscription:
        """Take the one that is cancelled next."""
        return self._to_cancel.popleft()

    def ended(self, subscription: Subscription) -> None:
        """IB has ended a snapshot."""
        self._ending.pop(subscription, None)

    def give_up_waiting(self, *, for_all: bool) -> None:
        """Cancel the snapshots that IB has forgotten to end, or `for_all` of them."""
        now = time.monotonic()
        for subscription in [one for one in self._ending if for_all or now - one.sent_at >= SNAPSHOT_S]:
            del self._ending[subscription]
            self._to_cancel.append(subscription)

    def clear(self) -> None:
        """All are gone with their socket."""
        self._to_cancel.clear()
        self._ending.clear()
