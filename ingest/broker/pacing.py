"""How fast the broker may be asked: messages a second, market data lines, and the rollout presets."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from aiolimiter import AsyncLimiter

from ingest.broker.codes import LINES_EXHAUSTED
from ingest.settings import AcquisitionSettings, IbSettings

# Lines kept free for the account's own windows in TWS.
SPARE_LINES = 2
# The bucket's depth in seconds and messages: enough for a loop that wakes late, and far from IB's one second.
BURST_S, LEAST_BURST = 0.15, 3.0
# Additive raise, multiplicative cut. IB ends a connection at its third error 100: after one, the rate at which it
# happened is not tried again.
CUT, CEILING = 0.7, 0.8
RAISE_RATE_S, RAISE_LINES_S, RAISE_EVERY_S = 60.0, 600.0, 1.0
# Errors of one burst are one event; and IB's bucket fills up while nothing is sent.
EVENT_S, QUIET_S = 2.0, 1.0
LEAST_RATE = 1.0
# How long an answer takes is remembered for so many answers; before the first, this is assumed.
REMEMBERED, ASSUMED_LINE_SECONDS, LINE_SECONDS_QUANTILE = 200, 1.0, 0.9
WINDOW_MARGIN, LEAST_WINDOW = 1.5, 4


@dataclass(frozen=True, slots=True)
class Preset:
    """A rollout stage: `requests_per_minute` batches of up to `max_concurrent` contracts each."""

    requests_per_minute: float
    max_concurrent: int


PRESETS: dict[str, Preset | None] = {
    "stage-0": Preset(30, 10),
    "stage-1": Preset(45, 12),
    "stage-1-approved": Preset(30, 14),
    "stage-2": Preset(60, 16),
    "stage-3": Preset(90, 20),
    "ib-limit": None,
}


class Pace:
    """The budget of one connection: every message takes a token, every subscription a line.

    The window of subscriptions that are expected to answer is message rate x time to answer, as measured, with a
    margin; those that have not answered in that time only hold their line. Errors 100 and 420 cut the rate, 101 the
    lines, once an event; both rise again slowly. Time is wall-clock, from `monotonic`.
    """

    def __init__(
        self, ib: IbSettings, acquisition: AcquisitionSettings, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic = monotonic
        self._preset = PRESETS[acquisition.preset]
        lines = max(1, ib.lines - SPARE_LINES)
        self._full_lines = min(lines, self._preset.max_concurrent) if self._preset else lines
        self._full_rate = self._ceiling = ib.message_limit * acquisition.head_room
        self._batches = AsyncLimiter(1, 60 / self._preset.requests_per_minute) if self._preset is not None else None
        self._admitted = 0
        self._lines = float(self._full_lines)
        self._line_times: deque[float] = deque(maxlen=REMEMBERED)
        self._line_seconds: float | None = None
        now = monotonic()
        self._rate_event_until = self._lines_event_until = self._quiet_until = -math.inf
        self._raised_at = now
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
        """Market data lines that may be in use at once."""
        return max(1, int(self._lines))

    @property
    def line_seconds(self) -> float:
        """Seconds within which nine of ten contracts that answer have answered."""
        return ASSUMED_LINE_SECONDS if self._line_seconds is None else self._line_seconds

    @property
    def measured(self) -> bool:
        """Whether `line_seconds` was measured."""
        return self._line_seconds is not None

    def window(self, messages_each: int = 2) -> int:
        """How many contracts may be expected to answer at once when each takes so many messages."""
        wanted = self._rate / messages_each * self.line_seconds * WINDOW_MARGIN
        return min(self.lines, LEAST_WINDOW + math.ceil(wanted))

    def admits(self) -> bool:
        """Whether the preset admits one more contract now."""
        return self._batches is None or not self._begins_batch or self._batches.has_capacity()

    async def admission(self) -> None:
        """Wait until the preset admits one more contract, and count it."""
        if self._batches is not None:
            if self._begins_batch:
                await self._batches.acquire()
            self._admitted += 1

    @property
    def _begins_batch(self) -> bool:
        return self._preset is not None and self._admitted % self._preset.max_concurrent == 0

    def answered(self, seconds: float) -> None:
        """Learn how long a contract took to answer."""
        self._line_times.append(seconds)
        ordered = sorted(self._line_times)
        self._line_seconds = ordered[int(LINE_SECONDS_QUANTILE * (len(ordered) - 1))]

    # -- errors --------------------------------------------------------------------------------------------------

    def pacing_error(self, code: int, lines_in_use: int) -> None:
        """Answer an error 100, 101 or 420; the others of the same burst change nothing more."""
        now = self._monotonic()
        if code == LINES_EXHAUSTED:
            if now >= self._lines_event_until:
                self._lines_event_until = now + EVENT_S
                self._lines = max(1.0, min(self._lines, lines_in_use) * CUT)
        elif now >= self._rate_event_until:
            self._rate_event_until = now + EVENT_S
            self._quiet_until = now + QUIET_S
            self._ceiling = max(LEAST_RATE, self._rate * CEILING)
            self._set_rate(max(LEAST_RATE, self._rate * CUT))
        self._raised_at = now

    def recover(self) -> None:
        """Raise what was cut, by the time that has gone by."""
        now = self._monotonic()
        seconds = now - self._raised_at
        if seconds < RAISE_EVERY_S:
            return
        self._raised_at = now
        self._lines = min(float(self._full_lines), self._lines + self._full_lines * seconds / RAISE_LINES_S)
        if self._rate < self._ceiling:
            self._set_rate(min(self._ceiling, self._rate + self._full_rate * seconds / RAISE_RATE_S))

    def _set_rate(self, rate: float) -> None:
        self._rate = rate
        depth = max(LEAST_BURST, rate * BURST_S)
        self._messages = AsyncLimiter(depth, depth / rate)
