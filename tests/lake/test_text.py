"""Text from outside: nothing in it steers a terminal, a page or a spreadsheet, and no number is shown as another."""

import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.text import INVISIBLE, LAYOUT, for_markdown, for_spreadsheet, number_text, printable


@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_nothing_invisible_is_left_and_what_is_seen_stays(text: str) -> None:
    shown = printable(text)
    assert not [c for c in shown if unicodedata.category(c) in INVISIBLE and c not in LAYOUT]
    shown.encode()
    if not [c for c in text if unicodedata.category(c) in INVISIBLE and c not in LAYOUT]:
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[/x] [red]42", "[/x] [red]42"),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("a\r\nb", "a\\r\nb"),
        ("\x9b2J", r"\x9b2J"),
        ("safe\u202egnp.exe", r"safe\u202egnp.exe"),
        ("\ud800", r"\ud800"),
        ("苹果 \u2713", "苹果 \u2713"),
    ],
)
def test_a_control_character_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_markdown_has_no_link_picture_or_html() -> None:
    assert for_markdown("![x](http://a) <img src=y> `z`") == r"!\[x](http://a) &lt;img src=y> \`z\`"


@pytest.mark.parametrize(
    ("cell", "kept"), [("=1+1", "'=1+1"), ("@x", "'@x"), ("-1", "'-1"), ("AAPL", "AAPL"), (-1.5, -1.5), (None, None)]
)
def test_a_spreadsheet_computes_nothing(cell: object, kept: object) -> None:
    assert for_spreadsheet(cell) == kept


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (21288.0, "21,288"),
        (1234567.891, "1,234,567.891"),
        (1e-06, "0.000001"),
        (0.0001234567, "0.0001235"),
        (0.9, "0.9"),
        (-2.5, "-2.5"),
        (0.0, "0"),
        (3e-12, "3.000e-12"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_numbers_are_shown_as_people_read_them(value: float, shown: str) -> None:
    assert number_text(value) == shown


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_number_that_is_shown_is_near_the_number(value: float) -> None:
    shown = Decimal(number_text(value).replace(",", ""))
    error = abs(shown - Decimal(value))
    assert (
        error <= max(Decimal("0.00005"), abs(Decimal(value)) * Decimal("0.0006"))
        if abs(value) >= 1
        else (error <= abs(Decimal(value)) * Decimal("0.0006"))
    )
