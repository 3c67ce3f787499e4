"""SQL that a user typed, in a process of its own that can neither write, connect, outgrow nor outlast its limits.

The fence by name (`lake.catalog.fence`) says what a statement may call; this one lies under it, for what a function
does all the same. `answer` starts the process; it gets the question as JSON, is confined (`lake.catalog.sandbox`)
before it loads anything, opens the catalog, and sends the answer back as an Arrow stream, or what is wrong as a line
of JSON.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa

from lake import duck, errors, storage
from lake.catalog import sandbox
from lake.catalog.connection import TOO_LONG, TOO_MUCH, Limits, open_catalog, read
from lake.errors import LakeError, QueryRefused

# Nothing of the working directory is imported (-P), and nothing compiled is written (-B).
INTERPRETER = (sys.executable, "-P", "-B", "-c")
# Confined before anything is loaded that starts threads.
CHILD = """
import json, sys
from lake.catalog import sandbox
asked = json.load(sys.stdin)
sandbox.confine(asked["network"])
from lake.catalog import untrusted
untrusted.serve(asked)
"""
# What the child imports from, whether or not Chainlake was installed for its interpreter.
IMPORT_ROOT = Path(__file__).resolve().parents[2]
# Memory beside that of DuckDB: for the answer, and for threads, buffers and scraps.
SHARE_OF_ANSWER, SCRAPS_BYTES = 0.25, 256 << 20
# How long DuckDB has to heed the time limit before its process is ended, in seconds.
GRACE = 1.0
ROWS_A_BATCH = 65_536
TOO_LARGE = "the answer has {:.1f} MB, more than {:.1f}: select fewer columns and rows, or aggregate"
MEMORY_LIMIT = "SELECT parse_formatted_bytes(current_setting('memory_limit'))"


@dataclass(frozen=True, slots=True)
class Question:
    """A reading statement on the lake at `root`; with `at`, on its tables as known then, at most `days` ago."""

    root: str
    sql: str
    at: str | None = None
    days: int = 0


def answer(question: Question, limits: Limits) -> pa.Table:
    """The answer to `question`, which `limits.memory` bounds too.

    Raises QueryRefused, with one line, as `read` does, and LakeMissing, LakeError as `open_catalog`.
    """
    root = storage.absolute(question.root)
    network = storage.is_object_store(root)
    if duck.extension("delta") is None:
        # A platform without the wheel: what has to be downloaded is downloaded by a process that can.
        duck.connect(root=root).close()
    asked = {"question": asdict(replace(question, root=root)), "limits": asdict(limits), "network": network}
    places = (str(IMPORT_ROOT), os.environ.get("PYTHONPATH", ""))
    with subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
        [*INTERPRETER, CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))},
    ) as process:
        try:
            return _received(process, json.dumps(asked).encode(), limits)
        finally:
            process.kill()


def _received(process: subprocess.Popen[bytes], asked: bytes, limits: Limits) -> pa.Table:
    assert process.stdin
    assert process.stdout
    assert process.stderr
    with suppress(BrokenPipeError):
        process.stdin.write(asked)
        process.stdin.close()
    try:
        table = pa.ipc.open_stream(process.stdout).read_all()
    except (pa.ArrowInvalid, OSError):
        # Nothing, or not all of it: the end of the process says why.
        table = None
    said = process.stderr.read().decode(errors="replace").strip()
    code = process.wait()
    if code == 0 and table is not None:
        return table
    if code == 1:
        raise _error(said)
    if code == -signal.SIGALRM:
        raise QueryRefused(TOO_LONG.format(limits.seconds))
    # A library that gets no memory ends its process in many ways.
    raise QueryRefused(TOO_MUCH)


def _error(said: str) -> LakeError:
    line = said.rpartition("\n")[2]
    try:
        wrong = json.loads(line)
    except json.JSONDecodeError:
        return LakeError(f"the process of the query did not start: {line}")
    kind: type[LakeError] = getattr(errors, wrong["error"], LakeError)
    return kind(wrong["message"])


def serve(asked: dict[str, Any]) -> None:
    """Answer, in the confined process: exit 0 after an Arrow stream on standard output, 1 after a line on the other."""
    out, err = (os.fdopen(os.dup(stream), "wb") for stream in (1, 2))
    # What a library prints is no part of the answer.
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_RDONLY), stream)
    try:
        limits = Limits(**asked["limits"])
        _send(_small_enough(_answered(Question(**asked["question"]), limits), limits), out)
    except MemoryError:
        wrong: LakeError = QueryRefused(TOO_MUCH)
    except Exception as error:  # whatever it is, one line says it
        wrong = error if isinstance(error, LakeError) else LakeError(f"the query failed: {error!r}")
    else:
        os._exit(0)
    out.close()
    err.write(json.dumps({"error": type(wrong).__name__, "message": str(wrong)}).encode())
    err.close()
    os._exit(1)


def _answered(question: Question, limits: Limits) -> pa.Table:
    # Nothing can be written, so what does not fit cannot be spilled.
    limits = replace(limits, spill=False)
    if question.at is None:
        with open_catalog(question.root, limits) as connection, _bounded(connection, limits):
            return read(connection, question.sql, limits.seconds, limits.rows)
    # Loads pandas, which takes longer than most queries.
    from lake.catalog.as_of import as_of, read_as_of

    with (
        as_of(question.root, question.at, days=question.days, limits=limits) as connection,
        _bounded(connection, limits),
    ):
        return read_as_of(connection, question.sql, question.at, limits.seconds, limits.rows)


def _small_enough(table: pa.Table, limits: Limits) -> pa.Table:
    if limits.answer_bytes is not None and table.nbytes > limits.answer_bytes:
        raise QueryRefused(TOO_LARGE.format(table.nbytes / 1e6, limits.answer_bytes / 1e6))
    return table


@contextmanager
def _bounded(connection: duckdb.DuckDBPyConnection, limits: Limits) -> Iterator[None]:
    (memory,) = connection.execute(MEMORY_LIMIT).fetchone() or (0,)
    sandbox.bound_memory(int(memory * (1 + SHARE_OF_ANSWER)) + SCRAPS_BYTES)
    sandbox.bound_time(limits.seconds + GRACE)
    try:
        yield
    finally:
        sandbox.bound_time(0)


def _send(table: pa.Table, out: BinaryIO) -> None:
    with out, pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table, ROWS_A_BATCH)
