"""From rows to Arrow, so that a value that a table cannot hold costs no other row.

What is written here has been made sure of before (`lake.sentinels`): this is the last resort, which loses one value or
one row and says so, where Arrow would refuse the whole batch.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from lake.tables import TEXT, Column, Table
from lake.vocabulary import RowError

log = structlog.get_logger(__name__)

# Characters of a text; what comes from outside can be megabytes. The longest of our own lists 500 symbols.
LONGEST_TEXT = 4_000
UNREPRESENTABLE: RowError = "unrepresentable"
# What Arrow raises for a value that is not of the column's type or range.
UNHELD = (pa.ArrowException, OverflowError, TypeError, ValueError)

Row = dict[str, Any]


def bounded_text(text: str, longest: int = LONGEST_TEXT) -> str:
    """`text` as every reader can take it: of bounded length, without NUL and without halves of surrogate pairs."""
    if len(text) > longest:
        note = f" … ({len(text):,} characters)"
        text = text[: longest - len(note)] + note
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def to_arrow(rows: Sequence[Row], table: Table) -> pa.Table:
    """`rows` in the schema of `table`; columns that a row leaves out are null.

    A row with a value that its column cannot hold becomes an error row (`error_type` unrepresentable) where the table
    has such, and else loses that value; without a value of a required column it is left out. All of it is logged.
    """
    try:
        made = pa.Table.from_pylist(list(rows), schema=table.schema)
    except UNHELD:
        made = pa.Table.from_pylist(_held(rows, table), schema=table.schema)
    for index, column in enumerate(table.columns):
        if column.type == TEXT and _is_unbounded(made.column(index)):
            texts = [None if text is None else bounded_text(text) for text in made.column(index).to_pylist()]
            made = made.set_column(index, made.schema.field(index), pa.array(texts, TEXT))
    return made


def _is_unbounded(texts: pa.ChunkedArray) -> bool:
    longest = pc.max(pc.utf8_length(texts)).as_py() or 0
    return longest > LONGEST_TEXT or bool(pc.any(pc.match_substring(texts, "\0")).as_py())


def _held(rows: Sequence[Row], table: Table) -> list[Row]:
    unheld: dict[int, list[Column]] = {}
    repaired = [{name: bounded_text(v) if isinstance(v, str) else v for name, v in row.items()} for row in rows]
    for column in table.columns:
        values = [row.get(column.name) for row in repaired]
        if not _holds(column, values):
            for number, value in enumerate(values):
                if not _holds(column, [value]):
                    unheld.setdefault(number, []).append(column)
    kept: list[Row] = []
    for number, row in enumerate(repaired):
        columns = unheld.get(number, [])
        if columns:
            log.error(UNREPRESENTABLE, table=table.name, columns=[c.name for c in columns], conid=str(row.get("conid")))
        if not any(column.required for column in columns):
            kept.append(_without(row, columns, table) if columns else row)
    return kept


def _holds(column: Column, values: list[Any]) -> bool:
    try:
        pa.array(values, column.type)
    except UNHELD:
        return False
    return True


def _without(row: Row, columns: Sequence[Column], table: Table) -> Row:
    names = [column.name for column in columns]
    row = {**row, **dict.fromkeys(names)}
    has = {column.name for column in table.columns}
    # An error row is one already, and keeps what it tells.
    if "snapshot_error" not in has or row["snapshot_error"]:
        return row
    row |= {column.name: None for column in table.columns if not column.required}
    row |= {"snapshot_error": True, "error_message": f"the table cannot hold the {', '.join(names)} that came"}
    if "error_type" in has:
        row["error_type"] = UNREPRESENTABLE
    if "data_quality_flag" in has:
        row["data_quality_flag"] = [*(row.get("data_quality_flag") or []), "snapshot_error"]
    return row
