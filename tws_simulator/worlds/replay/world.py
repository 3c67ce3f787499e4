"""The world of recorded days: what a subscriber sees is the row standing at the market clock."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from datetime import date, datetime, time
from pathlib import Path

from ingest.calendar.sessions import NEW_YORK, Session, new_york, session_on
from tws_simulator.errors import GatewayError
from tws_simulator.worlds.instruments import (
    Instrument,
    Option,
    OptionSeries,
    Underlying,
    UnderlyingSpec,
    underlying_conids,
)
from tws_simulator.worlds.replay.bars import contract_quotes, contract_trades, underlying_prices
from tws_simulator.worlds.replay.chain import RecordedChain, Standing, number_contracts, years_left
from tws_simulator.worlds.replay.files import RecordedDay, load_days
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

_STANDINGS_KEPT = 16


class ReplayWorld:
    """One market out of recorded files: several days, several underlyings, or both.

    Of each underlying the file of the clock's New York date is in force, from midnight on; a later date without a file
    keeps the latest file's contracts, a clock before the first file has the first file's. Quotes never come from
    another date's file. `specs` give the conids of underlyings that have one. Raises `GatewayError` for files that
    cannot be used.
    """

    name = "replay"

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        specs: Sequence[UnderlyingSpec] = (),
        previous_close: float | None = None,
        oi_published_at: time = time(4, 0),
        model: ModelSettings = ZERO_RATES,
    ) -> None:
        if not paths:
            raise GatewayError("the world 'replay' needs at least one file; give it as --replay FILE")
        days = [day for path in paths for day in load_days(path)]
        symbols = sorted({day.underlying for day in days})
        if previous_close is not None and len(symbols) > 1:
            raise GatewayError(
                f"a previous close is for one underlying, and the files hold {', '.join(symbols)}; leave it out"
            )
        given = {spec.symbol: spec for spec in specs}
        recorded = [given.get(symbol, UnderlyingSpec(symbol)) for symbol in symbols]
        ids = underlying_conids(recorded)
        self._underlyings = {
            spec.symbol: Underlying(ids[spec.symbol], spec.symbol, spec.sec_type, spec.primary_exchange)
            for spec in recorded
        }
        conids = number_contracts(days, set(ids.values()))
        self._chains: dict[str, list[RecordedChain]] = {symbol: [] for symbol in symbols}
        for day in sorted(days, key=lambda one: one.trade_date):
            chains = self._chains[day.underlying]
            if chains and chains[-1].trade_date == day.trade_date:
                raise GatewayError(
                    f"replay files {chains[-1].path} and {day.path} both hold {_label(day)}; give one of them"
                )
            if session_on(day.trade_date) is None:
                raise GatewayError(f"replay file {day.path}: {day.trade_date} is no XNYS session; give a trading day")
            chains.append(RecordedChain(day, self._underlyings[day.underlying], conids, model))
        self._published = {
            symbol: [new_york(chain.trade_date, oi_published_at) for chain in chains]
            for symbol, chains in self._chains.items()
        }
        self._previous_close = previous_close
        self._standings: OrderedDict[tuple[RecordedChain, int], Standing] = OrderedDict()

    def check(self, now: datetime) -> None:
        """Every instant will do: outside the recorded days there are no quotes."""

    def underlyings(self, now: datetime | None = None) -> Sequence[Underlying]:
        """The underlyings of the files, by symbol."""
        return list(self._underlyings.values())

    def underlying(self, symbol: str, now: datetime | None = None) -> Underlying | None:
        """The underlying with this symbol."""
        return self._underlyings.get(symbol)

    def series(self, underlying: Underlying, now: datetime) -> Sequence[OptionSeries]:
        """The series of the file in force, by expiry."""
        return self._in_force(underlying, now).series

    def by_conid(self, conid: int, now: datetime) -> Instrument | None:
        """The underlying, or the contract of a file in force, with this id."""
        for underlying in self._underlyings.values():
            if underlying.conid == conid:
                return underlying
            if (option := self._in_force(underlying, now).options.get(conid)) is not None:
                return option
        return None

    def option_quote(self, option: Option, instant: datetime) -> Quote:
        """The contract's last row at or before `instant`, of that date's file; no quote where there is none."""
        chain = self._on(option.underlying, instant)
        if chain is None:
            return NO_QUOTE
        index = chain.day.instant_index(instant)
        return NO_QUOTE if index < 0 else self._standing(chain, index).quote(option.conid)

    def underlying_quote(self, underlying: Underlying, instant: datetime) -> Quote:
        """The recorded price as the last price; the files hold no bid and no ask of the underlying."""
        chain = self._on(underlying, instant)
        price = chain.spot(instant) if chain is not None else None
        return NO_QUOTE if price is None else Quote(last=price)

    def previous_close(self, instrument: Instrument, now: datetime) -> float | None:
        """The given one, else the first price of the file; after the file's date its closing price. Not of options."""
        if isinstance(instrument, Option):
            return None
        chain = self._in_force(instrument, now)
        if now.astimezone(NEW_YORK).date() > chain.trade_date:
            return chain.spot(chain.close)
        return self._previous_close if self._previous_close is not None else float(chain.day.spots[0])

    def open_interest(self, option: Option, now: datetime) -> int | None:
        """The latest stamp published by now; a file's stamp describes the session before its date."""
        symbol = option.underlying.symbol
        published = bisect_right(self._published[symbol], now)
        return self._chains[symbol][published - 1].open_interest(option.conid) if published else None

    def years_left(self, option: Option, instant: datetime) -> float:
        """Years (ACT/365) from `instant` to the close of the last trading day; at least a minute."""
        return years_left(option.series.last_trade_date, instant)

    def volatility(self, underlying: Underlying, instant: datetime) -> Volatility | None:
        """The files hold none."""
        return None

    def quote_ticks(self, instrument: Instrument, session: Session, looks: Floats) -> QuoteTicks:
        """The recorded rows of an option; the files hold no bid and no ask of the underlying."""
        chain = self._recorded(instrument, session)
        number = chain.position.get(instrument.conid) if chain is not None else None
        return NO_QUOTE_TICKS if chain is None or number is None else contract_quotes(chain.day, number, looks[-1])

    def trade_ticks(self, instrument: Instrument, session: Session, looks: Floats) -> TradeTicks:
        """The recorded rows in which an option's volume grew; the recorded prices of the underlying, without volume."""
        chain = self._recorded(instrument, session)
        if chain is None:
            return NO_TRADE_TICKS
        if not isinstance(instrument, Option):
            return underlying_prices(chain.day, session.open, looks[-1])
        number = chain.position.get(instrument.conid)
        return NO_TRADE_TICKS if number is None else contract_trades(chain.day, number, session.open, looks[-1])

    def history_from(self, instrument: Instrument) -> date:
        """The date of the underlying's first file."""
        underlying = instrument.underlying if isinstance(instrument, Option) else instrument
        return self._chains[underlying.symbol][0].trade_date

    def split_ratio(self, instrument: Instrument, day: date, now: date) -> float:
        """Prices are shown as they were recorded."""
        return 1.0

    def _recorded(self, instrument: Instrument, session: Session) -> RecordedChain | None:
        """The file of that session."""
        underlying = instrument.underlying if isinstance(instrument, Option) else instrument
        return self._on(underlying, session.open)

    def _in_force(self, underlying: Underlying, now: datetime) -> RecordedChain:
        chains = self._chains[underlying.symbol]
        date_now = now.astimezone(NEW_YORK).date()
        return chains[max(0, bisect_right(chains, date_now, key=lambda chain: chain.trade_date) - 1)]

    def _on(self, underlying: Underlying, instant: datetime) -> RecordedChain | None:
        chain = self._in_force(underlying, instant)
        return chain if chain.trade_date == instant.astimezone(NEW_YORK).date() else None

    def _standing(self, chain: RecordedChain, index: int) -> Standing:
        key = (chain, index)
        standing = self._standings.get(key)
        if standing is None:
            standing = self._standings[key] = Standing(chain, index)
            if len(self._standings) > _STANDINGS_KEPT:
                self._standings.popitem(last=False)
        return standing


def _label(day: RecordedDay) -> str:
    return f"{day.underlying} on {day.trade_date}"
