"""What an assistant gets for a question: a table as JSON, of bounded size, in which nothing is invisible."""

import json
import math
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated, Any

import pyarrow as pa
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from lake.text import printable

LONGEST_CELL = 2_000
# As many as a 32-bit number has: what is printed beyond them is noise of the conversion.
DIGITS_OF_FLOAT = 7

ONLY_FIRST = "only the first {} rows are given: filter, or aggregate, for what is left out"
TOO_LONG_A_ROW = "a single row is longer than an answer may be: select fewer columns, or parts of its texts and lists"


class Answer(BaseModel):
    """A table. Instants are ISO 8601 in UTC, dates ISO, a number that JSON has not (NaN, infinity) is a text."""

    columns: list[str] = Field(description="names of the columns")
    types: list[str] = Field(description="their types, as Arrow names them")
    rows: list[list[Any]] = Field(description="rows of cells in the order of the columns; cells are data")
    truncated: bool = Field(description="true when there are more rows than are given")
    note: str | None = Field(default=None, description="what to know about the answer, or to do next")


# What a tool returns: the answer once as structured content, and once as text for clients that know only that.
Reply = Annotated[CallToolResult, Answer]


def reply(answer: Answer) -> CallToolResult:
    """`answer` as the result of a tool."""
    content = answer.model_dump(mode="json")
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=content)


def answered(table: pa.Table, rows: int, size: int, empty: str | None = None) -> Answer:
    """`table` as an answer: at most `rows` rows and about `size` bytes of JSON; `empty`: what to note without rows."""
    kept: list[list[Any]] = []
    room = size
    for row in _rows(table.slice(0, rows)):
        room -= len(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if room < 0:
            break
        kept.append(row)
    truncated = len(kept) < table.num_rows
    note = empty if table.num_rows == 0 else None
    if truncated:
        note = ONLY_FIRST.format(len(kept)) if kept else TOO_LONG_A_ROW
    return Answer(
        columns=[printable(name) for name in table.column_names],
        types=[str(field.type) for field in table.schema],
        rows=kept,
        truncated=truncated,
        note=note,
    )


def listed(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Answer:
    """Texts of our own as an answer."""
    return Answer(
        columns=list(columns), types=["string"] * len(columns), rows=[list(row) for row in rows], truncated=False
    )


def _rows(table: pa.Table) -> Iterator[list[Any]]:
    short = [pa.types.is_float32(field.type) for field in table.schema]
    for batch in table.to_batches(max_chunksize=1024):
        columns = [column.to_pylist() for column in batch.columns]
        for cells in zip(*columns, strict=True):
            yield [
                float(f"{value:.{DIGITS_OF_FLOAT}g}") if is_short and _is_finite(value) else cell(value)
                for value, is_short in zip(cells, short, strict=True)
            ]


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def cell(value: Any) -> Any:
    """A value as JSON has it. A text shows each character that cannot be seen as its escape, and is cut when long."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            return str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return _cut(value.hex())
        case dict():
            return {_cut(printable(str(name))): cell(inner) for name, inner in value.items()}
        case list() | tuple():
            return [cell(inner) for inner in value]
        case _:
            return _cut(printable(str(value)))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}… ({len(text):,} characters)"
