"""One request for market data, and who is told what becomes of it."""

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from ingest.broker import codes
from ingest.broker.library import Contract, Ticker
from ingest.broker.outages import Outage
from ingest.broker.quotes import Quote, quote_of
from lake.rows import bounded_text


@dataclass(frozen=True, slots=True)
class RequestError:
    """An error that IB reported for one request; of a message that is longer than any the beginning is kept.

    `conid` is that of a contract which IB did describe, but in words that make none.
    """

    code: int
    message: str
    conid: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", bounded_text(self.message))


@dataclass(slots=True, eq=False)
class Subscription:
    """Market data of one contract, from request to cancel. Ticks of an earlier request never reach it.

    A `snapshot` ends by itself (`ended`) after up to 11 s and needs no cancel. `delayed` says that delayed data was
    asked for. `requested_at` and `updated_at` (last tick) are pipeline time, `sent_at` is on the monotonic clock. An
    `advisory` is what IB remarked while data keeps flowing.
    """

    request_id: int
    contract: Contract
    ticker: Ticker
    right: str | None
    requested_at: datetime
    snapshot: bool = False
    delayed: bool = False
    sent_at: float = field(default_factory=time.monotonic)
    updated_at: datetime | None = None
    error: RequestError | None = None
    advisory: RequestError | None = None
    ended: bool = False

    @property
    def is_open(self) -> bool:
        """Whether IB may still hold a market data line for it: a competing session only interrupts it."""
        return not self.ended and (self.error is None or self.error.code == codes.COMPETING_SESSION)

    @property
    def partly_permitted(self) -> RequestError | None:
        """IB's remark that a part of the data needs a subscription, if it made one."""
        advisory = self.advisory
        return advisory if advisory is not None and advisory.code in codes.PARTLY_PERMITTED else None

    def quote(self) -> Quote:
        """What has arrived so far."""
        return quote_of(self.ticker, self.right)


class Watcher(Protocol):
    """What a session tells the one who captures through it."""

    def updated(self, subscription: Subscription) -> None:
        """It received ticks or an error, or its snapshot ended."""

    def pacing_error(self, code: int) -> None:
        """Error 100, 101 or 420."""

    def outage_began(self, outage: Outage) -> None:
        """From now on requests are not answered. When the socket is lost, every subscription is gone."""

    def outage_over(self, outage: Outage, *, data_lost: bool) -> None:
        """Requests are answered again; with `data_lost` every subscription is gone."""


class NullWatcher:
    """A watcher that does nothing: between captures."""

    def updated(self, subscription: Subscription) -> None:
        """See `Watcher`."""

    def pacing_error(self, code: int) -> None:
        """See `Watcher`."""

    def outage_began(self, outage: Outage) -> None:
        """See `Watcher`."""

    def outage_over(self, outage: Outage, *, data_lost: bool) -> None:
        """See `Watcher`."""
