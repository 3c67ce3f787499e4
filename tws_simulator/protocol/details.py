"""Contract details (message 10), in the order of fields of each protocol version."""

from datetime import date, datetime, time
from typing import NamedTuple

from ingest.calendar.sessions import NEW_YORK, session_on
from tws_simulator.worlds.descriptions import describe
from tws_simulator.worlds.instruments import Option, Underlying

# Protocol versions from which the message changes its form.
_SIZE_INCREMENT_FROM, _SIZE_RULES_FROM = 163, 164

# Market rules, the price steps by price: of stocks and of options in and outside the penny programme.
STOCK_RULE, PENNY_RULE, NICKEL_RULE = 26, 32, 109
_ORDER_TYPES = "ACTIVETIM,ADJUST,ALERT,LMT,MKT,STP,STPLMT"
# Smallest size, size increment, suggested increment: stocks trade in parts of a share, options do not.
_STOCK_SIZES, _WHOLE_SIZES = ("0.0001", "0.0001", "100"), ("1", "1", "1")


class Hours(NamedTuple):
    """When a contract trades, and when its market is liquid, as IB writes it."""

    trading: str
    liquid: str


def detail_fields(
    version: int, req_id: int, instrument: Underlying | Option, exchange: str, hours: Hours
) -> list[object]:
    """The fields of one contract's details."""
    if isinstance(instrument, Option):
        return _option(version, req_id, instrument, exchange, hours)
    return _underlying(version, req_id, instrument, exchange, hours)


def _option(version: int, req_id: int, option: Option, exchange: str, hours: Hours) -> list[object]:
    series, underlying = option.series, option.underlying
    exchanges = underlying.option_exchanges
    rule = PENNY_RULE if series.min_tick < 0.05 else NICKEL_RULE
    return [
        *_head(version, req_id),
        *(underlying.symbol, "OPT", _last_trade(series.last_trade_date), option.strike, option.right, exchange),
        *(underlying.currency, option.local_symbol, series.trading_class, series.trading_class, option.conid),
        series.min_tick,
        *_legacy_size_multiplier(version),
        *(f"{series.multiplier:g}", _ORDER_TYPES, ",".join(exchanges), 1, underlying.conid),
        *(describe(underlying).long_name, "", f"{series.expiry:%Y%m}", "", "", ""),
        *("US/Eastern", hours.liquid, hours.liquid, "", 0, 0),
        *(2, underlying.symbol, underlying.sec_type, ",".join([str(rule)] * len(exchanges))),
        *(f"{series.expiry:%Y%m%d}", ""),
        *_size_rules(version, _WHOLE_SIZES),
    ]


def _underlying(version: int, req_id: int, stock: Underlying, exchange: str, hours: Hours) -> list[object]:
    about = describe(stock)
    identifiers: tuple[object, ...] = (1, "ISIN", about.isin) if about.isin else (0,)
    if stock.is_index:
        name, orders, primary, rules, stock_type = stock.symbol, "", "", "", ""
        trading, sizes = hours.liquid, _WHOLE_SIZES
    else:
        name, orders, primary, stock_type = "NMS", _ORDER_TYPES, stock.primary_exchange, "COMMON"
        rules = ",".join([str(STOCK_RULE)] * len(stock.exchanges))
        trading, sizes = hours.trading, _STOCK_SIZES
    return [
        *_head(version, req_id),
        *(stock.symbol, stock.sec_type, "", 0, "", exchange, stock.currency, stock.symbol, name, name),
        *(stock.conid, 0.01),
        *_legacy_size_multiplier(version),
        *("", orders, ",".join(stock.exchanges), 1, 0, about.long_name, primary, ""),
        *(about.industry, about.category, about.subcategory, "US/Eastern", trading, hours.liquid, "", 0),
        *identifiers,
        *(1, "", "", rules, "", stock_type),
        *_size_rules(version, sizes),
    ]


def _head(version: int, req_id: int) -> list[object]:
    return [10, 8, req_id] if version < _SIZE_RULES_FROM else [10, req_id]


def _legacy_size_multiplier(version: int) -> list[object]:
    return [1] if version < _SIZE_RULES_FROM else []


def _size_rules(version: int, sizes: tuple[str, str, str]) -> list[object]:
    if version >= _SIZE_RULES_FROM:
        return list(sizes)
    return [sizes[2]] if version >= _SIZE_INCREMENT_FROM else []


def _last_trade(day: date) -> str:
    """Date, time and time zone of the last trade; clients split it at the blanks."""
    session = session_on(day)
    close = session.close.astimezone(NEW_YORK) if session is not None else datetime.combine(day, time(16))
    return f"{close:%Y%m%d %H:%M:%S} US/Eastern"
