"""Many short timers on one event-loop timer."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

# Ticks that fall due within this many seconds of each other leave together, in one packet a connection.
GRAIN = 0.002


class Timers:
    """Calls functions at wall-clock times of the loop, in order; one loop handle however many are waiting."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._handle: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many functions wait."""
        return len(self._heap)

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call `function` once, `seconds` from now."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        heapq.heappush(self._heap, (due, next(self._order), function))
        if self._handle is None or due < self._handle.when() - GRAIN:
            self._arm(loop)

    def close(self) -> None:
        """Forget everything that waits."""
        self._heap.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = loop.call_at(self._heap[0][0] + GRAIN, self._run) if self._heap else None

    def _run(self) -> None:
        self._handle = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        try:
            while self._heap and self._heap[0][0] <= now:
                heapq.heappop(self._heap)[2]()
        finally:
            if self._heap and self._handle is None:
                self._arm(loop)
