"""Finding the instruments that a client's contract fields describe."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tws_simulator.worlds.descriptions import describe
from tws_simulator.worlds.instruments import (
    RIGHTS,
    Instrument,
    Option,
    OptionSeries,
    Right,
    Underlying,
    parse_occ_symbol,
)
from tws_simulator.worlds.world import World

CONTRACT_FIELDS = 12
_RIGHTS: dict[str, tuple[Right, ...]] = {"C": ("C",), "CALL": ("C",), "P": ("P",), "PUT": ("P",)}


@dataclass(frozen=True, slots=True)
class ContractQuery:
    """The twelve contract fields of a request; an empty string, 0 or None means "any".

    ``sec_id_type`` and ``sec_id``: an identifier of the paper, as reqContractDetails can give it beside them.
    """

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
    sec_id_type: str = ""
    sec_id: str = ""

    @classmethod
    def parse(cls, fields: list[str]) -> "ContractQuery":
        """From the twelve fields in wire order, and an identifier's type and value where there are two more.

        Raises ValueError when a number is none.
        """
        conid, symbol, sec_type, expiry, strike, *rest = fields
        return cls(int(conid or 0), symbol, sec_type, expiry, float(strike or 0), *rest)


def match(world: World, query: ContractQuery, now: datetime) -> list[tuple[Instrument, str]]:
    """The listed instruments that fit, each with the exchange to name in the answer; empty when none does.

    Like IB, a query without an exchange matches once per exchange.
    """
    if query.currency not in ("", "USD"):
        return []
    instruments: Sequence[Instrument]
    if query.conid:
        found = world.by_conid(query.conid, now)
        instruments = [found] if found is not None and _agrees(query, found) else []
    elif query.sec_id:
        instruments = _by_identifier(world, query, now)
    else:
        instruments = _options(world, query, now) if query.sec_type == "OPT" else _underlyings(world, query, now)
    return [(one, exchange) for one in instruments for exchange in _exchanges(query, one)]


def _exchanges(query: ContractQuery, found: Instrument) -> Sequence[str]:
    """The exchanges to name: the one asked for, if it lists `found`; of a contract id the preferred one, else all."""
    listed = found.underlying.option_exchanges if isinstance(found, Option) else found.exchanges
    if query.exchange:
        return [query.exchange] if query.exchange in listed else []
    return listed[:1] if query.conid else listed


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


def _underlyings(world: World, query: ContractQuery, now: datetime) -> list[Underlying]:
    found = world.underlying(query.symbol or query.local_symbol, now)
    if found is None or found.sec_type != query.sec_type:
        return []
    if query.local_symbol not in ("", found.symbol) or query.primary_exchange not in ("", found.primary_exchange):
        return []
    return [found]


def _by_identifier(world: World, query: ContractQuery, now: datetime) -> list[Underlying]:
    """By ISIN; no other identifier is simulated."""
    if query.sec_id_type != "ISIN":
        return []
    return [one for one in world.underlyings(now) if describe(one).isin == query.sec_id and _agrees(query, one)]


def _options(world: World, query: ContractQuery, now: datetime) -> list[Option]:
    if query.local_symbol:
        return _by_local_symbol(world, query, now)
    underlying = world.underlying(query.symbol, now)
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
    return [
        option
        for underlying in world.underlyings(now)
        # a class is called as the root, with a letter or a digit after it: SPXW, VXX2
        if root.startswith(underlying.root) and query.symbol in ("", underlying.symbol)
        for series in world.series(underlying, now)
        if series.trading_class == root and series.expiry == expiry and _series_fits(query, series)
        if (option := series.find(strike, right)) is not None
    ]
