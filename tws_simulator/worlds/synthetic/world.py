"""The synthetic world: what a subscriber asks, answered from paths, surface and activity."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ingest.calendar.sessions import NEW_YORK, Session, new_york, previous_session, session_on
from tws_simulator.errors import GatewayError
from tws_simulator.worlds.instruments import Instrument, Option, OptionSeries, Underlying, UnderlyingSpec, word
from tws_simulator.worlds.synthetic.activity import Activity, activity, open_interest
from tws_simulator.worlds.synthetic.bars import (
    index_levels,
    one_contract,
    option_quotes,
    option_trades,
    stock_quotes,
    stock_trades,
)
from tws_simulator.worlds.synthetic.chain import SyntheticSeries, list_chain
from tws_simulator.worlds.synthetic.events import CorporateAction
from tws_simulator.worlds.synthetic.listing import Listing
from tws_simulator.worlds.synthetic.paths import session_fraction
from tws_simulator.worlds.synthetic.quotes import SeriesQuotes, life_years, theoretical, tick_below
from tws_simulator.worlds.synthetic.stock import shares_traded, sides
from tws_simulator.worlds.synthetic.underlyings import FIRST_DATE, LAST_DATE, list_underlyings
from tws_simulator.worlds.world import (
    NO_QUOTE,
    NO_QUOTE_TICKS,
    NO_TRADE_TICKS,
    ZERO_RATES,
    Floats,
    ModelSettings,
    Quote,
    QuoteTicks,
    TradeTicks,
    Volatility,
)

_IMPLIED_VOL_YEARS = 30 / 365
_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Cache(Generic[_K, _V]):
    """The `size` values used last; a missing one is made."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[_K, _V] = OrderedDict()

    def get(self, key: _K, make: Callable[[], _V]) -> _V:
        """The value of `key`."""
        value = self._values.get(key)
        if value is None:
            value = self._values[key] = make()
            if len(self._values) > self._size:
                self._values.popitem(last=False)
        else:
            self._values.move_to_end(key)
        return value


