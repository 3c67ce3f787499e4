"""Finding the instruments that a client's contract fields describe."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ingest.gateway.instruments import RIGHTS, Instrument, Option, OptionSeries, Right, Underlying, parse_occ_symbol
from ingest.gateway.messages import OPTION_EXCHANGES
from ingest.gateway.world import World

CONTRACT_FIELDS = 12
_RIGHTS: dict[str, tuple[Right, ...]] = {"C": ("C",), "CALL": ("C",), "P": ("P",), "PUT": ("P",)}


@dataclass(frozen=True, slots=True)
class ContractQuery:
    """The twelve contract fields of a request; an empty string, 0 or None means "any"."""

    conid: int
    symbol: str
    sec_type: str
    expiry: str
    strike: float
    right: str
    multiplier: str
    exchange: str
    primary_exchange: str
    currency: str
    local_symbol: str
    trading_class: str

    @classmethod
    def parse(cls, fields: list[str]) -> "ContractQuery":
        """From the twelve fields in wire order. Raises ValueError when a number is none."""
        conid, symbol, sec_type, expiry, strike, *rest = fields
        return cls(int(conid or 0), symbol, sec_type, expiry, float(strike or 0), *rest)


def match(world: World, query: ContractQuery, now: datetime) -> list[tuple[Instrument, str]]:
    """The listed instruments that fit, each with the exchange to name in the answer; empty when none does.

    Like IB, a query without an exchange matches once per exchange.
    """
    if query.currency not in ("", "USD"):
        return []
    instruments: Sequence[Instrument]
    exchanges: tuple[str, ...]
    if query.conid:
        found = world.by_conid(query.conid, now)
        instruments = [found] if found is not None and _agrees(query, found) else []
        exchanges = (query.exchange or "SMART",)
    elif query.sec_type == "OPT":
        instruments = _options(world, query, now)
        exchanges = (query.exchange,) if query.exchange else OPTION_EXCHANGES
    else:
        instruments = stocks = _underlyings(world, query)
        exchanges = (query.exchange,) if query.exchange else ("SMART", *{one.primary_exchange for one in stocks})
    return [(one, exchange) for one in instruments for exchange in exchanges if _trades_on(one, exchange)]


def _agrees(query: ContractQuery, found: Instrument) -> bool:
    """IB refuses a contract id that comes with a contradicting symbol, type, strike or right."""
    if isinstance(found, Option):
        return (
            query.sec_type in ("", "OPT")
            and query.symbol in ("", found.underlying.symbol)
            and (not query.strike or abs(query.strike - found.strike) < 1e-6)
            and found.right in _RIGHTS.get(query.right, RIGHTS)
        )
    return query.sec_type in ("", found.sec_type) and query.symbol in ("", found.symbol)


def _trades_on(instrument: Instrument, exchange: str) -> bool:
    if isinstance(instrument, Option):
        return exchange in OPTION_EXCHANGES
    return exchange in ("SMART", instrument.primary_exchange)


def _underlyings(world: World, query: ContractQuery) -> list[Underlying]:
    found = world.underlying(query.symbol or query.local_symbol)
    if found is None or found.sec_type != query.sec_type:
        return []
    if query.local_symbol not in ("", found.symbol) or query.primary_exchange not in ("", found.primary_exchange):
        return []
    return [found]


def _options(world: World, query: ContractQuery, now: datetime) -> list[Option]:
    if query.local_symbol:
        return _by_local_symbol(world, query, now)
    underlying = world.underlying(query.symbol)
    if underlying is None:
        return []
    rights = _RIGHTS.get(query.right, RIGHTS)
    found: list[Option] = []
    for series in world.series(underlying, now):
        if not _series_fits(query, series):
            continue
        if query.strike:
            found += [option for right in rights if (option := series.find(query.strike, right)) is not None]
        else:
            found += [option for option in series.options() if option.right in rights]
    return found


def _series_fits(query: ContractQuery, series: OptionSeries) -> bool:
    return (
        f"{series.last_trade_date:%Y%m%d}".startswith(query.expiry)
        and query.multiplier in ("", f"{series.multiplier:g}")
        and query.trading_class in ("", series.trading_class)
    )


def _by_local_symbol(world: World, query: ContractQuery, now: datetime) -> list[Option]:
    parsed = parse_occ_symbol(query.local_symbol)
    if parsed is None:
        return []
    root, expiry, right, strike = parsed
    named = world.underlying(query.symbol) if query.symbol else None
    candidates = (
        [named] if named is not None else [one for one in world.underlyings() if one.root == root.rstrip("0123456789")]
    )
    return [
        option
        for underlying in candidates
        for series in world.series(underlying, now)
        if series.trading_class == root and series.expiry == expiry and _series_fits(query, series)
        if (option := series.find(strike, right)) is not None
    ]
