"""When a fault is in force. Pure: every time comes in as an argument."""

import re
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from ingest.calendar.sessions import NEW_YORK

_MARKET_TIME = re.compile(r"(?:(\d{4}-\d\d-\d\d)[ T])?(\d\d:\d\d(?::\d\d)?)$")


@dataclass(frozen=True, slots=True)
class MarketTime:
    """A time of the New York clock: of every day, or of one ``day``."""

    clock: time
    day: date | None = None

    @classmethod
    def parse(cls, value: object) -> "MarketTime":
        """From ``10:30``, ``10:30:15`` or ``2026-11-20 10:30``. Raises ValueError."""
        if isinstance(value, cls):
            return value
        found = _MARKET_TIME.match(str(value).strip())
        if found is None:
            raise ValueError(f"{value!r} is no New York time; write it as 10:30 or 2026-11-20 10:30")
        return cls(time.fromisoformat(found[2]), date.fromisoformat(found[1]) if found[1] else None)

    def __str__(self) -> str:
        """As it is written in a scenario."""
        clock = self.clock.isoformat("seconds" if self.clock.second else "minutes")
        return f"{self.day} {clock}" if self.day else clock


Instant = Annotated[MarketTime, BeforeValidator(MarketTime.parse), PlainSerializer(str)]


class When(BaseModel):
    """The conditions of a fault; all that are given must hold, and none means from the start and for good.

    ``from`` and ``until``: New York time of the market clock (`until` is exclusive; a daily span may pass midnight).
    ``after``: wall-clock seconds since the gateway started. ``after_requests``: market data requests it has had.
    ``for``: wall-clock seconds that the fault then lasts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, arbitrary_types_allowed=True)

    from_: Instant | None = Field(None, alias="from")
    until: Instant | None = None
    after: float | None = Field(None, ge=0)
    after_requests: int | None = Field(None, ge=0)
    for_: float | None = Field(None, gt=0, alias="for")

    @model_validator(mode="after")
    def _times_agree(self) -> "When":
        if self.from_ and self.until and (self.from_.day is None) != (self.until.day is None):
            raise ValueError("from and until: give both a date, or neither")
        return self

    def reached(self, now: datetime, uptime: float, requests: int) -> bool:
        """Whether the conditions hold at the market time `now`, `uptime` seconds and `requests` after the start."""
        return self._in_span(now) and uptime >= (self.after or 0) and requests >= (self.after_requests or 0)

    def _in_span(self, now: datetime) -> bool:
        local = now.astimezone(NEW_YORK).replace(tzinfo=None)
        since, until = self.from_, self.until
        if since is not None and until is not None and since.day is None and until.day is None:
            begun, over = local.time() >= since.clock, local.time() >= until.clock
            # 23:45 to 00:15 is in force late and early
            return (begun and not over) if since.clock < until.clock else (begun or not over)
        return (since is None or _reached(since, local)) and (until is None or not _reached(until, local))


def _reached(moment: MarketTime, local: datetime) -> bool:
    return local >= datetime.combine(moment.day or local.date(), moment.clock)


class Phase:
    """Whether one fault is in force, from look to look.

    It begins when its conditions hold, ends when they no longer do or after ``for`` seconds, and can begin again only
    after they have ceased to hold: a daily span with ``for`` strikes once a day.
    """

    def __init__(self, when: When) -> None:
        self._when = when
        self._began: float | None = None

    def active(self, now: datetime, uptime: float, requests: int) -> bool:
        """Look again."""
        if not self._when.reached(now, uptime, requests):
            self._began = None
            return False
        if self._began is None:
            self._began = uptime
        return self._when.for_ is None or uptime - self._began < self._when.for_
