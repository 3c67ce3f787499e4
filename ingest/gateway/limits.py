"""IB's limits, in wall-clock time."""

import time
from collections.abc import Callable

# A client asks for seven things when it connects; a gateway with few lines must still let it in.
SMALLEST_BURST = 10.0
VIOLATIONS_ALLOWED = 2


class MessageBudget:
    """Messages of one client connection: a token bucket that holds one second's worth.

    A bucket and not a window: a strict window of one second at 50 ends clients that pace themselves at 45.
    """

    def __init__(self, rate: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.violations = 0
        self._capacity = max(rate, SMALLEST_BURST)
        self._tokens = self._capacity
        self._monotonic = monotonic
        self._since = monotonic()

    def take(self) -> bool:
        """Count one message; False when it is one too many."""
        now = self._monotonic()
        self._tokens = min(self._capacity, self._tokens + (now - self._since) * self.rate)
        self._since = now
        if self._tokens < 1.0:
            self.violations += 1
            return False
        self._tokens -= 1.0
        return True

    @property
    def exhausted(self) -> bool:
        """Whether the connection has to end: IB closes it at the third violation."""
        return self.violations > VIOLATIONS_ALLOWED


class MarketDataLines:
    """Lines of the account, shared by all its clients."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self.most_in_use = 0

    def take(self) -> bool:
        """Use one line; False when none is free."""
        if self.in_use >= self.limit:
            return False
        self.in_use += 1
        self.most_in_use = max(self.most_in_use, self.in_use)
        return True

    def release(self) -> None:
        """Give one line back."""
        self.in_use -= 1
