"""Tables and figures as Markdown."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from ingest.calendar.sessions import NEW_YORK
from lake.text import for_markdown


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells are written as people read them."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (names, ["---"] * len(names), *map(_cells, rows))]
    return "\n".join(lines)


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    """A number with thousands apart, or a dash."""
    return "–" if value is None else f"{value:,.{digits}f}{unit}"


def share(value: float | None) -> str:
    """A share in per cent, or a dash. Rounded down: 89.99 % is not 90."""
    return "–" if value is None else f"{int(value * 10_000 + 1e-6) / 100:g} %"


def clock(instant: datetime | None) -> str:
    """An instant on the New York clock, with its date."""
    return "–" if instant is None else f"{instant.astimezone(NEW_YORK):%Y-%m-%d %H:%M}"


def _cells(row: Sequence[object]) -> list[str]:
    # A bar or a line break of a message would end the cell.
    return [" ".join(("–" if cell is None else for_markdown(str(cell))).replace("|", "\\|").split()) for cell in row]
