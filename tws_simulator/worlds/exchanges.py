"""Exchanges as IB writes them, and the maps by which the letters of tick 32, 33 and 84 name them."""

from types import MappingProxyType
from typing import NamedTuple


class SmartComponent(NamedTuple):
    """One exchange of a map: the bit and the letter that stand for it."""

    bit: int
    exchange: str
    letter: str


# Letters: participant ids of the consolidated tapes (CTA, UTP) and of OPRA.
_STOCK_LETTERS = {
    "AMEX": "A", "ARCA": "P", "BATS": "Z", "BEX": "B", "BYX": "Y", "CHX": "M", "DRCTEDGE": "K", "EDGEA": "J",
    "IEX": "V", "NASDAQ": "Q", "NYSE": "N", "PSX": "X",
}  # fmt: skip
_OPTION_LETTERS = {"AMEX": "A", "CBOE": "C", "ISE": "I", "PHLX": "X"}
STOCK_EXCHANGES, OPTION_EXCHANGES = tuple(_STOCK_LETTERS), tuple(_OPTION_LETTERS)

# Keys as message 81 names them; those of a real TWS look alike and mean nothing to a client.
STOCK_MAP, OPTION_MAP = "9c0001", "9c0002"


def _components(letters: dict[str, str]) -> tuple[SmartComponent, ...]:
    return tuple(SmartComponent(bit, exchange, letter) for bit, (exchange, letter) in enumerate(letters.items()))


SMART_COMPONENTS = MappingProxyType({STOCK_MAP: _components(_STOCK_LETTERS), OPTION_MAP: _components(_OPTION_LETTERS)})
