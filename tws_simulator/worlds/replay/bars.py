"""The recorded ticks of one session, which bars are made of. Pure."""

from datetime import datetime

import numpy as np

from tws_simulator.worlds.replay.files import RecordedDay, microseconds
from tws_simulator.worlds.world import NO_TRADE_TICKS, Floats, QuoteTicks, TradeTicks

_SECOND = 1e6


def contract_quotes(day: RecordedDay, number: int, until: float) -> QuoteTicks:
    """The rows of the contract at position `number` up to `until`, seconds since 1970, as they stood."""
    rows = _rows(day, number, until)
    return QuoteTicks(day.ts[rows] / _SECOND, day.bid[rows], day.ask[rows])


def contract_trades(day: RecordedDay, number: int, opened: datetime, until: float) -> TradeTicks:
    """What was traded from row to row of one contract since `opened`: the growth of its volume, at its last price.

    The number of trades is not recorded: a row that has seen some counts as one. A volume that falls was yesterday's.
    """
    rows = _rows(day, number, until)
    growth = np.diff(day.volume[rows], prepend=0)
    size = np.where(growth < 0, day.volume[rows], growth)
    seen = (size > 0) & ~np.isnan(day.last[rows]) & (day.ts[rows] >= microseconds(opened))
    if not seen.any():
        return NO_TRADE_TICKS
    count = int(seen.sum())
    return TradeTicks(
        day.ts[rows][seen] / _SECOND, day.last[rows][seen], size[seen].astype(np.int64), np.ones(count, dtype=np.int64)
    )


def underlying_prices(day: RecordedDay, opened: datetime, until: float) -> TradeTicks:
    """The recorded prices of the underlying since `opened`; its volume is not recorded."""
    seen = (day.instants >= microseconds(opened)) & (day.instants <= round(until * _SECOND))
    nothing = np.zeros(int(seen.sum()), dtype=np.int64)
    prices: Floats = day.spots[seen].astype(np.float64)
    return TradeTicks(day.instants[seen] / _SECOND, prices, nothing, nothing)


def _rows(day: RecordedDay, number: int, until: float) -> slice:
    first, end = int(day.first_row[number]), int(day.first_row[number + 1])
    seen = int(np.searchsorted(day.ts[first:end], round(until * _SECOND), side="right"))
    return slice(first, first + seen)
