"""IB's limits, in wall-clock time, and what is unsettled about them."""

import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

# A client asks for seven things when it connects; a gateway with few lines must still let it in.
SMALLEST_BURST = 10.0
VIOLATIONS_ALLOWED = 2
MOST_CLIENTS = 32
SECOND = 1.0


class Rules(BaseModel):
    """What a setting of TWS decides, or what IB does not state: each with both behaviours.

    The reasons for the defaults, and where each was read, stand in docs/reference/gateway-limits.md.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    over_rate: Literal["reject", "pace"] = Field(
        "reject", description="messages above the rate: error 100, or they wait and are served later"
    )
    violation_per: Literal["message", "second"] = Field(
        "message", description="each excess message is a violation of the rate, or all within one second are one"
    )
    rate_per: Literal["connection", "session"] = Field(
        "connection", description="each client connection has the message rate, or all of the session share it"
    )
    excess: Literal["drop", "serve"] = Field("drop", description="what becomes of a message above the rate")
    cancels_count: bool = Field(True, description="whether a cancel counts as a message")
    snapshots_hold_lines: bool = Field(True, description="whether a snapshot request uses a line while it is open")
    client_id_lingers: float = Field(
        0.0, ge=0, description="seconds for which the id of a client that has gone stays in use (error 326)"
    )
    greeting_seconds: float = Field(
        60.0, ge=0, description="a connection without startApi is closed after this long; 0: never"
    )


class MessageBucket:
    """Messages of a connection, or of all of them: a token bucket that holds one second's worth.

    A bucket and not a window: a strict window of one second at 50 ends clients that pace themselves at 45.
    """

    def __init__(self, rate: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.monotonic = monotonic
        self._capacity = max(rate, SMALLEST_BURST)
        self._tokens = self._capacity
        self._since = monotonic()
        self._recent: deque[float] = deque()

    def take(self) -> bool:
        """Count one message; False when it is one too many."""
        now = self._refill()
        recent = self._recent
        recent.append(now)
        while recent[0] <= now - SECOND:
            recent.popleft()
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def wait(self) -> float:
        """Seconds until the next message is within the rate; 0 when it is now."""
        self._refill()
        return max(1.0 - self._tokens, 0.0) / self.rate

    @property
    def received(self) -> int:
        """Messages counted in the second that ended with the latest one."""
        return len(self._recent)

    def _refill(self) -> float:
        now = self.monotonic()
        self._tokens = min(self._capacity, self._tokens + (now - self._since) * self.rate)
        self._since = now
        return now


class MessageBudget:
    """What one client connection may send: a bucket, which connections can share, and its own violations."""

    def __init__(self, bucket: MessageBucket, *, violation_per: Literal["message", "second"] = "message") -> None:
        self._bucket = bucket
        self.violations = 0
        self._violation_lasts = SECOND if violation_per == "second" else 0.0
        self._violated_until = bucket.monotonic()

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self._bucket.rate

    @property
    def received(self) -> int:
        """Messages counted in the second that ended with the latest one."""
        return self._bucket.received

    def take(self) -> bool:
        """Count one message; False when it is one too many."""
        return self._bucket.take()

    def wait(self) -> float:
        """Seconds until the next message is within the rate; 0 when it is now."""
        return self._bucket.wait()

    def violated(self) -> bool:
        """Count what was one too many as a violation; False when it belongs to the one that was counted last."""
        now = self._bucket.monotonic()
        if self.violations and now < self._violated_until:
            return False
        self.violations += 1
        self._violated_until = now + self._violation_lasts
        return True

    @property
    def exhausted(self) -> bool:
        """Whether the connection has to end: IB closes it at the third violation."""
        return self.violations > VIOLATIONS_ALLOWED


class MarketDataLines:
    """Lines of the account: one budget, whichever of its connections uses them."""

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
