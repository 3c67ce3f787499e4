"""Messages from the gateway to a client, encoded for the protocol version that was negotiated (157 to 178).

Field orders as the published clients read them. Every function of `Encoder` returns one framed message.
"""

from collections.abc import Sequence
from datetime import date, datetime, time

from ingest.calendar.sessions import NEW_YORK, session_on
from tws_simulator.history.bars import Bar
from tws_simulator.protocol.wire import frame
from tws_simulator.worlds.instruments import Option, OptionSeries, Underlying
from tws_simulator.worlds.world import Model

LOWEST_VERSION, HIGHEST_VERSION = 157, 178
UNSET_DOUBLE = "1.7976931348623157E308"

# Protocol versions from which a message changes its form.
_SIZE_INCREMENT_FROM, _SIZE_RULES_FROM, _ORDER_REJECT_FROM, _ISSUER_FROM = 163, 164, 166, 176

# Market rules, the price steps by price: of stocks and of options in and outside the penny programme.
STOCK_RULE, PENNY_RULE, NICKEL_RULE = 26, 32, 109
_ORDER_TYPES = "ACTIVETIM,ADJUST,ALERT,LMT,MKT,STP,STPLMT"


def message(*fields: object) -> bytes:
    """One framed message of these fields."""
    return frame("".join([f"{field}\0" for field in fields]))


def server_greeting(version: int, now: datetime) -> bytes:
    """The answer to a client's greeting: the version both will speak, and the market's time."""
    return message(version, now.astimezone(NEW_YORK).strftime("%Y%m%d %H:%M:%S %Z"))


def tick_price(req_id: int, tick: int, price: float, size: int, attributes: int = 0) -> str:
    """Text of a price tick with its size (message 1)."""
    return f"1\0006\000{req_id}\0{tick}\0{price!r}\0{size}\0{attributes}\0"


def tick_size(req_id: int, tick: int, size: int) -> str:
    """Text of a size tick (message 2)."""
    return f"2\0006\000{req_id}\0{tick}\0{size}\0"


def tick_generic(req_id: int, tick: int, value: float) -> str:
    """Text of a generic tick (message 45)."""
    return f"45\0006\000{req_id}\0{tick}\0{value!r}\0"


def tick_option_computation(req_id: int, tick: int, model: Model) -> str:
    """Text of a model tick (message 21); attribute 1 says that the model is price-based."""
    values = "\0".join([UNSET_DOUBLE if value is None else repr(value) for value in model])
    return f"21\0{req_id}\0{tick}\0001\000{values}\0"


def tick_req_params(req_id: int, min_tick: float, exchange_map: str, permissions: int) -> str:
    """Text of message 81: smallest price step, key of the exchange map, snapshot permissions."""
    return f"81\0{req_id}\0{min_tick!r}\0{exchange_map}\0{permissions}\0"


def market_data_type(req_id: int, reported: int) -> str:
    """Text of message 58: the market data type of one subscription."""
    return f"58\0001\000{req_id}\0{reported}\0"


def tick_snapshot_end(req_id: int) -> str:
    """Text of message 57."""
    return f"57\0001\000{req_id}\0"


