"""Which moment's market a subscriber is shown: the rules of IB's four market data types."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from ingest.calendar.sessions import NEW_YORK, last_completed, session_on
from tws_simulator.clock import MarketClock
from tws_simulator.worlds.instruments import Instrument, Option
from tws_simulator.worlds.world import NO_QUOTE, Quote, World

LIVE, FROZEN, DELAYED, DELAYED_FROZEN = 1, 2, 3, 4
MARKET_DATA_TYPES = (LIVE, FROZEN, DELAYED, DELAYED_FROZEN)


@dataclass(frozen=True, slots=True)
class View:
    """What a request of one market data type sees at one instant.

    ``reported_type`` goes out as message 58. ``quotes_at``: the moment whose bid and ask are shown, None when that type
    shows none now. ``trades_at``: the moment whose last price and volume are shown, None before the open.
    """

    reported_type: int
    quotes_at: datetime | None
    trades_at: datetime | None

    @property
    def delayed(self) -> bool:
        """Whether the delayed tick types are used."""
        return self.reported_type in (DELAYED, DELAYED_FROZEN)


@lru_cache(maxsize=64)
def view(requested_type: int, now: datetime, delayed_by: timedelta) -> View:
    """What `requested_type` shows at `now`.

    While the market is open every type shows it (2 reports 1, 4 reports 3). Outside, the frozen types show the quotes
    that stood at the last close and say so; the others show no bid and no ask, and after the close the last trade.
    """
    delayed = requested_type in (DELAYED, DELAYED_FROZEN)
    running = DELAYED if delayed else LIVE
    seen = now - delayed_by if delayed else now
    session = session_on(seen.astimezone(NEW_YORK).date())
    if session is not None and session.open <= seen < session.close:
        return View(running, seen, seen)
    if requested_type in (FROZEN, DELAYED_FROZEN):
        close = last_completed(seen).close
        return View(DELAYED_FROZEN if delayed else FROZEN, close, close)
    after_close = session is not None and session.close <= seen
    return View(running, None, session.close if session is not None and after_close else None)


def shown_quote(world: World, instrument: Instrument, seen: View) -> Quote:
    """The quote of `instrument` as `seen` shows it."""
    if seen.quotes_at is not None:
        return _standing(world, instrument, seen.quotes_at)
    if seen.trades_at is not None:
        standing = _standing(world, instrument, seen.trades_at)
        return standing._replace(bid=None, bid_size=0, ask=None, ask_size=0, model=None)
    return NO_QUOTE


def _standing(world: World, instrument: Instrument, instant: datetime) -> Quote:
    if isinstance(instrument, Option):
        return world.option_quote(instrument, instant)
    return world.underlying_quote(instrument, instant)


class Market:
    """A world seen through the market clock."""

    def __init__(self, world: World, clock: MarketClock, delayed_by: timedelta) -> None:
        self.world = world
        self.clock = clock
        self._delayed_by = delayed_by

    def view(self, requested_type: int, now: datetime) -> View:
        """What `requested_type` shows at `now`."""
        return view(requested_type, now, self._delayed_by)

    def quote(self, instrument: Instrument, seen: View) -> Quote:
        """The quote of `instrument` as `seen` shows it."""
        return shown_quote(self.world, instrument, seen)
