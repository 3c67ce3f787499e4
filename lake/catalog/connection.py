"""DuckDB for analysts: a view for every table of a lake, macros over them, and nothing beside it.

`open_catalog` gives a connection with the schemas ``raw``, ``ops``, ``clean`` and ``quality``, each table a view over
its Delta table that every query asks for the latest commit (`lake.catalog.live` says how, where that has to be
quick). ``clean`` and ``quality`` tables also have a ``…_passed`` view with the trade dates whose latest publication
passed; ``ops.latest_published`` has one row per trade date. The macros (`lake.catalog.macros`) are in ``main``.
`query` and `read` run one reading statement (`lake.catalog.fence`), for SQL that a user typed.

`write_catalog` writes the same views and macros into ``lake.duckdb`` beside the tables, for the DuckDB shell, Python,
Jupyter and DBeaver. The file holds no rows, and no fence: who opens it has all of DuckDB.
"""

import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pyarrow as pa

from lake import duck, storage
from lake.catalog import macros
from lake.catalog.fence import one_line, reading_statement
from lake.catalog.live import LiveFiles
from lake.duck import delta_scan, literal
from lake.errors import Damaged, QueryRefused
from lake.store import Lake, is_table_name
from lake.tables import PUBLISHED_SCHEMAS, TABLES, Table

SCHEMAS = ("raw", "ops", "clean", "quality")
# The catalog as a file, an object of the lake's root.
CATALOG_FILE = "lake.duckdb"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one query may take: `memory` as DuckDB writes it, `threads` (None: all cores), wall-clock `seconds`.

    With `spill`, what does not fit into the memory goes to a temporary folder. Of its answer the first `rows` are
    given, and one of more than `answer_bytes` is refused where a process of its own makes it; None: no bound.
    """

    memory: str = "2GB"
    threads: int | None = None
    seconds: float = 300.0
    spill: bool = True
    rows: int | None = None
    answer_bytes: int | None = None


DEFAULT_LIMITS = Limits()
TOO_MUCH = "the query needs too much memory: filter by trade_date and underlying, or aggregate"
TOO_LONG = "the query was stopped after {:g} s: filter by trade_date and underlying"
# Of a lake and names of its tables: the SELECT of each view.
Relations = Callable[[Lake, Sequence[str]], Mapping[str, str]]


def latest(lake: Lake, names: Sequence[str]) -> dict[str, str]:
    """The tables as their latest commits left them."""
    return {name: f"SELECT * FROM {delta_scan(lake.uri(name))}" for name in names}


def latest_by(connection: duckdb.DuckDBPyConnection) -> Relations:
    """The same, quicker where `connection` can be told the files by Python: it alone can read these views."""

    def relations(lake: Lake, names: Sequence[str]) -> dict[str, str]:
        live = LiveFiles(lake, names)
        live.install(connection)
        return latest(lake, names) | live.selects()

    return relations


def open_catalog(
    root: str | Path, limits: Limits = DEFAULT_LIMITS, relations: Relations | None = None
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with a view for every table of the lake at `root`, in UTC.

    The connection reads files of the lake and no others, installs nothing, and its settings are locked. Raw and ops
    tables that are not there yet read as empty; clean and quality tables have a view once dbt has made them.
    `limits.seconds` is for `query`; `relations` says what the views show, the latest commits by default.

    Raises LakeMissing when there is no lake, LakeError when one of its tables cannot be read, QueryRefused when
    `limits.memory` is not an amount of memory.
    """
    lake = Lake.open(storage.absolute(root))
    try:
        connection = duck.connect(limits.memory, limits.threads, lake.root)
    except duckdb.ParserException:
        raise QueryRefused(f"{limits.memory!r} is not an amount of memory: write it like 500MB or 2GB") from None
    _create_views(connection, lake, relations or latest_by(connection))
    _lock(connection, lake.root, limits.spill)
    return connection


def write_catalog(root: str | Path, to: Path | None = None) -> str:
    """Write the views and macros of the lake at `root` into a DuckDB file, and say where it is.

    It becomes ``lake.duckdb`` in the root, or the file `to`, as a whole: whoever has an older one open keeps it. Tables
    are named by their absolute place, so write it anew when the lake moves, and when it gains a table.
    Raises as `open_catalog` does.
    """
    lake = Lake.open(storage.absolute(root))
    with tempfile.TemporaryDirectory(prefix="chainlake-") as folder:
        draft = Path(folder) / CATALOG_FILE
        with closing(duckdb.connect(draft)) as connection:
            duck.load_delta(connection)
            duck.open_root(connection, lake.root)
            _create_views(connection, lake)
        content = draft.read_bytes()
    if to is None:
        storage.write_object(lake.root, CATALOG_FILE, content)
        return lake.uri(CATALOG_FILE)
    storage.write_object(str(to.parent), to.name, content)
    return str(to)


