"""The bars that a request asks for, collected from a world session by session."""

import asyncio
from collections.abc import Iterator
from datetime import date, datetime, timedelta

import numpy as np

from ingest.calendar.sessions import NEW_YORK, UTC, Session, sessions_between
from tws_simulator.history.bars import NO_VOLUME, Bar, Size, bid_ask_bars, combine, standing_bars, starts, trade_bars
from tws_simulator.history.request import BarType, HistoryRequest, Kind, NoSuchHistory
from tws_simulator.worlds.instruments import Instrument, Option, Underlying
from tws_simulator.worlds.world import Floats, World

# How IB's refusals name the kinds.
NAMES: dict[Kind, str] = {
    "TRADES": "Trades", "MIDPOINT": "MidPoint", "BID": "Bid", "ASK": "Ask", "BID_ASK": "Bid",
    "HISTORICAL_VOLATILITY": "HistVol", "OPTION_IMPLIED_VOLATILITY": "ImplVol",
}  # fmt: skip
VOLATILITIES: frozenset[Kind] = frozenset({"HISTORICAL_VOLATILITY", "OPTION_IMPLIED_VOLATILITY"})
_QUOTES: frozenset[Kind] = frozenset({"MIDPOINT", "BID", "ASK", "BID_ASK"})
# Market seconds between two looks at a quote, by how long a bar is: a time average needs a dozen of them.
_GRAINS = (60, 30, 15, 5, 1)
_LOOKS = 12
_VOLATILITY_GRAIN = 300


def check_kind(instrument: Instrument, kind: Kind) -> None:
    """Raise `NoSuchHistory` where the kind of instrument has no such bars (table of TWS API, historical bar data).

    Options have no volatilities; an index has no bid and no ask.
    """
    without = (
        VOLATILITIES if isinstance(instrument, Option) else _QUOTES if instrument.sec_type == "IND" else frozenset()
    )
    if kind in without:
        symbol = instrument.local_symbol if isinstance(instrument, Option) else instrument.symbol
        sec_type = "OPT" if isinstance(instrument, Option) else instrument.sec_type
        raise NoSuchHistory(f"No historical market data for {symbol}/{sec_type}@SMART {NAMES[kind]}")


def session_bars(
    world: World, instrument: Instrument, bars: BarType, session: Session, end: datetime, now: date
) -> list[Bar]:
    """The bars of one session of what had happened by `end`, an instant after its open; the last one may be unfinished.

    In shares of the date `now`: split-adjusted, as IB's are, and not for dividends. Of weeks and months the daily bars
    they are made of.
    """
    kind, size = bars
    until = min(end, session.close)
    looks = instants(session, until, _grain(size))
    ratio = world.split_ratio(instrument, session.trade_date, now)
    begins = [one for one in starts(session, size) if one < until]
    if kind == "TRADES":
        trades = world.trade_ticks(instrument, session, looks)
        shares = np.round(trades.size * ratio).astype(np.int64)
        found = trade_bars(trades._replace(price=trades.price / ratio, size=shares), begins, until)
        if instrument.is_index:
            # nobody trades it: IB has -1 there, not 0
            found = [bar._replace(volume=NO_VOLUME, average=float(NO_VOLUME), trades=NO_VOLUME) for bar in found]
    elif kind in VOLATILITIES:
        assert isinstance(instrument, Underlying), "check_kind has refused options"
        found = standing_bars(*_volatilities(world, instrument, kind, session, until, size), begins, until)
    else:
        quotes = world.quote_ticks(instrument, session, looks)
        ticks = quotes._replace(bid=quotes.bid / ratio, ask=quotes.ask / ratio)
        if kind == "BID_ASK":
            found = bid_ask_bars(ticks, begins, until)
        else:
            values = {"BID": ticks.bid, "ASK": ticks.ask}.get(kind, (ticks.bid + ticks.ask) / 2)
            found = standing_bars(ticks.at, values, begins, until)
    return found if isinstance(size, int) else [bar._replace(start=session.trade_date) for bar in found]


def instants(session: Session, until: datetime, grain: int) -> Floats:
    """Every `grain` seconds from the open to `until`, and `until` itself; seconds since 1970."""
    opened, end = session.open.timestamp(), until.timestamp()
    grid = np.arange(opened, end, grain)
    return np.append(grid, end)


async def collect(world: World, instrument: Instrument, request: HistoryRequest) -> list[Bar]:
    """All bars of `request`, in order. Gives way to other work after every session."""
    first = request.start.astimezone(NEW_YORK).date()
    today = request.now.astimezone(NEW_YORK).date()
    found: list[Bar] = []
    for session in _sessions(max(_group_start(first, request.size), world.history_from(instrument)), request.end):
        bars = session_bars(world, instrument, request.bars, session, request.end, today)
        if isinstance(request.size, int):
            bars = [bar for bar in bars if isinstance(bar.start, datetime) and bar.start >= request.start]
        found += bars
        await asyncio.sleep(0)
    if request.size in ("week", "month"):
        return [bar for bar in combine(found, request.size) if bar.start >= first]
    return found


async def first_instant(world: World, instrument: Instrument, kind: Kind, now: datetime) -> datetime | None:
    """When the first bar of `kind` has its first price: IB's head time stamp. None when there is nothing by `now`."""
    for session in _sessions(world.history_from(instrument), now):
        until = min(now, session.close)
        looks = instants(session, until, _GRAINS[0])
        if kind == "TRADES":
            at = world.trade_ticks(instrument, session, looks).at
        elif kind in VOLATILITIES:
            assert isinstance(instrument, Underlying), "check_kind has refused options"
            times, values = _volatilities(world, instrument, kind, session, until, "day")
            at = times[~np.isnan(values)]
        else:
            ticks = world.quote_ticks(instrument, session, looks)
            sides = {"BID": (ticks.bid,), "ASK": (ticks.ask,)}.get(kind, (ticks.bid, ticks.ask))
            at = ticks.at[~np.isnan(sum(sides))]
        if len(at):
            return datetime.fromtimestamp(float(at[0]), UTC)
        await asyncio.sleep(0)
    return None


def _sessions(first: date, end: datetime) -> Iterator[Session]:
    """The sessions from `first` that have begun before `end`; by year, as a year's calendar takes 20 ms to make."""
    last = end.astimezone(NEW_YORK).date()
    for year in range(first.year, last.year + 1):
        for session in sessions_between(max(first, date(year, 1, 1)), min(last, date(year, 12, 31))):
            if session.open < end:
                yield session


def _group_start(day: date, size: Size) -> date:
    """The first day of the week or month of `day`: such bars are whole."""
    if size == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if size == "month" else day


def _grain(size: Size) -> int:
    if not isinstance(size, int):
        return _GRAINS[0]
    return next((grain for grain in _GRAINS if grain * _LOOKS <= size), _GRAINS[-1])


def _volatilities(
    world: World, underlying: Underlying, kind: Kind, session: Session, until: datetime, size: Size
) -> tuple[Floats, Floats]:
    """Instants, seconds since 1970, and the volatility of `kind` from each on, annualised; NaN where there is none."""
    grain = min(size, _VOLATILITY_GRAIN) if isinstance(size, int) else _VOLATILITY_GRAIN
    at = instants(session, until, grain)
    known = [world.volatility(underlying, datetime.fromtimestamp(second, UTC)) for second in at.tolist()]
    historical = kind == "HISTORICAL_VOLATILITY"
    values = [np.nan if one is None else one.historical if historical else one.implied for one in known]
    return at, np.array(values, dtype=np.float64)
