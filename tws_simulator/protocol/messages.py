"""Messages from the gateway to a client, encoded for the protocol version that was negotiated (157 to 178).

Field orders as the published clients read them. Every function of `Encoder` returns one framed message.
"""

from collections.abc import Sequence
from datetime import datetime

from ingest.calendar.sessions import NEW_YORK
from tws_simulator.history.bars import Bar
from tws_simulator.protocol.details import Hours, detail_fields
from tws_simulator.protocol.wire import frame
from tws_simulator.worlds.exchanges import SmartComponent
from tws_simulator.worlds.instruments import Instrument, OptionSeries, Underlying
from tws_simulator.worlds.world import Model

UNSET_DOUBLE = "1.7976931348623157E308"

# Protocol versions from which a message changes its form.
_ORDER_REJECT_FROM, _ISSUER_FROM = 166, 176


def message(*fields: object) -> bytes:
    """One framed message of these fields."""
    return frame("".join([f"{field}\0" for field in fields]))


def server_greeting(version: int, now: datetime, zone: str | None = None) -> bytes:
    """The answer to a client's greeting: the version both will speak, and the market's time.

    ``zone``: the name of the time zone, as the host of a TWS calls it; None is New York's own.
    """
    local = now.astimezone(NEW_YORK)
    return message(version, f"{local:%Y%m%d %H:%M:%S} {zone or local.tzname()}")


def tick_price(req_id: int, tick: int, price: float, size: float, attributes: int = 0) -> str:
    """Text of a price tick with its size (message 1)."""
    return f"1\0006\000{req_id}\0{tick}\0{price!r}\0{size}\0{attributes}\0"


def tick_size(req_id: int, tick: int, size: float) -> str:
    """Text of a size tick (message 2)."""
    return f"2\0006\000{req_id}\0{tick}\0{size}\0"


def odd_lot_ticks(req_id: int, bid: float, ask: float) -> list[str]:
    """Texts of the ticks 105 to 110: bid and ask of odd lots a cent within the market, 7 shares each, at ARCA (P)."""
    return [
        tick_price(req_id, 105, round(bid + 0.01, 4), 7),
        tick_price(req_id, 106, round(ask - 0.01, 4), 7),
        tick_size(req_id, 107, 7),
        tick_size(req_id, 108, 7),
        tick_string(req_id, 109, "P"),
        tick_string(req_id, 110, "P"),
    ]


def tick_string(req_id: int, tick: int, value: str) -> str:
    """Text of a string tick (message 46)."""
    return f"46\0006\000{req_id}\0{tick}\0{value}\0"


def tick_generic(req_id: int, tick: int, value: float) -> str:
    """Text of a generic tick (message 45)."""
    return f"45\0006\000{req_id}\0{tick}\0{value!r}\0"


def tick_option_computation(req_id: int, tick: int, model: Model) -> str:
    """Text of a model tick, or of a calculation that was asked for (message 21).

    Attribute 1 says that the model is price-based.
    """
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


def news_bulletin(text: str) -> bytes:
    """A bulletin of an exchange for everybody (message 14)."""
    return message(14, 1, 1, 1, text, "NYSE")


def news_headline(req_id: int, at: datetime, text: str) -> bytes:
    """A headline (message 84)."""
    return message(84, req_id, int(at.timestamp() * 1000), "SIM", "SIM$1", text, "")


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

    def contract_details(self, req_id: int, instrument: Instrument, exchange: str, hours: Hours) -> bytes:
        """One contract's details (message 10)."""
        return message(*detail_fields(self.version, req_id, instrument, exchange, hours))

    def symbol_samples(self, req_id: int, matches: Sequence[Underlying]) -> bytes:
        """Underlyings whose symbol matches (message 79)."""
        fields: list[object] = [79, req_id, len(matches)]
        for stock in matches:
            fields += [stock.conid, stock.symbol, stock.sec_type, stock.primary_exchange, stock.currency, 1, "OPT"]
            if self.version >= _ISSUER_FROM:
                fields += [stock.symbol, ""]
        return message(*fields)


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


def historical_schedule(req_id: int, sessions: Sequence[tuple[datetime, datetime]]) -> bytes:
    """Sessions on New York clocks, each with its date (message 106)."""
    fields: list[object] = []
    for opened, closed in sessions:
        local = opened.astimezone(NEW_YORK)
        fields += [f"{local:%Y%m%d-%H:%M:%S}", f"{closed.astimezone(NEW_YORK):%Y%m%d-%H:%M:%S}", f"{local:%Y%m%d}"]
    first, last = (fields[0], fields[-2]) if fields else ("", "")
    return message(106, req_id, first, last, "US/Eastern", len(sessions), *fields)


def smart_components(req_id: int, components: Sequence[SmartComponent]) -> bytes:
    """The exchanges of one map (message 82)."""
    return message(82, req_id, len(components), *[value for one in components for value in one])