def query(root: str | Path, sql: str, *, limits: Limits = DEFAULT_LIMITS) -> pa.Table:
    """Run one reading statement on the lake at `root`: `read` on a new catalog, in this process.

    For SQL of one's own; that of others has a process of its own (`lake.catalog.untrusted`).

    Raises QueryRefused as `read` does, LakeMissing when there is no lake.
    """
    with open_catalog(root, limits) as connection:
        return read(connection, sql, limits.seconds, limits.rows)


def read(
    connection: duckdb.DuckDBPyConnection, sql: str, seconds: float = DEFAULT_LIMITS.seconds, rows: int | None = None
) -> pa.Table:
    """Run one reading statement (SELECT, FROM, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN) on an open catalog.

    With `rows`, at most so many rows of its answer, the first ones; DuckDB computes no more than they need.

    Raises QueryRefused, with one line, when `sql` is not that, reads from elsewhere than the lake, fails, needs more
    memory than the catalog was given, or takes longer than `seconds`.
    """
    statement = reading_statement(connection, sql)
    watch = threading.Timer(seconds, connection.interrupt)
    watch.start()
    try:
        if rows is None:
            return connection.execute(statement).to_arrow_table()
        return connection.sql(statement).limit(rows).to_arrow_table()
    except duckdb.InterruptException:
        raise QueryRefused(TOO_LONG.format(seconds)) from None
    except (duckdb.OutOfMemoryException, MemoryError):
        raise QueryRefused(TOO_MUCH) from None
    except duckdb.Error as error:
        raise QueryRefused(one_line(error)) from None
    finally:
        watch.cancel()


def files_read(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    """How many data files of the lake a reading statement opens, as DuckDB counts them while it runs.

    Raises QueryRefused as `read` does.
    """
    plan = read(connection, f"EXPLAIN (ANALYZE, FORMAT json) {sql}").column(1)[0].as_py()
    return sum(int(info["Total Files Read"]) for info in _extra_infos(json.loads(plan)) if "Total Files Read" in info)


def _extra_infos(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node.get("extra_info", {})
    for child in node["children"]:
        yield from _extra_infos(child)


def _create_views(connection: duckdb.DuckDBPyConnection, lake: Lake, relations: Relations = latest) -> None:
    storage.require_whole_logs(lake.root)
    names = [name for name in lake.table_names() if is_table_name(name) and name.partition("/")[0] in SCHEMAS]
    for schema in SCHEMAS:
        connection.execute(f"CREATE SCHEMA {schema}")
    for name, select in relations(lake, names).items():
        try:
            with storage.explained(lake.root):
                connection.execute(f"CREATE VIEW {_view(name)} AS {select}")
        except (duckdb.Error, Damaged) as error:
            raise Damaged(f"{lake.uri(name)} is not a readable Delta table: {one_line(error)}") from None
    for table in TABLES:
        if table.name not in names:
            _create_empty_view(connection, table)
    _create_publication_views(connection, names)
    for macro in macros.MACROS:
        # A lake that has no clean tables yet, or whose tables lack a column, goes without the macros that need them.
        with suppress(duckdb.BinderException, duckdb.CatalogException):
            connection.execute(macro.statement)


def _create_empty_view(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    relation = connection.from_arrow(table.schema.empty_table())
    columns = ", ".join(
        f'CAST(NULL AS {kind}) AS "{column}"' for column, kind in zip(relation.columns, relation.types, strict=True)
    )
    connection.execute(f"CREATE VIEW {_view(table.name)} AS SELECT {columns} WHERE false")


def _create_publication_views(connection: duckdb.DuckDBPyConnection, names: list[str]) -> None:
    connection.execute(
        """CREATE VIEW ops.latest_published AS
        SELECT * FROM ops.published
        QUALIFY row_number() OVER (PARTITION BY trade_date ORDER BY published_at DESC, run_id DESC) = 1"""
    )
    for name in names:
        if name.partition("/")[0] in PUBLISHED_SCHEMAS:
            connection.execute(
                f"""CREATE VIEW {_view(f"{name}_passed")} AS
                SELECT * FROM {_view(name)}
                WHERE trade_date IN (SELECT trade_date FROM ops.latest_published WHERE status = 'passed')"""
            )


def _lock(connection: duckdb.DuckDBPyConnection, root: str, spill: bool) -> None:
    # GLOBAL, so that cursors of the connection have the settings too.
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET GLOBAL python_enable_replacements = false")
    # Files are never written twice, so what was once read of one stays true. A column is read at once, not by pages.
    connection.execute("SET GLOBAL parquet_metadata_cache = true")
    connection.execute("SET GLOBAL validate_external_file_cache = 'NO_VALIDATION'")
    connection.execute("SET GLOBAL prefetch_all_parquet_files = true")
    # By default a query that does not fit in memory writes to .tmp in the working directory.
    folder = Path(tempfile.gettempdir()) / f"chainlake-{uuid4().hex}" if spill else ""
    connection.execute(f"SET temp_directory = {literal(folder)}")
    connection.execute(f"SET allowed_directories = [{literal(f'{root}/')}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _view(name: str) -> str:
    schema, _, table = name.partition("/")
    return f'{schema}."{table}"'
