"""The synthetic world: what a subscriber asks, answered from paths, surface and activity."""

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from datetime import date, datetime, time
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ingest.gateway.errors import GatewayError
from ingest.gateway.instruments import (
    Instrument,
    Option,
    OptionSeries,
    Underlying,
    UnderlyingSpec,
    underlying_conids,
    word,
)
from ingest.gateway.synthetic.activity import Activity, activity, open_interest
from ingest.gateway.synthetic.chain import SyntheticSeries
from ingest.gateway.synthetic.listing import Listing
from ingest.gateway.synthetic.paths import MarketFactor, UnderlyingPath, session_fraction
from ingest.gateway.synthetic.quotes import ModelSettings, SeriesQuotes, life_years, theoretical, tick_below
from ingest.gateway.world import Bar, Quote, Volatility
from ingest.sessions import NEW_YORK, Session, new_york, previous_session, session_on, sessions_between

FIRST_DATE, LAST_DATE = date(2005, 1, 1), date(2030, 12, 31)
_IMPLIED_VOL_YEARS = 30 / 365
_BAR_POINTS = (0.0, 0.25, 0.5, 0.75, 1.0)
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

    Deterministic in (seed, symbol, instant to the second), for all dates from 2005 to 2030. Raises `GatewayError` for
    an empty or ambiguous list of underlyings.
    """

    name = "synthetic"

    def __init__(
        self,
        specs: Sequence[UnderlyingSpec],
        *,
        seed: int = 7,
        oi_published_at: time = time(4, 0),
        rate: float = 0.0,
        dividend_yield: float = 0.0,
    ) -> None:
        if not specs:
            raise GatewayError("the world 'synthetic' needs at least one symbol, as in --symbols AAPL,MSFT")
        specs = sorted(specs, key=lambda spec: spec.symbol)
        if repeated := {a.symbol for a, b in itertools.pairwise(specs) if a.symbol == b.symbol}:
            raise GatewayError(f"symbols: {', '.join(sorted(repeated))} given twice; name each underlying once")
        conids = underlying_conids(list(specs))
        if len(set(conids.values())) < len(conids):
            raise GatewayError("symbols: two underlyings have the same contract id; check the universe file")
        self._seed = seed
        self._oi_published_at = oi_published_at
        self._model = ModelSettings(rate, dividend_yield)
        market = MarketFactor(seed)
        self._underlyings = {
            spec.symbol: Underlying(conids[spec.symbol], spec.symbol, spec.sec_type, spec.primary_exchange)
            for spec in specs
        }
        self._by_conid = {underlying.conid: underlying for underlying in self._underlyings.values()}
        self._paths = {spec.symbol: UnderlyingPath(spec, market) for spec in specs}
        self._listings: Cache[date, Listing] = Cache(3)
        self._quotes: Cache[tuple[OptionSeries, date, float], SeriesQuotes] = Cache(1024)
        self._activities: Cache[tuple[OptionSeries, date], Activity] = Cache(2048)
        self._open_interests: Cache[tuple[OptionSeries, date], list[list[int]]] = Cache(8192)
        self._closes: Cache[tuple[OptionSeries, date], list[list[float]]] = Cache(2048)

    def check(self, now: datetime) -> None:
        """Raise `GatewayError` for a date before 2005 or after 2030."""
        day = now.astimezone(NEW_YORK).date()
        if not FIRST_DATE <= day <= LAST_DATE:
            raise GatewayError(
                f"the synthetic world knows {FIRST_DATE} to {LAST_DATE}, not {day}; set the market clock (--at) within"
            )

    def underlyings(self) -> Sequence[Underlying]:
        """All underlyings, by symbol."""
        return list(self._underlyings.values())

    def underlying(self, symbol: str) -> Underlying | None:
        """The underlying with this symbol."""
        return self._underlyings.get(symbol)

    def series(self, underlying: Underlying, now: datetime) -> Sequence[OptionSeries]:
        """The series listed on the clock's New York date, by expiry."""
        return self._listing(now).chain(underlying.symbol)

    def by_conid(self, conid: int, now: datetime) -> Instrument | None:
        """The underlying or listed contract with this id."""
        return self._by_conid.get(conid) or self._listing(now).by_conid(conid)

    def contract_count(self, now: datetime) -> int:
        """How many option contracts are listed."""
        return len(self._listing(now))

    def option_quote(self, option: Option, instant: datetime) -> Quote:
        """The quote at `instant`, which lies in a session or is its close."""
        series = _synthetic(option)
        session = _session_of(instant)
        fraction = session_fraction(session, instant)
        quotes = self._quotes.get(
            (series, session.trade_date, fraction),
            lambda: SeriesQuotes(
                series, self._seed, session, instant, self._activity(series, session.trade_date), self._model
            ),
        )
        return quotes.quote(option.side, option.position)

    def underlying_quote(self, underlying: Underlying, instant: datetime) -> Quote:
        """The quote at `instant`; a cent or two wide."""
        path = self._paths[underlying.symbol]
        session = _session_of(instant)
        fraction = session_fraction(session, instant)
        prices = path.session(session)
        spot = float(prices.prices(fraction))
        seen = np.exp(prices.log_price[: int(fraction * prices.minutes) + 1])
        half = 0.004 + 0.00004 * spot
        second = int(fraction * prices.minutes * 60)
        sizes = word(self._seed, "sizes", underlying.symbol, session.trade_date, second // 5)
        shares = word(self._seed, "shares", underlying.symbol, session.trade_date) % 1000
        volume = path.liquidity * 4e6 * (0.6 + shares / 1000) * (0.35 * fraction**0.5 + 0.65 * fraction)
        return Quote(
            bid=math.floor((spot - half) * 100) / 100,
            bid_size=1 + sizes % 20,
            ask=math.ceil((spot + half) * 100) / 100,
            ask_size=1 + sizes // 64 % 20,
            last=round(spot, 2),
            last_size=1 + sizes // 4096 % 9,
            volume=int(volume),
            open=round(float(seen[0]), 2),
            high=round(max(float(seen.max()), spot), 2),
            low=round(min(float(seen.min()), spot), 2),
        )

    def previous_close(self, instrument: Instrument, now: datetime) -> float | None:
        """The close before the clock's date; an option's is the value at that close, None before its listing."""
        before = previous_session(now.astimezone(NEW_YORK).date())
        if not isinstance(instrument, Option):
            return round(self._paths[instrument.symbol].close(before.trade_date), 2)
        series = _synthetic(instrument)
        if before.trade_date < series.listed_on:
            return None
        closes = self._closes.get((series, before.trade_date), lambda: self._closing_values(series, before))
        return closes[instrument.side][instrument.position]

    def open_interest(self, option: Option, now: datetime) -> int | None:
        """After the latest session that has been published: from the next session's morning on."""
        series = _synthetic(option)
        today = now.astimezone(NEW_YORK).date()
        published = previous_session(today)
        if session_on(today) is None or now < new_york(today, self._oi_published_at):
            published = previous_session(published.trade_date)
        day = published.trade_date
        values = self._open_interests.get((series, day), lambda: open_interest(series, self._seed, day).tolist())
        return values[option.side][option.position]

    def volatility(self, underlying: Underlying, instant: datetime) -> Volatility | None:
        """Of the last 30 sessions, and of the surface at 30 days."""
        path = self._paths[underlying.symbol]
        day = instant.astimezone(NEW_YORK).date()
        variance = path.atm_variance(path.short_vol(day), _IMPLIED_VOL_YEARS)
        return Volatility(round(path.historical_vol(day), 6), round(float(np.sqrt(variance / _IMPLIED_VOL_YEARS)), 6))

    def daily_bars(self, instrument: Instrument, what: str, first: date, last: datetime) -> list[Bar]:
        """One bar a session that has opened by `last`; an option's from the day it was listed."""
        if isinstance(instrument, Option):
            first = max(first, _synthetic(instrument).listed_on)
        sessions = sessions_between(max(first, FIRST_DATE), last.astimezone(NEW_YORK).date())
        bars: list[Bar] = []
        for session in sessions:
            if session.open > last:
                break
            until = min(last, session.close)
            if isinstance(instrument, Option):
                bar = self._option_bar(instrument, what, session, until)
            else:
                bar = self._underlying_bar(instrument, what, session, until)
            bars += [bar] if bar is not None else []
        return bars

    def _underlying_bar(self, underlying: Underlying, what: str, session: Session, until: datetime) -> Bar:
        quote = self.underlying_quote(underlying, until)
        assert quote.open is not None
        assert quote.high is not None
        assert quote.low is not None
        assert quote.last is not None
        volume = quote.volume if what == "TRADES" and quote.volume else 0
        average = round((quote.open + quote.high + quote.low + quote.last) / 4, 4)
        return Bar(session.trade_date, quote.open, quote.high, quote.low, quote.last, volume, average, volume // 100)

    def _option_bar(self, option: Option, what: str, session: Session, until: datetime) -> Bar | None:
        length = until - session.open
        quotes = [self.option_quote(option, session.open + length * point) for point in _BAR_POINTS]
        volume = quotes[-1].volume or 0
        if what == "TRADES":
            prices = [quote.last for quote in quotes if quote.volume and quote.last is not None]
        else:
            prices = [round(((quote.bid or 0.0) + quote.ask) / 2, 4) for quote in quotes if quote.ask is not None]
            volume = 0
        if not prices:
            return None
        average = round(sum(prices) / len(prices), 4)
        return Bar(session.trade_date, prices[0], max(prices), min(prices), prices[-1], volume, average, len(prices))

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
        day = now.astimezone(NEW_YORK).date()
        self.check(now)
        pairs = [(self._underlyings[symbol], path) for symbol, path in self._paths.items()]
        return self._listings.get(day, lambda: Listing(day, pairs))


def _synthetic(option: Option) -> SyntheticSeries:
    series = option.series
    assert isinstance(series, SyntheticSeries), "options of this world are made by its listing"
    return series


def _session_of(instant: datetime) -> Session:
    session = session_on(instant.astimezone(NEW_YORK).date())
    assert session is not None, "quotes are asked for at moments of a session"
    return session
