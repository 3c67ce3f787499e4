"""ISINs: the true ones of well-known names, and made ones that nobody can take for real."""

import pytest

from tws_simulator.worlds.descriptions import describe, with_check_digit
from tws_simulator.worlds.instruments import Underlying

WELL_KNOWN = ("AAPL", "MSFT", "NVDA", "AMZN", "META", "AVGO", "GOOGL", "GOOG", "TSLA", "BRK B")


@pytest.mark.parametrize("symbol", WELL_KNOWN)
def test_the_isins_of_well_known_names_have_their_check_digit(symbol: str) -> None:
    isin = describe(Underlying(1, symbol)).isin
    assert isin.startswith("US")
    assert with_check_digit(isin[:-1]) == isin


def test_a_made_isin_is_valid_in_form_and_of_no_country() -> None:
    """It follows the contract id: a new symbol is the same paper."""
    one, renamed, other = (describe(Underlying(*terms)).isin for terms in ((7, "OLD"), (7, "NEW"), (8, "OLD")))
    assert one == renamed != other
    assert (len(one), one[:2]) == (12, "ZZ")
    assert with_check_digit(one[:-1]) == one


def test_the_check_digit_is_that_of_the_standard() -> None:
    """Examples of ISO 6166's annex and of public lists: Apple, Treasury Corp of Victoria, BAE Systems."""
    for isin in ("US0378331005", "AU0000XVGZA3", "GB0002634946"):
        assert with_check_digit(isin[:-1]) == isin


def test_an_index_has_a_name_and_no_isin() -> None:
    assert describe(Underlying(416904, "SPX", "IND", "CBOE"))[:2] == ("", "S&P 500 Stock Index")
