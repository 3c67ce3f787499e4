"""The outages that a capture meets: which requests they hold back, and for how long. Pure."""

from dataclasses import dataclass
from datetime import datetime

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

    @property
    def seconds(self) -> float:
        """Seconds in which anything was out of reach; outages at one time count once."""
        total, reached = 0.0, 0.0
        for outage in sorted(self.past, key=lambda outage: outage.since):
            total += max(0.0, outage.until - max(outage.since, reached))
            reached = max(reached, outage.until)
        return total
