"""What contract details say of an underlying beside its terms: ISIN, name and branch. Pure.

Of well-known names the true ones, because programs look Apple up by its ISIN. Every other stock has an ISIN that
begins with ZZ, which ISO 3166 leaves to users and no real paper has, and a name that says it is simulated.
"""

from types import MappingProxyType
from typing import NamedTuple

from tws_simulator.worlds.instruments import Underlying, word

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SIMULATED_COUNTRY = "ZZ"


class Description(NamedTuple):
    """Texts of one underlying; ``isin`` is empty for an index."""

    isin: str
    long_name: str
    industry: str
    category: str
    subcategory: str


_KNOWN = MappingProxyType(
    {
        "AAPL": Description("US0378331005", "APPLE INC", "Technology", "Computers", "Computers"),
        "MSFT": Description("US5949181045", "MICROSOFT CORP", "Technology", "Software", "Applications Software"),
        "NVDA": Description("US67066G1040", "NVIDIA CORP", "Technology", "Semiconductors", "Electronic Compo-Semicon"),
        "AMZN": Description("US0231351067", "AMAZON.COM INC", "Communications", "Internet", "E-Commerce/Products"),
        "META": Description(
            "US30303M1027", "META PLATFORMS INC-CLASS A", "Communications", "Internet", "Internet Content-Entmnt"
        ),
        "AVGO": Description("US11135F1012", "BROADCOM INC", "Technology", "Semiconductors", "Electronic Compo-Semicon"),
        "GOOGL": Description("US02079K3059", "ALPHABET INC-CL A", "Communications", "Internet", "Web Portals/ISP"),
        "GOOG": Description("US02079K1079", "ALPHABET INC-CL C", "Communications", "Internet", "Web Portals/ISP"),
        "TSLA": Description(
            "US88160R1014", "TESLA INC", "Consumer, Cyclical", "Auto Manufacturers", "Auto-Cars/Light Trucks"
        ),
        "BRK B": Description("US0846707026", "BERKSHIRE HATHAWAY INC-CL B", "Financial", "Insurance", "Reinsurance"),
        "SPX": Description("", "S&P 500 Stock Index", "Indices", "Broad Range Equity Index", "*"),
        "RUT": Description("", "Russell 2000 Stock Index", "Indices", "Broad Range Equity Index", "*"),
    }
)


def describe(underlying: Underlying) -> Description:
    """The texts of `underlying`. A made ISIN follows the contract id, so that it survives a change of symbol."""
    known = _KNOWN.get(underlying.symbol)
    if known is not None:
        return known
    name = f"{underlying.symbol} (SIMULATED)"
    if underlying.is_index:
        return Description("", name, "Indices", "Index", "*")
    return Description(_made_isin(underlying.conid), name, "Simulated", "Simulated", "Simulated")


def _made_isin(conid: int) -> str:
    number, letters = word("isin", conid), ""
    for _ in range(9):
        number, rest = divmod(number, len(_ALPHABET))
        letters += _ALPHABET[rest]
    return with_check_digit(_SIMULATED_COUNTRY + letters)


def with_check_digit(stem: str) -> str:
    """The ISIN of the eleven characters `stem`: letters count 10 to 35, then Luhn's rule (ISO 6166, annex A)."""
    digits = "".join(str(_ALPHABET.index(letter)) for letter in stem)
    # Luhn doubles every second digit from the right, beginning with the last of the stem
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits))]
    return f"{stem}{-sum(value // 10 + value % 10 for value in doubled) % 10}"