class Encoder:
    """The messages whose form depends on the protocol version."""

    def __init__(self, version: int) -> None:
        self.version = version

    def error(self, req_id: int, code: int, text: str) -> bytes:
        """An error or a piece of information; `req_id` is -1 when it concerns no request."""
        fields: list[object] = [4, 2, req_id, code, text]
        if self.version >= _ORDER_REJECT_FROM:
            fields.append("")
        return message(*fields)

    def contract_details(
        self, req_id: int, instrument: Underlying | Option, exchange: str, trading_hours: str
    ) -> bytes:
        """One contract's details (message 10)."""
        if isinstance(instrument, Option):
            fields = self._option_details(req_id, instrument, exchange, trading_hours)
        else:
            fields = self._underlying_details(req_id, instrument, exchange, trading_hours)
        return message(*fields)

    def _option_details(self, req_id: int, option: Option, exchange: str, hours: str) -> list[object]:
        series, underlying = option.series, option.underlying
        exchanges = underlying.option_exchanges
        rule = PENNY_RULE if series.min_tick < 0.05 else NICKEL_RULE
        return [
            *self._details_head(req_id),
            *(underlying.symbol, "OPT", _last_trade(series.last_trade_date), option.strike, option.right, exchange),
            *(underlying.currency, option.local_symbol, series.trading_class, series.trading_class, option.conid),
            series.min_tick,
            *self._legacy_size_multiplier(),
            *(f"{series.multiplier:g}", _ORDER_TYPES, ",".join(exchanges), 1, underlying.conid),
            *(underlying.symbol, "", f"{series.expiry:%Y%m}", "", "", "", "US/Eastern", hours, hours, "", 0, 0),
            *(2, underlying.symbol, underlying.sec_type, ",".join([str(rule)] * len(exchanges))),
            *(f"{series.expiry:%Y%m%d}", ""),
            *self._size_rules("1"),
        ]

    def _underlying_details(self, req_id: int, stock: Underlying, exchange: str, hours: str) -> list[object]:
        exchanges = ",".join(stock.exchanges)
        if stock.is_index:
            name, orders, primary, rules, stock_type = stock.symbol, "", "", "", ""
        else:
            name, orders, primary, stock_type = "NMS", _ORDER_TYPES, stock.primary_exchange, "COMMON"
            rules = ",".join([str(STOCK_RULE)] * len(stock.exchanges))
        return [
            *self._details_head(req_id),
            *(stock.symbol, stock.sec_type, "", 0, "", exchange, stock.currency, stock.symbol, name, name),
            *(stock.conid, 0.01),
            *self._legacy_size_multiplier(),
            *("", orders, exchanges, 1, 0, stock.symbol, primary, "", "", "", "", "US/Eastern"),
            *(hours, hours, "", 0, 0, 1, "", "", rules, "", stock_type),
            *self._size_rules("100"),
        ]

    def _details_head(self, req_id: int) -> list[object]:
        return [10, 8, req_id] if self.version < _SIZE_RULES_FROM else [10, req_id]

    def _legacy_size_multiplier(self) -> list[object]:
        return [1] if self.version < _SIZE_RULES_FROM else []

    def _size_rules(self, suggested: str) -> list[object]:
        if self.version >= _SIZE_RULES_FROM:
            return ["1", "1", suggested]
        return [suggested] if self.version >= _SIZE_INCREMENT_FROM else []

    def symbol_samples(self, req_id: int, matches: Sequence[Underlying]) -> bytes:
        """Underlyings whose symbol matches (message 79)."""
        fields: list[object] = [79, req_id, len(matches)]
        for stock in matches:
            fields += [stock.conid, stock.symbol, stock.sec_type, stock.primary_exchange, stock.currency, 1, "OPT"]
            if self.version >= _ISSUER_FROM:
                fields += [stock.symbol, ""]
        return message(*fields)


def _last_trade(day: date) -> str:
    """Date, time and time zone of the last trade; clients split it at the blanks."""
    session = session_on(day)
    close = session.close.astimezone(NEW_YORK) if session is not None else datetime.combine(day, time(16))
    return f"{close:%Y%m%d %H:%M:%S} US/Eastern"


def option_parameters(req_id: int, exchange: str, series: Sequence[OptionSeries]) -> bytes:
    """One trading class on one exchange (message 75): the unions of its expiries and of its strikes.

    A union, as IB sends it: many of its combinations do not exist.
    """
    first = series[0]
    expiries = sorted({one.last_trade_date for one in series})
    strikes = sorted({strike for one in series for strike in one.strikes.tolist()})
    return message(
        75,
        req_id,
        exchange,
        first.underlying.conid,
        first.trading_class,
        f"{first.multiplier:g}",
        len(expiries),
        *[f"{day:%Y%m%d}" for day in expiries],
        len(strikes),
        *strikes,
    )


def historical_bars(req_id: int, start: str, end: str, rows: Sequence[tuple[str, Bar]]) -> bytes:
    """Historical bars (message 17); each with the date as the client asked for it."""
    fields: list[object] = [17, req_id, start, end, len(rows)]
    for label, bar in rows:
        fields += [label, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.average, bar.trades]
    return message(*fields)


def historical_update(req_id: int, label: str, bar: Bar) -> bytes:
    """A bar that is kept up to date, as it is now (message 90)."""
    return message(
        90, req_id, bar.trades, label, bar.open, bar.close, bar.high, bar.low, bar.average, bar.volume
    )  # fmt: skip
