"""Bars out of what an instrument showed in a session. Pure.

A bar that begins at `start` covers the time after `start` up to and with its end, the first of a session its open too.
So its last price is the one standing at its end, which is where the next bar begins.

| kind | open | high | low | close |
|---|---|---|---|---|
| TRADES | first trade | highest | lowest | last trade |
| BID, ASK, MIDPOINT, volatilities | standing at the start | highest | lowest | standing at the end |
| BID_ASK | bid, averaged over time | highest ask | lowest bid | ask, averaged over time |

(TWS API, historical bar data.) Only trades have a volume, an average price and a count; the others have -1.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.calendar.sessions import UTC, Session, new_york
from tws_simulator.worlds.world import QuoteTicks, TradeTicks

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Size = int | Literal["day", "week", "month"]

NO_VOLUME = -1
_DECIMALS = 6


class Bar(NamedTuple):
    """One bar. ``start`` is its instant (UTC), of daily and longer bars the date of their last session.

    Prices in dollars, volume in shares or contracts, ``average`` weighted by volume. The last three are -1 where the
    kind has none.
    """

    start: date
    open: float
    high: float
    low: float
    close: float
    volume: int = NO_VOLUME
    average: float = float(NO_VOLUME)
    trades: int = NO_VOLUME


def starts(session: Session, size: Size) -> list[datetime]:
    """Where the bars of `session` begin (UTC): at the open, and at every multiple of `size` seconds on New York clocks.

    So the first hourly bar has half an hour (09:30), the next begins at 10:00. A size that is no number of seconds
    gives one bar a session.
    """
    if not isinstance(size, int):
        return [session.open]
    midnight = int(new_york(session.trade_date, time()).timestamp())
    opened, closed = int(session.open.timestamp()), int(session.close.timestamp())
    later = range(midnight + ((opened - midnight) // size + 1) * size, closed, size)
    return [datetime.fromtimestamp(second, UTC) for second in (opened, *later)]


def trade_bars(ticks: TradeTicks, begins: Sequence[datetime], end: datetime) -> list[Bar]:
    """Bars of trades from the first one on; where nothing is traded a bar stands at the last price, volume 0.

    `begins` are the starts of a session's bars before `end`, and `ticks` its trades up to then.
    """
    if not len(ticks.at):
        return []
    edges = _edges(begins, end)
    until = np.searchsorted(ticks.at, edges[1:], side="right")
    since = np.concatenate([[0], until[:-1]])
    traded = until > since
    seen = until > 0
    close = ticks.price[np.maximum(until - 1, 0)]
    first = np.where(traded, ticks.price[np.minimum(since, len(ticks.at) - 1)], close)
    high = np.where(traded, _reduce(np.fmax, ticks.price, since, until), close)
    low = np.where(traded, _reduce(np.fmin, ticks.price, since, until), close)
    volume, trades = (_sums(column, since, until) for column in (ticks.size, ticks.trades))
    value, total, count = (
        _sums(column, since, until)
        for column in (ticks.price * ticks.size, ticks.price, np.ones(len(ticks.at), dtype=np.int64))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        average = np.where(volume > 0, value / volume, np.where(count > 0, total / count, close))
    return [
        Bar(begins[k], *_rounded(first[k], high[k], low[k], close[k]), int(volume[k]), round(float(average[k]), 4),
            int(trades[k]))
        for k in np.flatnonzero(seen).tolist()
    ]  # fmt: skip


def standing_bars(at: Floats, values: Floats, begins: Sequence[datetime], end: datetime) -> list[Bar]:
    """Bars of values that stand from their instant to the next one's; a bar in which none stood is left out."""
    first, high, low, close = _standing(at, values, _edges(begins, end))
    return [
        Bar(begins[k], *_rounded(first[k], high[k], low[k], close[k]))
        for k in np.flatnonzero(~np.isnan(first)).tolist()
    ]