class SyntheticWorld:
    """A Black-Scholes market: correlated underlyings, an arbitrage-free smile, spreads, zero-bid wings, stale trades.

    Deterministic in (seed, symbol, instant to the second), for all dates from 2005 to 2030. `actions` are placed on
    their effective dates, for those underlyings that this world has; `minis` are the symbols that list options on 10
    shares too. Raises `GatewayError` for underlyings that are none, ambiguous or unknown.

    The morning of an effective date. The chain is in the new terms from midnight on, and so is tick 9 of the underlying
    and of the options. Open interest is not: what is published that morning is still the previous session's, contract
    by contract as they were called then. A contract whose class, expiry and strike did not exist has no value that day,
    one whose name another contract had before shows that one's; on the next morning every contract has its own, a
    split's times N. The ids of the day before are still known on that day, with their last open interest and no market.
    Frozen quotes before the open are those that stood at the last close, in the terms and under the names of then.
    """

    name = "synthetic"

    def __init__(
        self,
        specs: Sequence[UnderlyingSpec],
        *,
        seed: int = 7,
        oi_published_at: time = time(4, 0),
        model: ModelSettings = ZERO_RATES,
        actions: Sequence[CorporateAction] = (),
        minis: Sequence[str] = (),
    ) -> None:
        self._seed = seed
        self._oi_published_at = oi_published_at
        self._model = model
        self._listed = list_underlyings(specs, seed, actions, minis)
        self._by_symbol = {symbol: listed for listed in self._listed for symbol in listed.symbols}
        self._by_conid = {listed.conid: listed for listed in self._listed}
        self._listings: Cache[date, Listing] = Cache(3)
        self._chains: Cache[tuple[int, date], list[SyntheticSeries]] = Cache(64)
        self._quotes: Cache[tuple[OptionSeries, date, float], SeriesQuotes] = Cache(1024)
        self._activities: Cache[tuple[OptionSeries, date], Activity] = Cache(2048)
        self._open_interests: Cache[tuple[OptionSeries, date], list[list[int]]] = Cache(8192)
        self._closes: Cache[tuple[OptionSeries, date], list[list[float]]] = Cache(2048)

    def check(self, now: datetime) -> None:
        """Raise `GatewayError` for a date before 2005 or after 2030."""
        day = _date_of(now)
        if not FIRST_DATE <= day <= LAST_DATE:
            raise GatewayError(
                f"the synthetic world knows {FIRST_DATE} to {LAST_DATE}, not {day}; set the market clock (--at) within"
            )

    def underlyings(self, now: datetime | None = None) -> Sequence[Underlying]:
        """All underlyings as they are called at `now` (None: in the end), by symbol."""
        day = _date_of(now) if now is not None else LAST_DATE
        return sorted((listed.on(day) for listed in self._listed), key=lambda one: one.symbol)

    def underlying(self, symbol: str, now: datetime | None = None) -> Underlying | None:
        """The underlying that is called `symbol` at `now` (None: at some time)."""
        listed = self._by_symbol.get(symbol)
        if listed is None:
            return None
        if now is None:
            return replace(listed.on(LAST_DATE), symbol=symbol)
        found = listed.on(_date_of(now))
        return found if found.symbol == symbol else None

    def series(self, underlying: Underlying, now: datetime) -> Sequence[OptionSeries]:
        """The series listed on the clock's New York date, by expiry; none under a symbol of another time."""
        listing = self._listing(now)
        if self._by_conid[underlying.conid].on(listing.day).symbol != underlying.symbol:
            return []
        return listing.chain(underlying.conid)

    def by_conid(self, conid: int, now: datetime) -> Instrument | None:
        """The underlying or listed contract with this id, on an effective date also that of a contract of before."""
        if conid in self._by_conid:
            return self._by_conid[conid].on(_date_of(now))
        return self._listing(now).by_conid(conid) or self._replaced(conid, _date_of(now))

    def contract_count(self, now: datetime) -> int:
        """How many option contracts are listed."""
        return len(self._listing(now))

    def option_quote(self, option: Option, instant: datetime) -> Quote:
        """The quote at `instant`, which lies in a session or is its close; none while other terms are in force."""
        series = _synthetic(option)
        session = _session_of(instant)
        if not series.since <= session.trade_date < series.until:
            return NO_QUOTE
        fraction = session_fraction(session, instant)
        quotes = self._quotes.get(
            (series, session.trade_date, fraction),
            lambda: SeriesQuotes(
                series, self._seed, session, instant, self._activity(series, session.trade_date), self._model
            ),
        )
        return quotes.quote(option.side, option.position)

    def underlying_quote(self, underlying: Underlying, instant: datetime) -> Quote:
        """The quote at `instant`, a cent or two wide; of an index, which is not traded, the level alone."""
        listed = self._by_conid[underlying.conid]
        path, index = listed.path, listed.spec.sec_type == "IND"
        session = _session_of(instant)
        fraction = session_fraction(session, instant)
        prices = path.session(session)
        spot = float(prices.prices(fraction))
        seen = np.exp(prices.log_price[: int(fraction * prices.minutes) + 1])
        opened, high, low = (round(float(one), 2) for one in (seen[0], max(seen.max(), spot), min(seen.min(), spot)))
        if index:
            return Quote(last=round(spot, 2), open=opened, high=high, low=low)
        bid, ask = sides(spot)
        second = int(fraction * prices.minutes * 60)
        sizes = word(self._seed, "sizes", underlying.symbol, session.trade_date, second // 5)
        volume = shares_traded(path, self._seed, underlying.symbol, session.trade_date, fraction)
        return Quote(
            bid=float(bid),
            bid_size=1 + sizes % 20,
            ask=float(ask),
            ask_size=1 + sizes // 64 % 20,
            last=round(spot, 2),
            last_size=1 + sizes // 4096 % 9,
            volume=int(volume),
            open=opened,
            high=high,
            low=low,
        )

    def previous_close(self, instrument: Instrument, now: datetime) -> float | None:
        """The close before the clock's date, in that date's terms; an option's is the value at that close.

        None before an option's listing, and for one whose terms are over.
        """
        today = _date_of(now)
        before = previous_session(today)
        if not isinstance(instrument, Option):
            return round(self._by_conid[instrument.conid].path.in_terms_of(today).close(before.trade_date), 2)
        series = _synthetic(instrument)
        if before.trade_date < series.listed_on or today >= series.until:
            return None
        closes = self._closes.get((series, before.trade_date), lambda: self._closing_values(series, before))
        return closes[instrument.side][instrument.position]

    def open_interest(self, option: Option, now: datetime) -> int | None:
        """After the latest session that has been published: from the next session's morning on.

        Of a session in other terms: what its stamp says of this name, None where it has no such contract.
        """
        series = _synthetic(option)
        today = _date_of(now)
        published = previous_session(today)
        if session_on(today) is None or now < new_york(today, self._oi_published_at):
            published = previous_session(published.trade_date)
        day = published.trade_date
        if day >= series.until:
            return None
        if day < series.since:
            namesake = self._namesake(option, day)
            return self.open_interest(namesake, now) if namesake is not None else None
        values = self._open_interests.get((series, day), lambda: open_interest(series, self._seed, day).tolist())
        return values[option.side][option.position]

    def years_left(self, option: Option, instant: datetime) -> float:
        """Years (ACT/365) from `instant` to the expiry; at least a minute."""
        return float(life_years(_synthetic(option), instant))

    def volatility(self, underlying: Underlying, instant: datetime) -> Volatility | None:
        """Of the last 30 sessions, and of the surface at 30 days."""
        path = self._by_conid[underlying.conid].path
        day = _date_of(instant)
        session = session_on(day)
        short_vol = path.short_vol(day, session_fraction(session, instant) if session is not None else 1.0)
        variance = path.atm_variance(short_vol, _IMPLIED_VOL_YEARS)
        return Volatility(round(path.historical_vol(day), 6), round(float(np.sqrt(variance / _IMPLIED_VOL_YEARS)), 6))

    def quote_ticks(self, instrument: Instrument, session: Session, looks: Floats) -> QuoteTicks:
        """Bid and ask at `looks`; none of an index, and of an option none outside its terms."""
        if not isinstance(instrument, Option):
            listed = self._by_conid[instrument.conid]
            return NO_QUOTE_TICKS if listed.spec.sec_type == "IND" else stock_quotes(listed.path, session, looks)
        series = _synthetic(instrument)
        if not series.since <= session.trade_date < series.until:
            return NO_QUOTE_TICKS
        contract = one_contract(series, instrument.position)
        return option_quotes(contract, instrument.side, self._seed, session, looks, self._model)

    def trade_ticks(self, instrument: Instrument, session: Session, looks: Floats) -> TradeTicks:
        """An option's trades one by one, an underlying's price and volume at `looks`."""
        if not isinstance(instrument, Option):
            listed = self._by_conid[instrument.conid]
            if listed.spec.sec_type == "IND":
                return index_levels(listed.path, session, looks)
            return stock_trades(listed.path, self._seed, listed.on(session.trade_date).symbol, session, looks)
        series = _synthetic(instrument)
        if not series.since <= session.trade_date < series.until:
            return NO_TRADE_TICKS
        contract = one_contract(series, instrument.position)
        return option_trades(contract, instrument.side, self._seed, session, float(looks[-1]), self._model)

    def history_from(self, instrument: Instrument) -> date:
        """An option's terms begin with its listing, or with the corporate action that gave it these."""
        if not isinstance(instrument, Option):
            return FIRST_DATE
        series = _synthetic(instrument)
        return max(series.listed_on, series.since, FIRST_DATE)

    def split_ratio(self, instrument: Instrument, day: date, now: date) -> float:
        """By the corporate actions between the dates; 1 for an option, which has a history in its own terms only."""
        if isinstance(instrument, Option):
            return 1.0
        listed = self._by_conid[instrument.conid]
        before, after = (listed.regimes[listed.number(one)].factor for one in (day, now))
        return before / after

    def _closing_values(self, series: SyntheticSeries, session: Session) -> list[list[float]]:
        path = series.path
        years = life_years(series, session.close)
        values = theoretical(
            series, path.close(session.trade_date), years, path.short_vol(session.trade_date), self._model
        )
        floored: npt.NDArray[np.float64] = np.maximum(tick_below(values, series.min_tick), series.min_tick)
        closes: list[list[float]] = floored.tolist()
        return closes

    def _activity(self, series: SyntheticSeries, day: date) -> Activity:
        return self._activities.get((series, day), lambda: activity(series, self._seed, day))

    def _listing(self, now: datetime) -> Listing:
        self.check(now)
        day = _date_of(now)
        return self._listings.get(day, lambda: Listing(day, self._listed))

    def _chain(self, conid: int, day: date) -> list[SyntheticSeries]:
        """The chain of one underlying on a day that need not be the clock's."""
        return self._chains.get((conid, day), lambda: list_chain(self._by_conid[conid], day))

    def _namesake(self, option: Option, day: date) -> Option | None:
        """What had the name of `option` on `day`."""
        wanted = option.series
        for series in self._chain(wanted.underlying.conid, day):
            if (series.trading_class, series.multiplier, series.expiry) == (
                wanted.trading_class,
                wanted.multiplier,
                wanted.expiry,
            ):
                return series.find(option.strike, option.right)
        return None

    def _replaced(self, conid: int, day: date) -> Option | None:
        """The contract with this id that was listed before the events of `day`."""
        for listed in self._listed:
            if listed.regimes[listed.number(day)].starts == day:
                for series in self._chain(listed.conid, previous_session(day).trade_date):
                    sides, positions = np.nonzero(series.conids == conid)
                    if sides.size:
                        return series.at(int(sides[0]), int(positions[0]))
        return None


def _synthetic(option: Option) -> SyntheticSeries:
    series = option.series
    assert isinstance(series, SyntheticSeries), "options of this world are made by its listing"
    return series


def _date_of(instant: datetime) -> date:
    return instant.astimezone(NEW_YORK).date()


def _session_of(instant: datetime) -> Session:
    session = session_on(_date_of(instant))
    assert session is not None, "quotes are asked for at moments of a session"
    return session
