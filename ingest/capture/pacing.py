"""How fast the broker may be asked: messages a second, market data lines, and the mission's rollout presets."""

from dataclasses import dataclass

from aiolimiter import AsyncLimiter

from ingest.settings import Settings

# Lines kept free for the account's own windows in TWS.
SPARE_LINES = 2
BURST_S = 0.1
CUT = 0.7
RECOVERY = 1.02
LEAST_RATE = 1.0


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

    A pacing error cuts rate and window by a third; both recover with every answered contract.
    """

    def __init__(self, settings: Settings) -> None:
        self._preset = PRESETS[settings.acquisition.preset]
        lines = max(1, settings.ib.lines - SPARE_LINES)
        self._full_window = min(lines, self._preset.max_concurrent) if self._preset else lines
        self._full_rate = settings.ib.message_limit * settings.acquisition.head_room
        self._batches = AsyncLimiter(1, 60 / self._preset.requests_per_minute) if self._preset is not None else None
        self._admitted = 0
        self._window = float(self._full_window)
        self._set_rate(self._full_rate)

    @property
    def window(self) -> int:
        """How many subscriptions may be open at once."""
        return max(1, int(self._window))

    @property
    def rate(self) -> float:
        """Messages a second at present."""
        return self._rate

    async def message(self) -> None:
        """Wait until one more message may be sent."""
        await self._messages.acquire()

    async def admission(self) -> None:
        """Wait until the preset admits one more contract."""
        if self._batches is not None and self._preset is not None:
            if self._admitted % self._preset.max_concurrent == 0:
                await self._batches.acquire()
            self._admitted += 1

    def slow_down(self) -> None:
        """Answer a pacing error."""
        self._window = max(1.0, self._window * CUT)
        self._set_rate(max(LEAST_RATE, self._rate * CUT))

    def recover(self) -> None:
        """Answer a contract that went well."""
        if self._window < self._full_window:
            self._window = min(float(self._full_window), self._window + 0.1)
        if self._rate < self._full_rate:
            self._set_rate(min(self._full_rate, self._rate * RECOVERY))

    def _set_rate(self, rate: float) -> None:
        self._rate = rate
        # A shallow bucket: a full second's burst on top of the rate would overrun IB's own bucket.
        depth = max(1.0, rate * BURST_S)
        self._messages = AsyncLimiter(depth, depth / rate)