def bid_ask_bars(ticks: QuoteTicks, begins: Sequence[datetime], end: datetime) -> list[Bar]:
    """Bars of both sides; one in which a side had no market is left out."""
    edges = _edges(begins, end)
    _, _, low, _ = _standing(ticks.at, ticks.bid, edges)
    _, high, _, _ = _standing(ticks.at, ticks.ask, edges)
    bid, ask = _time_average(ticks.at, ticks.bid, edges), _time_average(ticks.at, ticks.ask, edges)
    known = ~np.isnan(bid) & ~np.isnan(ask)
    return [Bar(begins[k], *_rounded(bid[k], high[k], low[k], ask[k])) for k in np.flatnonzero(known).tolist()]


def combine(daily: Sequence[Bar], size: Size) -> list[Bar]:
    """Weekly or monthly bars out of daily ones, in order; dated with their last session, as IB dates them."""
    group = _GROUPS[size]
    return [_merge(list(bars)) for _, bars in groupby(daily, lambda bar: group(bar.start))]


_GROUPS: dict[Size, Callable[[date], tuple[int, int]]] = {
    "week": lambda day: (day.isocalendar().year, day.isocalendar().week),
    "month": lambda day: (day.year, day.month),
}


def _merge(bars: list[Bar]) -> Bar:
    merged = Bar(
        bars[-1].start, bars[0].open, max(bar.high for bar in bars), min(bar.low for bar in bars), bars[-1].close
    )
    if bars[0].volume == NO_VOLUME:
        return merged
    volume = sum(bar.volume for bar in bars)
    weights = [bar.volume if volume else 1 for bar in bars]
    average = sum(bar.average * weight for bar, weight in zip(bars, weights, strict=True)) / sum(weights)
    return merged._replace(volume=volume, average=round(average, 4), trades=sum(bar.trades for bar in bars))


def _edges(begins: Sequence[datetime], end: datetime) -> Floats:
    return np.array([instant.timestamp() for instant in (*begins, end)])


def _standing(at: Floats, values: Floats, edges: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Open, high, low and close of the bars between `edges`, NaN where nothing stood. Shape (bars,) each."""
    count = len(edges) - 1
    if not len(at):
        nothing = np.full(count, np.nan)
        return nothing, nothing, nothing, nothing
    since = np.maximum(np.searchsorted(at, edges[:-1], side="right") - 1, 0)
    until = np.searchsorted(at, edges[1:], side="right")
    known = ~np.isnan(values)
    numbers = np.arange(len(at))
    following = np.minimum.accumulate(np.where(known, numbers, len(at))[::-1])[::-1]
    preceding = np.maximum.accumulate(np.where(known, numbers, -1))
    first = following[since]
    last = preceding[np.maximum(until - 1, 0)]
    stood = (first < until) & (last >= since)
    first, last = np.where(stood, first, 0), np.where(stood, last, 0)
    columns = (
        values[first],
        _reduce(np.fmax, values, since, until),
        _reduce(np.fmin, values, since, until),
        values[last],
    )
    opened, high, low, close = (np.where(stood, column, np.nan) for column in columns)
    return opened, high, low, close


def _time_average(at: Floats, values: Floats, edges: Floats) -> Floats:
    """Of the price over the time at which there was one, NaN where there was none. Shape (bars,)."""
    if not len(at):
        return np.full(len(edges) - 1, np.nan)
    times = np.append(at, max(edges[-1], at[-1]))
    known = ~np.isnan(values)
    weights = np.diff(times) * known
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0) * weights)])
    weight = np.concatenate([[0.0], np.cumsum(weights)])
    value, span = (np.diff(np.interp(edges, times, column)) for column in (total, weight))
    with np.errstate(invalid="ignore", divide="ignore"):
        average: Floats = np.where(span > 1e-6, value / span, np.nan)
    return average


def _reduce(function: np.ufunc, values: Floats, since: Indices, until: Indices) -> Floats:
    """`function` over values[since:until] for every bar; meaningless where that is empty."""
    pairs = np.column_stack([since, until]).ravel()
    return np.asarray(function.reduceat(np.append(values, np.nan), pairs)[::2])


def _sums(values: npt.NDArray[np.int64] | Floats, since: Indices, until: Indices) -> Floats:
    total = np.concatenate([[0], np.cumsum(values)])
    return np.asarray(total[until] - total[since])


def _rounded(*values: float) -> tuple[float, float, float, float]:
    first, high, low, close = (round(float(value), _DECIMALS) for value in values)
    return first, high, low, close
