"""Text from outside, made harmless for who reads it on a terminal, in a log or on a page. Pure."""

import math
import unicodedata
from decimal import Decimal

# Line breaks and tabs only move the cursor forward.
LAYOUT = frozenset("\n\t")
# Cc: control characters, ESC among them. Cf: invisible ones, which turn the direction of a line or hide in a word.
# Cs: halves of surrogate pairs, which no terminal can encode. Zl, Zp: line breaks that are not seen in a source.
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# More zeros after the point cannot be counted at a glance.
SMALLEST_WRITTEN_OUT = 1e-9
# What makes a spreadsheet take a cell for a formula (OWASP, CSV injection).
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    """`text` with every character that is not seen written as its escape: ``\\x1b`` for ESC.

    A terminal obeys such characters: a title, a colour, a line deleted, text that runs backwards.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character in LAYOUT or unicodedata.category(character) not in INVISIBLE else _escaped(character)
        for character in text
    )


def for_markdown(text: str) -> str:
    """`text` within Markdown: it links nowhere, shows no picture, and brings no HTML."""
    return printable(text).replace("<", "&lt;").replace("[", "\\[").replace("`", "\\`")


def number_text(value: float) -> str:
    """A number as people read it: thousands apart and four decimals; below one, four digits.

    No digit before the point is lost, and what is not zero is not shown as zero.
    """
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1 or value == 0:
        return f"{value:,.4f}".rstrip("0").rstrip(".")
    if abs(value) < SMALLEST_WRITTEN_OUT:
        return f"{value:.3e}"
    return f"{Decimal(f'{value:.4g}'):f}"


def for_spreadsheet(cell: object) -> object:
    """`cell` as a spreadsheet shows it and does not compute it: a text like ``=1+1`` gets an apostrophe in front."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
