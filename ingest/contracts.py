"""What is recorded: underlyings and option contracts, as plain values."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

Right = Literal["C", "P"]
OCC_ROOT_WIDTH = 6
# TWS keeps contract ids in 32 bits; no strike or multiplier comes near that either.
LARGEST = 2**31 - 1
# Characters; an OCC symbol has 21.
LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Underlying:
    """One line of the universe; `conid` is None until the broker has said it."""

    symbol: str
    conid: int | None = None
    sec_type: str = "STK"
    exchange: str = "SMART"
    weight: float | None = None
    group: str = ""
    views: frozenset[str] = frozenset({"intraday", "close"})


@dataclass(frozen=True, slots=True)
class OptionContract:
    """One listed option; `expiry` is the OCC expiry of its local symbol, which can differ from `last_trade_date`."""

    conid: int
    underlying: str
    symbol: str
    trading_class: str
    expiry: date
    last_trade_date: date
    right: Right
    strike: float
    multiplier: float
    exchange: str


def listed(contract: OptionContract) -> OptionContract:
    """`contract`, when it is one that can be recorded. Raises ValueError that says which term cannot be right."""
    if not 0 < contract.conid <= LARGEST:
        raise ValueError(f"a contract id of {contract.conid}")
    for name in ("strike", "multiplier"):
        if not 0 < getattr(contract, name) < LARGEST:
            raise ValueError(f"a {name} of {getattr(contract, name)}")
    for name in ("symbol", "trading_class"):
        if not 0 < len(text := getattr(contract, name)) <= LONGEST_NAME or not text.isprintable():
            raise ValueError(f"the {name.replace('_', ' ')} {text[:LONGEST_NAME]!r}")
    return contract


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """A combination that may or may not be listed: what IB is asked to qualify."""

    underlying: str
    trading_class: str
    last_trade_date: date
    right: Right
    strike: float
    multiplier: str
    exchange: str = "SMART"


@dataclass(frozen=True, slots=True)
class ChainParameters:
    """One trading class of ``reqSecDefOptParams``: unions of last trade dates and strikes, so not all combine."""

    exchange: str
    trading_class: str
    multiplier: str
    expirations: frozenset[date]
    strikes: frozenset[float]

    @classmethod
    def described(
        cls, exchange: str, trading_class: str, multiplier: str, expirations: Iterable[str], strikes: Collection[float]
    ) -> "ChainParameters":
        """The class in IB's words. Raises ValueError that says which of them cannot be right."""
        where = f"class {trading_class[:LONGEST_NAME]!r} on {exchange[:LONGEST_NAME]!r} has"
        if not 0 < _number(multiplier) < LARGEST:
            raise ValueError(f"{where} a multiplier of {multiplier[:LONGEST_NAME]!r}")
        if wrong := [strike for strike in strikes if not 0 < strike < LARGEST]:
            raise ValueError(f"{where} a strike of {wrong[0]}")
        dates = set()
        for text in expirations:
            try:
                dates.add(ib_date(text))
            except ValueError:
                raise ValueError(f"{where} an expiry of {text[:LONGEST_NAME]!r}") from None
        return cls(exchange, trading_class, multiplier, frozenset(dates), frozenset(strikes))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def contract_from_row(row: Mapping[str, object]) -> OptionContract:
    """The contract in a row of ``raw/contracts``."""
    return OptionContract(**{name: row[name] for name in OptionContract.__slots__})  # type: ignore[arg-type]


def ib_date(text: str) -> date:
    """The date at the beginning of IB's ``20140620`` or ``20140620 16:00:00 US/Eastern``. Raises ValueError."""
    return date.fromisoformat(f"{text[:4]}-{text[4:6]}-{text[6:8]}")


def occ_expiry(local_symbol: str) -> date:
    """The expiry in an OCC symbol, such as 2014-06-21 in ``AAPL  140621C00645000``. Raises ValueError."""
    return datetime.strptime(local_symbol[OCC_ROOT_WIDTH : OCC_ROOT_WIDTH + 6] + "+0000", "%y%m%d%z").date()
