"""Asks the lake: every question is run as that of a stranger, in a process that can neither write, connect nor outgrow.

A text that an assistant gives becomes part of a statement only as a literal, or after it has been read as what it
should be: a date, a New York time, a right.
"""

import re
import threading
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa

from chainlake.mcp.answers import Answer, answered
from lake.catalog.connection import Limits
from lake.catalog.untrusted import Question, answer
from lake.duck import literal
from lake.errors import LakeError, QueryRefused

CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
CLOSE = "close"
SEPARATORS = re.compile(r"[./\s-]+")
# Of what DuckDB holds, one byte becomes about as many in JSON; an answer that is far larger need not be sent at all.
BYTES_OF_ARROW = 8


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one question may take: `rows` and `bytes` of its answer, `seconds`, `memory`; and how many run `at_once`."""

    rows: int = 200
    most_rows: int = 2_000
    bytes: int = 200_000
    seconds: float = 30.0
    memory: str = "1GB"
    at_once: int = 2


@dataclass(frozen=True)
class Questions:
    """Questions to the lake at `root`, whose past can be asked for `as_of_days`."""

    root: str
    bounds: Bounds = Bounds()
    as_of_days: int = 60
    _places: threading.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", threading.Semaphore(self.bounds.at_once))

    def ask(self, sql: str, rows: int | None = None, at: str | None = None, empty: str | None = None) -> Answer:
        """The answer of a reading statement; `at`: as known then, New York time. Raises LakeError, with one line."""
        wanted = self.bounds.rows if rows is None else rows
        if not 1 <= wanted <= self.bounds.most_rows:
            raise QueryRefused(f"rows {wanted}: ask for 1 to {self.bounds.most_rows}")
        table = self._run(Question(self.root, sql, at, self.as_of_days), wanted + 1)
        return answered(table, wanted, self.bounds.bytes, empty)

    def latest_published(self) -> date:
        """The latest trade date that was published. Raises LakeError when there is none."""
        day = self.value("SELECT max(trade_date) FROM ops.published")
        if not isinstance(day, date):
            raise LakeError(
                "no trade date is published yet: ask raw tables by `sql`, or publish a day: `chainlake rollup`"
            )
        return day

    def value(self, sql: str) -> object:
        """The only value of a statement of our own, None when it has no row."""
        table = self._run(Question(self.root, sql), 1)
        return table.column(0)[0].as_py() if table.num_rows else None

    def _run(self, question: Question, rows: int) -> pa.Table:
        bounds = self.bounds
        limits = Limits(
            memory=bounds.memory, seconds=bounds.seconds, rows=rows, answer_bytes=bounds.bytes * BYTES_OF_ARROW
        )
        # Whoever waits longer than a question may take waits for others that wait.
        if not self._places.acquire(timeout=bounds.seconds):
            raise QueryRefused(f"{bounds.at_once} other questions are being answered: ask again in a while")
        try:
            return answer(question, limits)
        finally:
            self._places.release()


def day_literal(name: str, text: str) -> str:
    """A date as SQL. Raises QueryRefused."""
    try:
        return f"DATE '{date.fromisoformat(text)}'"
    except ValueError:
        raise QueryRefused(f"{name} {_shown(text)} is no date: write it as 2026-11-20") from None


def clock_literal(text: str) -> str:
    """A New York time as SQL. Raises QueryRefused."""
    if CLOCK.fullmatch(text) is None:
        raise QueryRefused(
            f"slot {_shown(text)} is no slot: write a New York time as 10:30, or {CLOSE} for the end of day"
        )
    return literal(text)


def right_literal(text: str) -> str:
    """C or P as SQL. Raises QueryRefused."""
    if text.upper() not in ("C", "P"):
        raise QueryRefused(f"right {_shown(text)} is neither C (call) nor P (put)")
    return literal(text.upper())


def symbol_literal(text: str) -> str:
    """A symbol as SQL, as IB writes it: a space where others write a dot, a dash or a slash."""
    return literal(SEPARATORS.sub(" ", text).strip().upper())


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
