"""The outages that a capture meets: which requests they hold back, and for how long. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain

from ingest.broker import Outage, OutageKind


@dataclass(frozen=True, slots=True)
class PastOutage:
    """An outage as a capture met it: since when in pipeline time, and from when to when on the monotonic clock."""

    kind: OutageKind
    began_at: datetime
    since: float
    until: float

    @property
    def seconds(self) -> float:
        """Wall-clock seconds."""
        return self.until - self.since


class OutageLog:
    """The outages of a capture: those in force, each since the capture met it, and those that are over (`past`)."""

    def __init__(self) -> None:
        self._met: dict[OutageKind, tuple[Outage, float]] = {}
        self.past: list[PastOutage] = []

    def __bool__(self) -> bool:
        return bool(self._met)

    def __contains__(self, kind: OutageKind) -> bool:
        return kind in self._met

    def begin(self, outage: Outage, now: float) -> None:
        """An outage is met at the monotonic instant `now`."""
        self._met[outage.kind] = outage, now

    def end(self, kind: OutageKind, now: float) -> None:
        """It is over, or the capture is."""
        if met := self._met.pop(kind, None):
            outage, since = met
            self.past.append(PastOutage(kind, outage.began_at, since, now))

    def end_all(self, now: float) -> None:
        """The capture is over."""
        for kind in list(self._met):
            self.end(kind, now)

    def on(self, *, option: bool, delayed: bool) -> list[OutageKind]:
        """What holds back requests for an option, or else an underlying; delayed data knows no competing session."""
        return [
            kind
            for kind, (outage, _) in self._met.items()
            if outage.concerns(option=option) and not (delayed and kind == "competing_session")
        ]


def merged(of_connections: Sequence[Sequence[PastOutage]]) -> list[PastOutage]:
    """The outages that several connections met, in order of their beginnings; what overlaps in kind and time is one."""
    events: list[PastOutage] = []
    latest: dict[OutageKind, int] = {}
    for outage in sorted(chain(*of_connections), key=lambda outage: outage.since):
        number = latest.get(outage.kind)
        if number is None or events[number].until < outage.since:
            latest[outage.kind] = len(events)
            events.append(outage)
        else:
            events[number] = replace(events[number], until=max(events[number].until, outage.until))
    return events


def seconds_on_all(of_connections: Sequence[Sequence[PastOutage]]) -> float:
    """Seconds in which each connection had anything out of reach; outages of one at one time count once."""
    changes: list[tuple[float, int]] = []
    for past in of_connections:
        reached = -math.inf
        for outage in sorted(past, key=lambda outage: outage.since):
            if outage.until > (begins := max(outage.since, reached)):
                changes += [(begins, 1), (outage.until, -1)]
                reached = outage.until
    total, out, since = 0.0, 0, 0.0
    for at, change in sorted(changes):
        if out == len(of_connections):
            total += at - since
        out, since = out + change, at
    return total
