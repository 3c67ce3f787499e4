"""Pipeline time: the one clock that rows, windows and schedules are told by.

With a real gateway it is the host's clock; with the simulated one it is the gateway's market clock, so that a day
recorded in 2015 gets the instants of 2015. Budgets and limits stay in wall-clock time.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from ingest.errors import BrokerUnreachable

LONGEST_SLEEP_S = 30.0


class Clock(Protocol):
    """Tells the pipeline's time."""

    def now(self) -> datetime:
        """The current instant, UTC."""
        ...

    def wall_seconds_until(self, instant: datetime) -> float:
        """Wall-clock seconds until the clock shows `instant`; infinite when it stands still before it."""
        ...


class HostClock:
    """The host's clock."""

    def now(self) -> datetime:
        """The current instant, UTC."""
        return datetime.now(UTC)

    def wall_seconds_until(self, instant: datetime) -> float:
        """Seconds until `instant`, 0 when it is past."""
        return max(0.0, (instant - self.now()).total_seconds())


@dataclass(slots=True)
class MarketClock:
    """The market clock of a simulated gateway: ``at + speed x wall-clock seconds since it was read``.

    A `speed` of 0 is a clock that is stepped from outside.
    """

    at: datetime
    speed: float
    read_at: float

    def now(self) -> datetime:
        """The current market instant, UTC."""
        return self.at + timedelta(seconds=self.speed * (time.monotonic() - self.read_at))

    def wall_seconds_until(self, instant: datetime) -> float:
        """Wall-clock seconds until the market clock shows `instant`."""
        ahead = (instant - self.now()).total_seconds()
        if ahead <= 0:
            return 0.0
        return ahead / self.speed if self.speed else float("inf")


def shown_at(clock: Clock, host_instant: datetime, host_now: datetime) -> datetime:
    """What `clock` showed, or will show, when the host's clock shows `host_instant`; `host_now` is what that shows now.

    A clock that is stepped stands where it stands. A simulated clock that was set in between is not known to have been.
    """
    if isinstance(clock, MarketClock):
        return clock.now() + clock.speed * (host_instant - host_now)
    return host_instant


class ControlPort:
    """Client of a simulated gateway's control port: one JSON object a line, each way."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    async def read_clock(self) -> MarketClock:
        """The market clock as it stands."""
        return self._clock(await self.call({"op": "now"}))

    async def step(self, instant: datetime) -> MarketClock:
        """Set the market clock to `instant`; its speed stays."""
        return self._clock(await self.call({"op": "set", "at": instant.isoformat()}))

    async def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and return the answer. Raises BrokerUnreachable when there is none, or it is a refusal."""
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                try:
                    writer.write(json.dumps(request).encode() + b"\n")
                    answer: dict[str, Any] = json.loads(await reader.readline())
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            raise BrokerUnreachable(f"control port {self.host}:{self.port} does not answer: {error}") from error
        if not answer.get("ok"):
            raise BrokerUnreachable(f"control port {self.host}:{self.port} refused: {answer.get('error')}")
        return answer

    @staticmethod
    def _clock(answer: dict[str, Any]) -> MarketClock:
        return MarketClock(datetime.fromisoformat(answer["now"]), float(answer["speed"]), time.monotonic())


async def sleep_until(clock: Clock, instant: datetime) -> None:
    """Return once `clock` shows `instant`. Sleeps in pieces, so that a host that was suspended wakes in time."""
    while (left := clock.wall_seconds_until(instant)) > 0:
        await asyncio.sleep(min(left, LONGEST_SLEEP_S))
