"""The catalog answers as DuckDB's own tables do, which are filled with the same rows by another way."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random

import duckdb
import polars as pl
import pytest

from lake.catalog.as_of import as_of
from lake.catalog.connection import SCHEMAS, Limits, open_catalog, write_catalog
from lake.catalog.frames import scan
from lake.catalog.macros import MACROS
from lake.duck import load_delta
from lake.store import Lake
from lake.tables import PUBLISHED_SCHEMAS, TABLES
from tests.lake.questions import Questions, Relation, calls_of_macros, literal_of, make_lake, relations

SMALL = Limits(memory="500MB", threads=1)
DAYS = [date(2026, 11, day) for day in (2, 3, 4, 5, 6)]
AFTER, NOW = datetime(2026, 12, 30, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)
# Questions of each view.
A_VIEW, A_VIEW_LONG = {"catalog": 12, "file": 3, "as of": 3}, 60


@dataclass(frozen=True, slots=True)
class Stores:
    """A lake, the connections that read it, and a database of the same rows."""

    lake: Lake
    days: Sequence[date]
    native: duckdb.DuckDBPyConnection
    asked: dict[str, duckdb.DuckDBPyConnection]


@pytest.fixture(scope="module", params=[1, len(DAYS)], ids=["a day", "many days"])
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    folder, days = tmp_path_factory.mktemp("answers"), DAYS[: request.param]
    lake = make_lake(folder / "lake", days)
    file = Path(write_catalog(lake.root))
    with ExitStack() as stack:
        native, by_file = duckdb.connect(), duckdb.connect(file, read_only=True)
        fill(native, lake, days)
        load_delta(by_file)
        asked = {
            "catalog": open_catalog(lake.root, SMALL),
            "file": by_file,
            "as of": as_of(lake.root, AFTER, now=NOW, limits=SMALL),
        }
        for connection in (native, *asked.values()):
            stack.enter_context(closing(connection))
        by_file.execute("SET TimeZone = 'UTC'")
        yield Stores(lake, days, native, asked)


def fill(native: duckdb.DuckDBPyConnection, lake: Lake, days: Sequence[date]) -> None:
    """Every relation of a catalog, as tables of the rows that deltalake reads."""
    native.execute("SET TimeZone = 'UTC'")
    for schema in SCHEMAS:
        native.execute(f"CREATE SCHEMA {schema}")
    empty = {table.name: table.schema.empty_table() for table in TABLES}
    passed = ", ".join(literal_of(day) for day in days[::2])
    for name in sorted({*lake.table_names(), *empty}):
        table = lake.table(name)
        rows = empty[name] if table is None else table.to_pyarrow_table()
        native.register("rows", rows)
        view = name.replace("/", ".")
        native.execute(f"CREATE TABLE {view} AS FROM rows")
        if name.startswith(PUBLISHED_SCHEMAS):
            native.execute(f"CREATE TABLE {view}_passed AS FROM rows WHERE trade_date IN ({passed})")
        native.unregister("rows")
    # Each date was published once.
    native.execute("CREATE TABLE ops.latest_published AS FROM ops.published")
    for macro in MACROS:
        native.execute(macro.statement)


def answer(connection: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    """The rows, in their order where `sql` asks for one."""
    try:
        rows = [repr(row) for row in connection.execute(sql).fetchall()]
    except duckdb.Error as error:
        return [f"{type(error).__name__}: {str(error).splitlines()[0]}"]
    return rows if "ORDER BY ALL" in sql else sorted(rows)


def wrong(stores: Stores, store: str, questions: Sequence[str]) -> list[str]:
    """The questions that `store` does not answer as the native tables do, with both answers."""
    found = []
    for sql in questions:
        expected, got = answer(stores.native, sql), answer(stores.asked[store], sql)
        assert not expected or "Error" not in expected[0].split(":")[0], (sql, expected)
        if got != expected:
            found.append(f"{sql}\n    native {expected[:3]}\n    {store} {got[:3]}")
    return found


def made(views: Sequence[Relation], each: int) -> list[str]:
    """Made questions, `each` of every view; the same ones in every run."""
    random = Random(27)
    return [Questions(random, view, views).ask() for view in views for _ in range(each)]


@pytest.mark.parametrize("store", A_VIEW)
def test_the_same_tables_and_columns_are_there(stores: Stores, store: str) -> None:
    native, asked = relations(stores.native), relations(stores.asked[store])
    assert {each.name: each.types for each in asked} == {each.name: each.types for each in native}
    assert sum(bool(each.rows) for each in native) > 15
    assert [each.name for each in asked if not each.rows] == [each.name for each in native if not each.rows] != []


def test_the_least_and_the_greatest_of_every_column(stores: Stores) -> None:
    """Of one file each: where there are more, a filter leaves the first."""
    where = f" WHERE trade_date <= {literal_of(stores.days[0])}" if len(stores.days) > 1 else ""
    asked = [
        f'SELECT min("{column}"), max("{column}"), count(*) FROM {view.name}{where}'
        for view in relations(stores.native)
        for column in view.types
    ]
    assert wrong(stores, "catalog", asked) == []


@pytest.mark.parametrize("store", A_VIEW)
def test_questions_of_every_kind(stores: Stores, store: str) -> None:
    assert wrong(stores, store, made(relations(stores.native), A_VIEW[store])) == []


@pytest.mark.long
@pytest.mark.parametrize("store", A_VIEW)
def test_many_questions_of_every_kind(stores: Stores, store: str) -> None:
    assert wrong(stores, store, made(relations(stores.native), A_VIEW_LONG)) == []


@pytest.mark.parametrize("store", A_VIEW)
def test_every_macro(stores: Stores, store: str) -> None:
    calls = calls_of_macros(stores.days[-1], stores.days[len(stores.days) // 2])
    assert wrong(stores, store, calls) == []
    assert all(answer(stores.native, call) for call in calls)


def test_frames(stores: Stores) -> None:
    day = pl.col("trade_date")
    for name in stores.lake.table_names():
        for upto in (stores.days[0], stores.days[-1]):
            frame = scan(name, stores.lake.root).filter(day <= upto)
            got = frame.select(day.min().alias("first"), day.max().alias("last"), pl.len()).collect().row(0)
            sql = f"SELECT min(trade_date), max(trade_date), count(*) FROM {name.replace('/', '.')}"
            expected = stores.native.execute(f"{sql} WHERE trade_date <= {literal_of(upto)}").fetchone()
            assert got == expected, name
