"""CSV files that people edit: read as spreadsheets save them, and refused by line where they cannot be right.

A byte order mark, any end of line and lines of blanks are taken as they come; what is left has to be UTF-8 with exactly
the columns that are asked for, each once, in any order.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from ingest.errors import UsageError

# Characters of a line that are repeated to the user.
LONGEST_SHOWN = 200


class WrongLine(UsageError):
    """A line of a file that cannot be right; the message names the file, the line and what to do."""

    def __init__(self, file: Path, line: int, problem: str) -> None:
        super().__init__(f"{file}, line {line}: {problem}")
        self.line = line
        self.problem = problem


def read_lines(file: Path, columns: Sequence[str], setting: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and fields by column, without blanks around them, of every line but the header and blank ones.

    `setting` is what names the file. Raises UsageError when it cannot be read, and WrongLine for what is not a CSV of
    `columns`.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"{file} cannot be read ({reason}): set {setting}") from None
    records = _records(file, _text(file, content))
    line, header = next(records, (1, []))
    if not header:
        raise WrongLine(file, 1, f"the file is empty: its first line names the columns {','.join(columns)}")
    _check_header(file, line, header, columns)
    for line, record in records:
        if len(record) != len(header):
            shown = ",".join(record)[:LONGEST_SHOWN]
            raise WrongLine(file, line, f"it has not {len(header)} fields: {shown}")
        yield line, {name: field.strip() for name, field in zip(header, record, strict=True)}


def _text(file: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = f"it cannot be read, as byte 0x{content[error.start]:02x} is not UTF-8: save the file as CSV in UTF-8"
        raise WrongLine(file, line, problem) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise WrongLine(file, line, "it cannot be read, as it holds a NUL: save the file as CSV in UTF-8")
    return text


def _records(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """The records that are not blank, each with the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise WrongLine(file, line, f"it is no line of a CSV ({error}): correct it") from None
        if record is None:
            return
        if record and (len(record) > 1 or record[0].strip()):
            yield line, record


def _check_header(file: Path, line: int, header: Sequence[str], columns: Sequence[str]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    faults = [
        *(f"{name} is missing" for name in columns if name not in header),
        *(f"{name[:LONGEST_SHOWN]!r} is none of them" for name in dict.fromkeys(header) if name not in columns),
        *(f"{name[:LONGEST_SHOWN]} stands twice" for name in twice if name in columns),
    ]
    if faults:
        raise WrongLine(file, line, f"the columns are {','.join(columns)}, and {faults[0]}")
