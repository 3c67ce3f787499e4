"""The file of corporate actions, as a check before anything is built: what it says, and which line cannot be right.

The build itself asks dbt (``macros/check_corporate_actions.sql``), and a test holds both to the same
words. The simulated gateway has a reader of its own (`tws_simulator.worlds.synthetic.events`), its deliberate twin.
"""

import csv
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal, get_args

from ingest.errors import UsageError
from ingest.universe import ib_symbol

EventType = Literal["split", "special_dividend", "symbol_change", "deliverable_change"]
EVENT_TYPES: dict[str, EventType] = {name: name for name in get_args(EventType)}
COLUMNS = (
    "symbol", "event_type", "effective_date", "ratio_new", "ratio_old", "cash_amount", "new_symbol", "known_at",
    "source",
)  # fmt: skip
MOST = 1e9


@dataclass(frozen=True, slots=True)
class CorporateAction:
    """One row: an event of a stock, effective on a New York date and known from an instant (UTC) on.

    ``ratio`` is new shares for old ones, ``cash_amount`` dollars a share; None where the event has none.
    """

    symbol: str
    event_type: EventType
    effective_date: date
    known_at: datetime
    ratio: tuple[float, float] | None
    cash_amount: float | None
    new_symbol: str


def read_corporate_actions(file: Path) -> list[CorporateAction]:
    """All rows of the CSV, corrected ones included, in their order. Raises UsageError naming the line."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"corporate actions {file} cannot be read ({error}): set reference.corporate_actions"
        ) from None
    rows = csv.reader(text.splitlines())
    if [name.strip() for name in next(rows, [])] != list(COLUMNS):
        raise UsageError(f"{file}, line 1: the columns are {','.join(COLUMNS)}")
    actions: list[CorporateAction] = []
    lines: dict[tuple[str, str, date, datetime], int] = {}
    for row in rows:
        if not row:
            continue
        line = rows.line_num
        try:
            action = _parse(row)
            key = (action.symbol, action.event_type, action.effective_date, action.known_at)
            if (first := lines.setdefault(key, line)) < line:
                raise ValueError(f"it repeats line {first}; a correction has a later known_at")
        except ValueError as error:
            raise UsageError(f"{file}, line {line}: {error}") from None
        actions.append(action)
    return actions


def _parse(row: list[str]) -> CorporateAction:
    if len(row) != len(COLUMNS):
        raise ValueError(f"it has not {len(COLUMNS)} fields: {','.join(row)}")
    given = {name: value.strip() for name, value in zip(COLUMNS, row, strict=True)}
    symbol, new_symbol = ib_symbol(given["symbol"]), ib_symbol(given["new_symbol"])
    if not symbol:
        raise ValueError("symbol is missing")
    event_type = EVENT_TYPES.get(given["event_type"])
    if event_type is None:
        raise ValueError(f"event_type {given['event_type']!r} is none of {', '.join(EVENT_TYPES)}")
    effective_date = _date(given["effective_date"])
    known_at = _instant(given["known_at"])
    new, old, cash = (_amount(name, given[name]) for name in ("ratio_new", "ratio_old", "cash_amount"))
    if event_type == "split" and (new is None or old is None):
        raise ValueError("a split needs ratio_new and ratio_old")
    if event_type == "special_dividend" and cash is None:
        raise ValueError("a special_dividend needs cash_amount")
    if event_type == "symbol_change" and new_symbol in ("", symbol):
        raise ValueError("a symbol_change needs a new_symbol that differs from symbol")
    ratio = (new, old) if new is not None and old is not None else None
    return CorporateAction(symbol, event_type, effective_date, known_at, ratio, cash, new_symbol)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"effective_date {text!r} is no date like 2014-06-09") from None


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError(f"known_at {text!r} is no instant like 2014-04-24T04:00:00Z")
    return instant


def _amount(name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        amount = float(text)
    except ValueError:
        amount = 0.0
    if not 0 < amount < MOST:
        raise ValueError(f"{name} {text!r} is no number above 0")
    return amount
