"""How fast the broker may be asked: messages a second, market data lines, and the rollout presets."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence

from aiolimiter import AsyncLimiter

from ingest.broker.codes import LINES_EXHAUSTED
from ingest.broker.line_budget import (
    ASSUMED_LINE_SECONDS,
    CUT,
    EVENT_S,
    PRESETS,
    RAISE_EVERY_S,
    SPARE_LINES,
    LineBudget,
    Preset,
)
from ingest.settings import AcquisitionSettings, IbSettings

# The bucket's depth in seconds and messages: enough for a loop that wakes late, and far from IB's one second.
BURST_S, LEAST_BURST = 0.15, 3.0
# Additive raise, multiplicative cut. IB ends a connection at its third error 100: after one, the rate at which it
# happened is not tried again.
CEILING, RAISE_RATE_S = 0.8, 60.0
# IB's bucket fills up while nothing is sent.
QUIET_S = 1.0
LEAST_RATE = 1.0
WINDOW_MARGIN, LEAST_WINDOW = 1.5, 4


class Pace:
    """The budget of one connection: every message takes a token, every subscription a line of `lines`.

    The window of subscriptions that are expected to answer is message rate x time to answer, as measured, with a
    margin; those that have not answered in that time only hold their line. Errors 100 and 420 cut the rate, 101 the
    lines, once an event; both rise again slowly. Connections to one gateway share their `lines`. With `cancels_free`
    IB does not count cancels. Time is wall-clock, from `monotonic`.
    """

    def __init__(
        self,
        ib: IbSettings,
        acquisition: AcquisitionSettings,
        monotonic: Callable[[], float] = time.monotonic,
        lines: LineBudget | None = None,
        *,
        cancels_free: bool = False,
    ) -> None:
        self._monotonic = monotonic
        self._shared = lines or LineBudget(ib, acquisition, monotonic)
        self.cancels_free = cancels_free
        self._full_rate = self._ceiling = ib.message_limit * acquisition.head_room
        self._rate_event_until = self._quiet_until = -math.inf
        self._raised_at = monotonic()
        self._set_rate(self._full_rate)

    # -- messages ------------------------------------------------------------------------------------------------

    @property
    def rate(self) -> float:
        """Messages a second at present."""
        return self._rate

    @property
    def quiet(self) -> bool:
        """Whether nothing may be sent for a moment, because an error 100 has just come."""
        return self._monotonic() < self._quiet_until

    async def message(self) -> None:
        """Wait until one more message may be sent."""
        while (left := self._quiet_until - self._monotonic()) > 0:
            await asyncio.sleep(left)
        await self._messages.acquire()

    # -- contracts -----------------------------------------------------------------------------------------------

    @property
    def lines(self) -> int:
        """Market data lines that all connections to the gateway may have in use at once."""
        return self._shared.lines

    @property
    def line_seconds(self) -> float:
        """Seconds within which nine of ten contracts that answer have answered."""
        return self._shared.line_seconds

    @property
    def measured(self) -> bool:
        """Whether `line_seconds` was measured."""
        return self._shared.measured

    def window(self, messages_each: int = 2) -> int:
        """How many contracts may be expected to answer at once when each takes so many messages."""
        wanted = self._rate / messages_each * self.line_seconds * WINDOW_MARGIN
        return min(self.lines, LEAST_WINDOW + math.ceil(wanted))

    def admits(self) -> bool:
        """Whether the preset admits one more contract now."""
        return self._shared.admits()

    async def admission(self) -> None:
        """Wait until the preset admits one more contract, and count it."""
        await self._shared.admission()

    def answered(self, seconds: float) -> None:
        """Learn how long a contract took to answer."""
        self._shared.answered(seconds)

    # -- errors --------------------------------------------------------------------------------------------------

    def pacing_error(self, code: int, lines_in_use: int) -> None:
        """Answer an error 100, 101 or 420; the others of the same burst change nothing more."""
        now = self._monotonic()
        if code == LINES_EXHAUSTED:
            self._shared.exhausted(lines_in_use)
        else:
            self._shared.postpone()
            if now >= self._rate_event_until:
                self._rate_event_until = now + EVENT_S
                self._quiet_until = now + QUIET_S
                self._ceiling = max(LEAST_RATE, self._rate * CEILING)
                self._set_rate(max(LEAST_RATE, self._rate * CUT))
        self._raised_at = now

    def recover(self) -> None:
        """Raise what was cut, by the time that has gone by."""
        self._shared.recover()
        now = self._monotonic()
        seconds = now - self._raised_at
        if seconds < RAISE_EVERY_S:
            return
        self._raised_at = now
        if self._rate < self._ceiling:
            self._set_rate(min(self._ceiling, self._rate + self._full_rate * seconds / RAISE_RATE_S))

    def _set_rate(self, rate: float) -> None:
        self._rate = rate
        depth = max(LEAST_BURST, rate * BURST_S)
        self._messages = AsyncLimiter(depth, depth / rate)


class PoolPace:
    """The budgets of several connections to one gateway, as one: their rates add up, their lines are shared."""

    def __init__(self, paces: Sequence[Pace]) -> None:
        self.each = tuple(paces)

    @property
    def rate(self) -> float:
        """Messages a second at present, of all connections."""
        return sum(pace.rate for pace in self.each)

    @property
    def cancels_free(self) -> bool:
        """Whether IB does not count cancels."""
        return self.each[0].cancels_free

    @property
    def lines(self) -> int:
        """Market data lines that may be in use at once."""
        return self.each[0].lines

    @property
    def line_seconds(self) -> float:
        """Seconds within which nine of ten contracts that answer have answered."""
        return self.each[0].line_seconds

    @property
    def measured(self) -> bool:
        """Whether `line_seconds` was measured."""
        return self.each[0].measured

    def window(self, messages_each: int = 2) -> int:
        """How many contracts may be expected to answer at once when each takes so many messages."""
        return min(self.lines, sum(pace.window(messages_each) for pace in self.each))


__all__ = ["ASSUMED_LINE_SECONDS", "PRESETS", "SPARE_LINES", "LineBudget", "Pace", "PoolPace", "Preset"]
