"""What of the broker is out of reach, as its messages tell. Pure: time comes in as an argument."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ingest.broker import codes

OutageKind = Literal["socket", "ib_connection", "option_farm", "stock_farm", "competing_session"]


@dataclass(frozen=True, slots=True)
class Outage:
    """Something that is out of reach: since when in pipeline time, and on the monotonic clock (seconds)."""

    kind: OutageKind
    began_at: datetime
    since: float

    def concerns(self, *, option: bool) -> bool:
        """Whether it keeps the market data of an option, or else of an underlying, from coming."""
        return self.kind != ("stock_farm" if option else "option_farm")


def farm_name(message: str) -> str:
    """The name at the end of a message about a farm."""
    return message.rsplit(":", 1)[-1].strip()


def farm_of(message: str) -> OutageKind | None:
    """The farm that a message such as ``Market data farm connection is broken:usopt`` is about.

    Options come from usopt, stocks from usfarm and its likes (usfarm.nj); other farms serve nothing that is asked for.
    """
    name = farm_name(message)
    if name.startswith("usopt"):
        return "option_farm"
    return "stock_farm" if name.startswith("usfarm") else None


class Outages:
    """The outages in force, one of a kind; that of farms lasts until each farm that was named is back."""

    def __init__(self) -> None:
        self._open: dict[OutageKind, Outage] = {}
        self._farms: dict[OutageKind, set[str]] = {}

    def __iter__(self) -> Iterator[Outage]:
        return iter(tuple(self._open.values()))

    def __bool__(self) -> bool:
        return bool(self._open)

    def farm_broken(self, kind: OutageKind, farm: str) -> None:
        """A farm of that kind is out of reach."""
        self._farms.setdefault(kind, set()).add(farm)

    def farm_back(self, kind: OutageKind, farm: str) -> bool:
        """A farm of that kind is there: whether none of its kind is out of reach any more."""
        broken = self._farms.get(kind, set())
        broken.discard(farm)
        return not broken

    def begin(self, kind: OutageKind, began_at: datetime, since: float) -> Outage | None:
        """A new outage; None when it was known."""
        if kind in self._open:
            return None
        outage = self._open[kind] = Outage(kind, began_at, since)
        return outage

    def end(self, kind: OutageKind) -> Outage | None:
        """The outage that is over; None when there was none."""
        self._farms.pop(kind, None)
        return self._open.pop(kind, None)

    def disproved_by(self, *, option: bool, asked_at: float) -> list[Outage]:
        """Outages that a tick shows to be over: of a request made after they began (`asked_at`, monotonic seconds).

        IB does not always say that a farm is back, or that a competing session has ended.
        """
        return [outage for outage in self if outage.since < asked_at and outage.concerns(option=option)]


def code_of(kind: OutageKind) -> int | None:
    """IB's code for an outage of that kind; None where IB has several, or the socket itself is gone."""
    return codes.COMPETING_SESSION if kind == "competing_session" else None


def outage_change(code: int, message: str) -> tuple[OutageKind, bool] | None:
    """The outage that a message is about, and whether it begins (True) or is over (False)."""
    if code in codes.CONNECTION_LOST:
        return "ib_connection", True
    if code in (codes.RESTORED_DATA_LOST, codes.RESTORED_DATA_KEPT):
        return "ib_connection", False
    if code == codes.COMPETING_SESSION:
        return "competing_session", True
    if (code == codes.FARM_BROKEN or code in codes.FARM_OK) and (farm := farm_of(message)):
        return farm, code == codes.FARM_BROKEN
    return None
