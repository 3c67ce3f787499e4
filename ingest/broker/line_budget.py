"""What the connections to one gateway share: market data lines, the time a contract holds one, a stage's batches."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from aiolimiter import AsyncLimiter

from ingest.settings import AcquisitionSettings, IbSettings

# Lines kept free for the account's own windows in TWS.
SPARE_LINES = 2
CUT, RAISE_LINES_S, RAISE_EVERY_S = 0.7, 600.0, 1.0
# Errors of one burst are one event.
EVENT_S = 2.0
# How long an answer takes is remembered for so many answers; before the first, this is assumed.
REMEMBERED, ASSUMED_LINE_SECONDS, LINE_SECONDS_QUANTILE = 200, 1.0, 0.9


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


class LineBudget:
    """The market data lines of one gateway under a preset, and how long a contract holds one.

    IB counts lines by account and messages by connection: connections to one gateway have one `LineBudget`, and a
    `Pace` each. Error 101 cuts the lines, once an event; they rise again slowly. Time is wall-clock, from `monotonic`.
    """

    def __init__(
        self, ib: IbSettings, acquisition: AcquisitionSettings, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic = monotonic
        self._preset = PRESETS[acquisition.preset]
        lines = max(1, ib.lines - SPARE_LINES)
        self._full = min(lines, self._preset.max_concurrent) if self._preset else lines
        self._lines = float(self._full)
        self._batches = AsyncLimiter(1, 60 / self._preset.requests_per_minute) if self._preset is not None else None
        self._admitted = 0
        self._answers: deque[float] = deque(maxlen=REMEMBERED)
        self._line_seconds: float | None = None
        self._event_until = -math.inf
        self._raised_at = monotonic()

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

    def answered(self, seconds: float) -> None:
        """Learn how long a contract took to answer."""
        self._answers.append(seconds)
        ordered = sorted(self._answers)
        self._line_seconds = ordered[int(LINE_SECONDS_QUANTILE * (len(ordered) - 1))]

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

    def exhausted(self, lines_in_use: int) -> None:
        """Answer an error 101 while all connections hold so many lines; others of the same burst change nothing."""
        now = self._monotonic()
        if now >= self._event_until:
            self._event_until = now + EVENT_S
            self._lines = max(1.0, min(self._lines, lines_in_use) * CUT)
        self.postpone()

    def postpone(self) -> None:
        """Begin to wait for the next raise: something went wrong just now."""
        self._raised_at = self._monotonic()

    def recover(self) -> None:
        """Raise what was cut, by the time that has gone by."""
        now = self._monotonic()
        if (seconds := now - self._raised_at) >= RAISE_EVERY_S:
            self._raised_at = now
            self._lines = min(float(self._full), self._lines + self._full * seconds / RAISE_LINES_S)
