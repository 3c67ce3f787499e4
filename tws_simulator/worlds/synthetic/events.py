"""Corporate actions: reading them, and the terms in which an underlying is quoted between them.

The file is the one that the lake adjusts with (docs/reference/configuration-data.md), and a row means the same here.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

from ingest.calendar.sessions import session_on
from tws_simulator.errors import GatewayError

EventType = Literal["split", "special_dividend", "symbol_change", "deliverable_change"]
COLUMNS = (
    "symbol", "event_type", "effective_date", "ratio_new", "ratio_old", "cash_amount", "new_symbol", "known_at",
    "source",
)  # fmt: skip
# Options are not adjusted for less, 12.50 dollars a contract (SR-OCC-2008-16).
SMALLEST_SPECIAL_DIVIDEND = 0.125


@dataclass(frozen=True, slots=True)
class CorporateAction:
    """One row. ``ratio``: new shares for an old one; ``cash``: dollars a share; ``where``: file and line."""

    symbol: str
    event_type: EventType
    effective_date: date
    ratio: Fraction = Fraction(1)
    cash: float = 0.0
    new_symbol: str = ""
    where: str = ""

    @property
    def contracts(self) -> int:
        """Contracts that one contract becomes: N of a split that divides to a whole number, else 1."""
        return int(self.ratio) if self.event_type == "split" and not self.changes_deliverable else 1

    @property
    def changes_deliverable(self) -> bool:
        """Whether the old series go on under a root of their own: spin-offs, mergers, reverse and broken splits."""
        return self.event_type == "deliverable_change" or (self.ratio < 1 or self.ratio.denominator > 1)

    @property
    def position(self) -> int:
        """Order among the events of one date."""
        if self.changes_deliverable:
            return 2
        return ("split", "special_dividend", "", "symbol_change").index(self.event_type)


@dataclass(frozen=True, slots=True)
class Regime:
    """What an underlying is called, and its dollars, from the date ``starts`` to the next regime.

    A price here is ``factor * price + shift`` of the price in the terms after its last event. ``actions`` are those
    of the date it starts on, in the order in which they take effect.
    """

    starts: date
    symbol: str
    factor: float = 1.0
    shift: float = 0.0
    actions: tuple[CorporateAction, ...] = ()


def read_corporate_actions(file: Path) -> list[CorporateAction]:
    """The actions of a CSV, the last known edition of each. Raises `GatewayError` that names the line.

    A special dividend below 0.125 dollars adjusts nothing and is left out.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as reason:
        raise GatewayError(f"corporate actions {file} cannot be read ({reason}); give the path of a CSV") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if missing := [name for name in COLUMNS if name not in (reader.fieldnames or [])]:
        raise GatewayError(f"{file}, line 1: no column {', '.join(missing)}; expected {','.join(COLUMNS)}")
    editions: dict[tuple[str, EventType, date], tuple[datetime, CorporateAction]] = {}
    for row in _rows(reader, file):
        where = f"{file}, line {reader.line_num}"
        if None in row or None in row.values():
            raise GatewayError(f"{where}: expected {len(COLUMNS)} fields ({','.join(COLUMNS)})")
        known_at, action = _parse({name: row[name].strip() for name in COLUMNS}, where)
        key = (action.symbol, action.event_type, action.effective_date)
        if key not in editions or known_at >= editions[key][0]:
            editions[key] = known_at, action
    return [
        action
        for _, action in editions.values()
        if action.event_type != "special_dividend" or action.cash >= SMALLEST_SPECIAL_DIVIDEND
    ]


def _rows(reader: "csv.DictReader[str]", file: Path) -> Iterator[dict[str, str]]:
    """The lines of `reader` that are not blank."""
    try:
        yield from (row for row in reader if "".join(text for text in row.values() if isinstance(text, str)).strip())
    except csv.Error as reason:
        raise GatewayError(f"{file}, line {reader.line_num}: no line of a CSV ({reason}); correct it") from None


def regimes_of(symbol: str, actions: Iterable[CorporateAction], first: date, last: date) -> tuple[Regime, ...]:
    """The regimes of the underlying that is called `symbol` at some time, by date; events from `first` to `last` count.

    Prices after the last event are those of a world without events; the ones before are larger (or smaller) by what
    happens until then, as in an unadjusted history of prices. Raises `GatewayError` for an event that is on no session.
    """
    inside = [one for one in actions if first <= one.effective_date <= last]
    name = symbol
    changes = sorted((one for one in inside if one.event_type == "symbol_change"), key=lambda one: one.effective_date)
    for change in changes:
        name = change.new_symbol if change.symbol == name else name
    factor, shift = Fraction(1), 0.0
    regimes: list[Regime] = []
    for day, events in _of_underlying(name, inside):
        if session_on(day) is None:
            raise GatewayError(f"{events[0].where}: {day} is no XNYS session; give the first session in the new terms")
        regimes.append(Regime(day, name, float(factor), shift, tuple(events)))
        for event in reversed(events):
            factor, shift = factor * event.ratio, shift * float(event.ratio) + event.cash
            name = event.symbol
    return (Regime(date.min, name, float(factor), shift), *reversed(regimes))


def _of_underlying(name: str, actions: Sequence[CorporateAction]) -> Iterator[tuple[date, Sequence[CorporateAction]]]:
    """The events of the underlying that ends as `name`, date by date backwards, under the symbol of that time."""
    latest_first = sorted(actions, key=lambda one: (one.effective_date, one.position), reverse=True)
    for day, events in groupby(latest_first, lambda one: one.effective_date):
        found = []
        for event in events:
            renamed = event.event_type == "symbol_change"
            if (event.new_symbol if renamed else event.symbol) == name:
                found.append(event)
                name = event.symbol
        if found:
            yield day, found[::-1]


def ib_symbol(symbol: str) -> str:
    """`symbol` as IB writes it, with a blank for a dot, a dash or a slash; the client's: `ingest.universe`."""
    return re.sub(r"[\s./-]+", " ", symbol).strip().upper()


def _parse(fields: dict[str, str], where: str) -> tuple[datetime, CorporateAction]:
    event_type = fields["event_type"]
    if event_type not in get_args(EventType):
        raise GatewayError(f"{where}: event_type is {event_type!r}; expected {', '.join(get_args(EventType))}")
    symbol, new_symbol = (ib_symbol(fields[name]) for name in ("symbol", "new_symbol"))
    ratio, cash = Fraction(1), 0.0
    try:
        effective_date = date.fromisoformat(fields["effective_date"])
        known_at = datetime.fromisoformat(fields["known_at"])
        if fields["ratio_new"] or event_type == "split":
            ratio = Fraction(fields["ratio_new"]) / Fraction(fields["ratio_old"])
        if event_type == "special_dividend":
            cash = float(fields["cash_amount"])
    except (ValueError, ZeroDivisionError) as reason:
        raise GatewayError(f"{where}: {reason}; a {event_type} needs its date, its known_at and its numbers") from None
    if not symbol or known_at.tzinfo is None:
        raise GatewayError(f"{where}: give a symbol, and known_at with its time zone, as 2014-04-24T04:00:00Z")
    if ratio <= 0 or cash < 0 or (event_type == "symbol_change") != bool(new_symbol):
        raise GatewayError(f"{where}: a ratio and cash are positive, and a symbol_change (only) has a new_symbol")
    return known_at, CorporateAction(symbol, event_type, effective_date, ratio, cash, new_symbol, where)  # type: ignore[arg-type]
