"""The file of corporate actions: what it says, and which of its lines cannot be right.

One rule for all who read it: the build asks it before anything is written (`flows.dbt_inputs`), `chainlake doctor` at
any time. The simulated gateway has a reader of its own (`tws_simulator.worlds.synthetic.events`), its deliberate twin.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal, get_args

from ingest.csv_files import WrongLine, read_lines
from ingest.universe import SYMBOL, ib_symbol

EventType = Literal["split", "special_dividend", "symbol_change", "deliverable_change"]
EVENT_TYPES: dict[str, EventType] = {name: name for name in get_args(EventType)}
COLUMNS = (
    "symbol", "event_type", "effective_date", "ratio_new", "ratio_old", "cash_amount", "new_symbol", "known_at",
    "source",
)  # fmt: skip
MOST = 1e9
# New shares for an old one. The largest split of a stock with listed options was 50 for one (CMG, 2024-06-26).
LARGEST_RATIO = 1_000
# What Python, DuckDB and dbt read alike.
DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}(:?\d{2})?)", re.ASCII)
NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


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
    """All rows of the CSV, corrected ones included, in their order.

    Raises UsageError when it cannot be read, and WrongLine for the first line that cannot be right.
    """
    actions, wrong = _judged(file)
    if wrong:
        raise wrong[0]
    return [action for _, action in actions]


def wrong_lines(file: Path) -> list[WrongLine]:
    """Every line that cannot be right, in the order of the file. Raises UsageError when it cannot be read."""
    return _judged(file)[1]


def symbols_without_rows(actions: Sequence[CorporateAction], known: Collection[str]) -> list[str]:
    """Symbols of actions that reach no row: neither they nor what they became is `known`. In the order of the file."""
    followers: dict[str, set[str]] = defaultdict(set)
    for action in actions:
        followers[action.symbol].update({action.new_symbol} - {""})
    return [symbol for symbol in followers if not _lineage(symbol, followers) & set(known)]


def _lineage(symbol: str, followers: Mapping[str, set[str]]) -> set[str]:
    found, waiting = set[str](), [symbol]
    while waiting:
        if (one := waiting.pop()) not in found:
            found.add(one)
            waiting.extend(followers.get(one, ()))
    return found


def _judged(file: Path) -> tuple[list[tuple[int, CorporateAction]], list[WrongLine]]:
    actions: list[tuple[int, CorporateAction]] = []
    wrong: list[WrongLine] = []
    try:
        for line, fields in read_lines(file, COLUMNS, "reference.corporate_actions"):
            try:
                actions.append((line, _parse(fields)))
            except ValueError as error:
                wrong.append(WrongLine(file, line, str(error)))
    except WrongLine as error:
        # What follows a line that is no CSV cannot be told.
        wrong.append(error)
    wrong += (WrongLine(file, line, problem) for line, problem in _contradictions(actions))
    return actions, sorted(wrong, key=lambda one: one.line)


def _contradictions(actions: Sequence[tuple[int, CorporateAction]]) -> Iterator[tuple[int, str]]:
    """Lines that others contradict: with them two companies, or their instruments, could not be told apart."""
    editions: dict[tuple[str, str, date, datetime], int] = {}
    events: dict[tuple[str, str, date], int] = {}
    takers: dict[tuple[str, date], tuple[int, str]] = {}
    for line, one in actions:
        events.setdefault((one.symbol, one.event_type, one.effective_date), line)
        if one.event_type == "symbol_change":
            takers.setdefault((one.new_symbol, one.effective_date), (line, one.symbol))
    for line, one in actions:
        symbol, event, day = one.symbol, one.event_type, one.effective_date
        if (first := editions.setdefault((symbol, event, day, one.known_at), line)) < line:
            yield line, f"it repeats line {first}; a correction has a later known_at"
            continue
        changed, taker = takers.get((one.new_symbol or symbol, day), (line, symbol))
        if event == "symbol_change":
            if taker != symbol:
                yield line, f"by line {changed} {taker} becomes {one.new_symbol} on {day}: remove one of them"
        elif taker != symbol and (symbol, "symbol_change", day) in events:
            yield (
                line,
                f"one company leaves {symbol} on {day} and {taker} takes it: whose {event} is this? "
                "list it under the company's other symbol of that day",
            )
        elif taker != symbol and (twin := events.get((taker, event, day))):
            yield line, f"it repeats line {twin}: {taker} becomes {symbol} on that day; remove one of them"


def _parse(fields: Mapping[str, str]) -> CorporateAction:
    symbol, new_symbol = (_symbol(name, fields[name]) for name in ("symbol", "new_symbol"))
    if not symbol:
        raise ValueError("symbol is missing")
    event_type = EVENT_TYPES.get(fields["event_type"])
    if event_type is None:
        raise ValueError(f"event_type {fields['event_type']!r} is none of {', '.join(EVENT_TYPES)}")
    effective_date, known_at = _date(fields["effective_date"]), _instant(fields["known_at"])
    new, old, cash = (_amount(name, fields[name]) for name in ("ratio_new", "ratio_old", "cash_amount"))
    if event_type == "split" and (new is None or old is None):
        raise ValueError("a split needs ratio_new and ratio_old")
    ratio = (new, old) if new is not None and old is not None else None
    if event_type == "split" and ratio and ratio[0] / ratio[1] > LARGEST_RATIO:
        raise ValueError(f"a split of more than {LARGEST_RATIO:,} new shares for an old one cannot be")
    if event_type == "special_dividend" and cash is None:
        raise ValueError("a special_dividend needs cash_amount")
    if event_type == "symbol_change" and new_symbol in ("", symbol):
        raise ValueError("a symbol_change needs a new_symbol that differs from symbol")
    if event_type != "symbol_change" and new_symbol:
        raise ValueError(f"a {event_type} has no new_symbol: a symbol_change is a line of its own")
    return CorporateAction(symbol, event_type, effective_date, known_at, ratio, cash, new_symbol)


def _symbol(name: str, text: str) -> str:
    symbol = ib_symbol(text)
    if symbol and not SYMBOL.fullmatch(symbol):
        raise ValueError(f"{name} {text!r} is not a symbol")
    return symbol


def _date(text: str) -> date:
    try:
        if DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise ValueError(f"effective_date {text!r} is no date like 2014-06-09")


def _instant(text: str) -> datetime:
    try:
        if INSTANT.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    raise ValueError(f"known_at {text!r} is no instant like 2014-04-24T04:00:00Z")


def _amount(name: str, text: str) -> float | None:
    if not text:
        return None
    if not NUMBER.fullmatch(text) or not 0 < (amount := float(text)) < MOST:
        raise ValueError(f"{name} {text!r} is no number above 0")
    return amount
