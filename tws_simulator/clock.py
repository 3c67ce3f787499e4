"""The market clock: the only time that anything shown by the gateway depends on.

Limits (messages a second, snapshots of 11 s) are wall-clock and do not use it.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from ingest.calendar.sessions import UTC
from tws_simulator.errors import GatewayError


def _host_time() -> datetime:
    return datetime.now(UTC)


class MarketClock:
    """``now = at + speed * (monotonic - anchor)``.

    ``speed`` 0 stands still until `set` is called (stepped), 1 is real time, more is accelerated. Without `at` the
    clock starts at the host's time. It follows the monotonic clock from then on, so a correction of the host's clock
    does not make the market jump.
    """

    def __init__(
        self,
        at: datetime | None = None,
        speed: float = 1.0,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        host_time: Callable[[], datetime] = _host_time,
    ) -> None:
        self._monotonic = monotonic
        self._listeners: list[Callable[[], None]] = []
        self._anchor(_utc(at) if at is not None else host_time(), _checked_speed(speed))

    @property
    def speed(self) -> float:
        """Market seconds per wall-clock second."""
        return self._speed

    @property
    def at(self) -> datetime:
        """The instant at which the clock was last set, UTC."""
        return self._at

    def now(self) -> datetime:
        """The market's instant, UTC, to the microsecond."""
        if not self._speed:
            return self._at
        return self._at + timedelta(seconds=self._speed * (self._monotonic() - self._since))

    def set(self, at: datetime) -> None:
        """Put the clock at `at`; the speed stays."""
        self._anchor(_utc(at), self._speed)

    def set_speed(self, speed: float) -> None:
        """Go on from the present instant at `speed`."""
        self._anchor(self.now(), _checked_speed(speed))

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every `set` and `set_speed` (not as time runs)."""
        self._listeners.append(listener)

    def _anchor(self, at: datetime, speed: float) -> None:
        self._at, self._speed, self._since = at, speed, self._monotonic()
        for listener in self._listeners:
            listener()


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise GatewayError(
            f"market clock: {at.isoformat()} has no time zone; write it with one, as in 2015-12-24T14:31Z"
        )
    return at.astimezone(UTC)


def _checked_speed(speed: float) -> float:
    if not 0 <= speed <= 1_000_000:
        raise GatewayError(f"market clock: speed {speed} is not between 0 (stepped) and 1,000,000")
    return float(speed)
