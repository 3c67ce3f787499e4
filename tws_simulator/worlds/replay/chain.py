"""One recorded day as a chain: contracts numbered, grouped into series, quoted and valued at its instants."""

from collections.abc import Iterable
from datetime import date, datetime
from itertools import groupby

import numpy as np

from ingest.calendar.sessions import session_on
from option_pricing import black_scholes as pricing
from tws_simulator.worlds.instruments import (
    RIGHTS,
    OptionSeries,
    Underlying,
    option_conids,
)
from tws_simulator.worlds.replay.files import ContractKey, RecordedDay, microseconds
from tws_simulator.worlds.world import NO_QUOTE, UNSET_MODEL, Model, ModelSettings, Quote

_MOST_VOLATILE = 10.0  # 1,000 % a year
_YEAR_US = pricing.DAYS_PER_YEAR * 86_400e6
# On its last day a contract keeps a minute of life, so that greeks stay finite at the close.
_SHORTEST_LIFE_US = 60e6


def number_contracts(days: Iterable[RecordedDay], taken: set[int]) -> dict[tuple[str, ContractKey], int]:
    """Contract ids by underlying and contract, over all days.

    An id is a hash of the contract's identity; where two meet, the later in the order of underlying and contract moves
    up by one.
    """
    identities = sorted({(day.underlying, key) for day in days for key in day.contracts})
    taken = set(taken)
    numbered: dict[tuple[str, ContractKey], int] = {}
    for (symbol, name, multiplier, expiry), group in groupby(
        identities, lambda one: (one[0], one[1].trading_class, one[1].multiplier, one[1].expiry)
    ):
        keys = [key for _, key in group]
        strikes = np.array([key.strike for key in keys])
        hashed = option_conids(name, expiry, strikes, multiplier)
        for position, key in enumerate(keys):
            conid = int(hashed[RIGHTS.index(key.right), position])
            while conid in taken:
                conid += 1
            taken.add(conid)
            numbered[symbol, key] = conid
    return numbered


class RecordedChain:
    """The contracts of one recorded day and its arrays in contract order (n contracts)."""

    def __init__(
        self,
        day: RecordedDay,
        underlying: Underlying,
        conids: dict[tuple[str, ContractKey], int],
        model: ModelSettings,
    ) -> None:
        session = session_on(day.trade_date)
        assert session is not None, "the world checks that a recorded day is a session"
        self.day = day
        self.path = day.path
        self.trade_date = day.trade_date
        self.close = session.close
        self.model = model
        numbers = [conids[day.underlying, key] for key in day.contracts]
        self.position = {conid: number for number, conid in enumerate(numbers)}
        self.series = _make_series(day, underlying, numbers)
        self.options = {option.conid: option for one in self.series for option in one.options()}
        self.strikes = np.array([key.strike for key in day.contracts])
        self.calls = np.array([key.right == "C" for key in day.contracts])
        ends = {last: microseconds(_close_of(last)) for last in {key.last_trade_date for key in day.contracts}}
        self.ends = np.array([ends[key.last_trade_date] for key in day.contracts], dtype=np.int64)

    def spot(self, instant: datetime) -> float | None:
        """The underlying's price in the latest row of any contract at or before `instant`, dollars."""
        index = self.day.instant_index(instant)
        return float(self.day.spots[index]) if index >= 0 else None

    def open_interest(self, conid: int) -> int | None:
        """The stamp of this day's morning."""
        number = self.position.get(conid)
        value = self.day.open_interest[number] if number is not None else np.nan
        return None if np.isnan(value) else int(value)


class Standing:
    """All quotes of one day at one of its instants. Single quotes are made when they are asked for."""

    def __init__(self, chain: RecordedChain, index: int) -> None:
        self._chain = chain
        self._index = index
        self._rows = chain.day.standing_rows(index)
        self._models: list[Model] | None = None
        self._quotes: dict[int, Quote] = {}

    def quote(self, conid: int) -> Quote:
        """The standing quote of one contract; no quote while it has no row."""
        quote = self._quotes.get(conid)
        if quote is None:
            quote = self._quotes[conid] = self._make(conid)
        return quote

    def _make(self, conid: int) -> Quote:
        number = self._chain.position.get(conid)
        row = int(self._rows[number]) if number is not None else -1
        if number is None or row < 0:
            return NO_QUOTE
        day = self._chain.day
        if self._models is None:
            self._models = self._value()
        return Quote(
            bid=_or_none(day.bid[row]),
            bid_size=int(day.bid_size[row]),
            ask=_or_none(day.ask[row]),
            ask_size=int(day.ask_size[row]),
            last=_or_none(day.last[row]),
            volume=int(day.volume[row]),
            model=self._models[number],
        )

    def _value(self) -> list[Model]:
        """The model of every contract: volatility implied by the mid, by half the ask where there is no bid."""
        chain, day = self._chain, self._chain.day
        listed = self._rows >= 0
        bid = np.where(listed, day.bid[self._rows], np.nan)
        ask = np.where(listed, day.ask[self._rows], np.nan)
        mid = np.where(np.isnan(bid), ask / 2, (bid + ask) / 2)
        spot = float(day.spots[self._index])
        life = np.maximum(chain.ends - day.instants[self._index], _SHORTEST_LIFE_US) / _YEAR_US
        arguments = (spot, chain.strikes, life)
        iv = pricing.implied_vol(mid, *arguments, chain.calls, chain.model.rate, chain.model.dividend_yield)
        # A few cents of time value minutes before expiry imply absurd volatilities: there a model says nothing.
        iv = np.where(iv <= _MOST_VOLATILE, iv, np.nan)
        greeks = pricing.value(*arguments, iv, chain.calls, chain.model.rate, chain.model.dividend_yield)
        columns = (iv, greeks.delta, mid, greeks.gamma, greeks.vega, greeks.theta)
        return [
            Model(iv_, delta, price, 0.0, gamma, vega, theta, spot) if iv_ == iv_ else UNSET_MODEL
            for iv_, delta, price, gamma, vega, theta in zip(*[column.tolist() for column in columns], strict=True)
        ]


def _make_series(day: RecordedDay, underlying: Underlying, conids: list[int]) -> list[OptionSeries]:
    series = []
    contracts = zip(day.contracts, conids, strict=True)
    ordered = sorted(contracts, key=lambda one: (_series_of(one[0]), one[0].strike))
    for (expiry, last_trade_date, multiplier, name), group in groupby(ordered, lambda one: _series_of(one[0])):
        listed = list(group)
        strikes = sorted({key.strike for key, _ in listed})
        columns = {strike: column for column, strike in enumerate(strikes)}
        numbers = np.zeros((2, len(strikes)), dtype=np.int64)
        for key, conid in listed:
            numbers[RIGHTS.index(key.right), columns[key.strike]] = conid
        series.append(OptionSeries(underlying, name, multiplier, expiry, last_trade_date, np.array(strikes), numbers))
    return series


def _series_of(key: ContractKey) -> tuple[date, date, float, str]:
    return key.expiry, key.last_trade_date, key.multiplier, key.trading_class


def years_left(last_trade_date: date, instant: datetime) -> float:
    """Years (ACT/365) from `instant` to the close of a last trading day; at least a minute."""
    return float(max(microseconds(_close_of(last_trade_date)) - microseconds(instant), _SHORTEST_LIFE_US) / _YEAR_US)


def _close_of(day: date) -> datetime:
    session = session_on(day)
    assert session is not None, "last trading days are sessions"
    return session.close


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
