"""IB's limits on historical requests, in wall-clock time.

The rules: the same request not within 15 seconds; not six within two seconds for one contract, exchange and kind; not
more than 60 within ten minutes; one for bids and asks counts twice; 50 may be open (TWS API, historical data
limitations). IB's page states the first three for bars of 30 seconds and less, and that bars of a minute and more have
been freed of them. All of it is counted for the account: the history service knows the login and not its API clients.
"""

import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Literal, NamedTuple

PacingRule = Literal["all", "small", "off"]

IDENTICAL_SECONDS = 15.0
BURST, BURST_SECONDS = 6, 2.0
MOST, MOST_SECONDS = 60, 600.0
MOST_OPEN = 50
SMALL_BAR_SECONDS = 30


class _Admitted(NamedTuple):
    at: float
    identity: Hashable
    series: Hashable
    weight: int


class HistoryPacing:
    """Which requests are paced, and which of them come too soon. What is refused does not count."""

    def __init__(self, rule: PacingRule = "all", monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rule = rule
        self._monotonic = monotonic
        self._admitted: deque[_Admitted] = deque()

    def admit(self, identity: Hashable, series: Hashable, *, weight: int, bar_seconds: int) -> bool:
        """Count a request; False when it comes too soon.

        `identity` is the whole request, `series` its contract, exchange and kind; `weight` is 2 for bids and asks.
        """
        if self._rule == "off" or (self._rule == "small" and bar_seconds > SMALL_BAR_SECONDS):
            return True
        now = self._monotonic()
        while self._admitted and now - self._admitted[0].at >= MOST_SECONDS:
            self._admitted.popleft()
        recent = [one for one in self._admitted if now - one.at < BURST_SECONDS and one.series == series]
        if (
            any(one.identity == identity and now - one.at < IDENTICAL_SECONDS for one in self._admitted)
            or sum(one.weight for one in recent) + weight >= BURST
            or sum(one.weight for one in self._admitted) + weight > MOST
        ):
            return False
        self._admitted.append(_Admitted(now, identity, series, weight))
        return True


class HistoryLimits:
    """The limits of the account's history: pacing, and how many requests are open."""

    def __init__(self, pacing: HistoryPacing, most_open: int = MOST_OPEN) -> None:
        self.pacing = pacing
        self.open = 0
        self._most_open = most_open

    @property
    def full(self) -> bool:
        """Whether as many requests are open as may be."""
        return self.open >= self._most_open
