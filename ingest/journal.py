"""The answers of a batch on this host's disk, until the lake has them.

IB's answers become rows as they come, and one Delta commit at the end of their batch. In between they are in a journal:
one append-only file a run, ``<state>/journal/<ingest_id>.journal``, on the disk within a second. A run that was killed
leaves its journal, and the next one commits it (`ingest.recovery`). docs/adr/0017 gives the reasons.

A file is a sequence of records: a frame (magic, kind, length and CRC of the rest), then a header of JSON, or the rows
of one flush as an Arrow IPC stream. A record that a crash has cut short does not match its frame: it is dropped, and
everything before it counts.
"""

import fcntl
import json
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import structlog

from lake.rows import to_arrow
from lake.tables import BY_NAME

log = structlog.get_logger(__name__)

SUFFIX = ".journal"
MAGIC = b"CLJ1"
FRAME = struct.Struct(">4scII")
HEADER, ROWS = b"H", b"R"
TABLE = b"chainlake.table"
# Seconds. What was answered before the last flush is on the disk.
FLUSH_S = 0.5
LONGEST_RECORD = 1 << 30


class Journal:
    """Writes the journal of one run; its thread flushes twice a second, so that capture never waits for the disk.

    A disk that takes no more stops the journal, and not the capture: `failure` says why. The file is locked while its
    writer lives, whatever becomes of the process.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.failure: str | None = None
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._mutex = threading.Lock()
        self._over = threading.Event()
        self._file: IO[bytes] | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._write([(HEADER, json.dumps(header, default=str).encode())])
            _sync_folder(path.parent)
        except OSError as error:
            self._give_up(error)
        self._thread = threading.Thread(target=self._flush_until_over, name="journal", daemon=True)
        self._thread.start()

    def add(self, table: str, row: dict[str, Any]) -> None:
        """Keep a row of `table` (``schema/name``); it is on the disk within a second."""
        with self._mutex:
            self._waiting.append((table, row))

    def close(self) -> None:
        """Flush, and leave the file, unless it was discarded, to whoever recovers it."""
        self._stop()
        if self._file is not None:
            self._file.close()

    def discard(self) -> None:
        """The lake has the rows: remove the file."""
        self._stop()
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()

    def _stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _flush_until_over(self) -> None:
        while not self._over.wait(FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        with self._mutex:
            rows, self._waiting = self._waiting, []
        if not rows or self.failure:
            return
        by_table: dict[str, list[dict[str, Any]]] = {}
        for table, row in rows:
            by_table.setdefault(table, []).append(row)
        try:
            self._write([(ROWS, _encoded(table, listed)) for table, listed in by_table.items()])
        except OSError as error:
            self._give_up(error)

    def _write(self, records: list[tuple[bytes, bytes]]) -> None:
        assert self._file is not None
        framed = b"".join(FRAME.pack(MAGIC, kind, len(body), _crc(kind, body)) + body for kind, body in records)
        view = memoryview(framed)
        while view:
            view = view[self._file.write(view) or 0 :]
        os.fsync(self._file.fileno())

    def _give_up(self, error: OSError) -> None:
        self.failure = f"{self.path} cannot be written ({error.strerror or error}): answers are in memory only"
        log.error("journal_failed", journal=str(self.path), reason=str(error))


@dataclass(frozen=True, slots=True)
class Contents:
    """What a journal holds: header (None when not even that is whole), rows by table, and bytes that were cut short."""

    header: dict[str, Any] | None
    rows: dict[str, list[dict[str, Any]]]
    dropped: int

    @property
    def count(self) -> int:
        """Rows of all tables."""
        return sum(map(len, self.rows.values()))


def read(file: IO[bytes]) -> Contents:
    """The whole records of a journal, up to the first that is not: a crash can only have cut off the end."""
    header: dict[str, Any] | None = None
    rows: dict[str, list[dict[str, Any]]] = {}
    whole = 0
    for kind, body in _records(file):
        if (kind == HEADER) != (header is None):
            break
        try:
            if kind == HEADER:
                header = json.loads(body)
            else:
                table, found = _decoded(body)
                rows.setdefault(table, []).extend(found)
        except (ValueError, KeyError, pa.ArrowException):
            break
        whole += FRAME.size + len(body)
    return Contents(header, rows, file.seek(0, os.SEEK_END) - whole)


def _records(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    file.seek(0)
    while len(frame := file.read(FRAME.size)) == FRAME.size:
        magic, kind, length, crc = FRAME.unpack(frame)
        if magic != MAGIC or kind not in (HEADER, ROWS) or length > LONGEST_RECORD:
            return
        body = file.read(length)
        if len(body) < length or _crc(kind, body) != crc:
            return
        yield kind, body


def _crc(kind: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(kind))


def _encoded(table: str, rows: list[dict[str, Any]]) -> bytes:
    made = to_arrow(rows, BY_NAME[table]).replace_schema_metadata({TABLE: table.encode()})
    sink = BytesIO()
    with pa.ipc.new_stream(sink, made.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(made)
    return sink.getvalue()


def _decoded(body: bytes) -> tuple[str, list[dict[str, Any]]]:
    made = pa.ipc.open_stream(body).read_all()
    return made.schema.metadata[TABLE].decode(), made.to_pylist()


def _sync_folder(folder: Path) -> None:
    # Or a crash of the host could take the name of a file whose bytes are on the disk.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
