"""Lakes of random rows with every table of a catalog, and random questions of them.

A question has one answer whatever the order of the rows: what it orders it orders by all of its columns, and its sums
are of quarters, which binary fractions hold.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pyarrow as pa
import yaml

from lake.catalog.macros import MACROS
from lake.duck import literal
from lake.store import Lake
from lake.tables import PUBLISHED, TABLES

PROJECT = Path(__file__).resolve().parents[2]
MODELS = {
    f"{schema}/{path.stem}": path
    for schema, folder in (("clean", "marts"), ("quality", "quality"))
    for path in sorted((PROJECT / "dbt_project/models" / folder).glob("[a-z]*.yml"))
}
ARROW = {
    "date": pa.date32(),
    "varchar": pa.string(),
    "bigint": pa.int64(),
    "integer": pa.int32(),
    "double": pa.float64(),
    "float": pa.float32(),
    "boolean": pa.bool_(),
    "timestamp with time zone": pa.timestamp("us", tz="UTC"),
    "varchar[]": pa.list_(pa.field("element", pa.string())),
}
# A table without rows, and one that an older lake does not have.
EMPTY, NOT_THERE = "raw/open_interest", "ops/incidents"
# Its last column comes with its last date; one that has rows of one date only; and one whose rows are all gone.
GAINING, ONE_FILE, EMPTIED = "quality/slot_coverage", "clean/daily_unresolved", "clean/emptied"
UNDERLYINGS, CONTRACTS, SLOTS = ("AAPL", "MSFT", "A NAME OF MORE THAN EIGHT LETTERS"), 4, 3
WORDS = ("", "simulated", "simulated, and longer than eight letters", "it's", "ü")
ALL_NULL = "bid_size"
NUMBERS = ("INTEGER", "BIGINT", "FLOAT", "DOUBLE")


def make_lake(root: Path, days: Sequence[date]) -> Lake:
    """A lake of `days`, of which every other one is published as passed and the others as failed."""
    random = Random(len(days))
    lake = Lake.create(root, "simulated", datetime(2026, 1, 2, tzinfo=UTC))
    for table in TABLES:
        if table.name not in (EMPTY, NOT_THERE, PUBLISHED.name):
            lake.append(table.name, some_rows(random, table.schema, days), "test", 1)
    for name, path in MODELS.items():
        schema = _contract(path)
        if len(days) > 1 and name != ONE_FILE:
            first = schema.remove(len(schema) - 1) if name == GAINING else schema
            _replace(lake, name, some_rows(random, first, days[:-1]), first, days[:-1])
        _replace(lake, name, some_rows(random, schema, days[-1:]), schema, days[-1:])
    for rows in (some_rows(random, schema, days[:1]), []):
        _replace(lake, EMPTIED, rows, schema, days[:1])
    shutil.rmtree(lake.uri(NOT_THERE))
    lake.append(PUBLISHED.name, [_publication(lake, days, day) for day in days], "test", 1)
    return lake


def _contract(path: Path) -> pa.Schema:
    """The columns of a model, as its contract has them."""
    (model,) = yaml.safe_load(path.read_text())["models"]
    return pa.schema([(column["name"], ARROW[column["data_type"]]) for column in model["columns"]])


def _replace(lake: Lake, name: str, rows: list[dict[str, Any]], schema: pa.Schema, days: Sequence[date]) -> None:
    lake.replace_dates(name, pa.Table.from_pylist(rows, schema=schema).to_reader, days)


def _publication(lake: Lake, days: Sequence[date], day: date) -> dict[str, Any]:
    versions = [(name, version) for name in MODELS if (version := lake.version(name)) is not None]
    return {
        "trade_date": day,
        "published_at": datetime(day.year, day.month, day.day, 22, tzinfo=UTC),
        "status": "failed" if days.index(day) % 2 else "passed",
        "versions": versions,
        "code_version": "0.1.0",
        "actions_hash": "0" * 64,
        "run_id": "019a",
    }


def some_rows(random: Random, schema: pa.Schema, days: Sequence[date]) -> list[dict[str, Any]]:
    """A row for each underlying, contract and slot of each of `days`; a contract is the same in every table."""
    return [
        {field.name: known.get(field.name, _value(random, field, day)) for field in schema}
        for day in days
        for number, underlying in enumerate(UNDERLYINGS)
        for n in range(CONTRACTS)
        for slot in range(SLOTS if "slot_30m" in schema.names else 1)
        for known in [
            {
                "trade_date": day,
                "underlying": underlying,
                "trading_class": underlying,
                "conid": 1000 * number + n,
                "slot_30m": slot,
                "right": "CP"[n % 2],
                "strike": 100.0 + n // 2 * 10,
                "expiry": date(2027, 1, 15),
                "multiplier": 100.0,
                "mid": 5.0 + n,
                "iv": 0.25 * (n + 1),
                "underlying_price": 103.0,
                "underlying_close": 103.0,
                "adjusted_contract_key": f"{underlying}|{underlying}|100|2027-01-15|{'CP'[n % 2]}|{n // 2 * 10}.00",
                ALL_NULL: None,
            }
        ]
    ]


def _value(random: Random, field: pa.Field, day: date) -> Any:
    kind = field.type
    if field.nullable and not pa.types.is_timestamp(kind) and random.random() < 0.2:
        return None
    if pa.types.is_timestamp(kind):
        return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(microseconds=random.randrange(8 * 10**10))
    if pa.types.is_date(kind):
        return day + timedelta(days=random.randrange(-3, 4))
    if pa.types.is_floating(kind):
        return random.randrange(-40, 400) / 4
    if pa.types.is_integer(kind):
        return random.randrange(100)
    if pa.types.is_boolean(kind):
        return random.random() < 0.5
    if pa.types.is_list(kind):
        return random.sample(WORDS, random.randrange(3))
    return random.choice(WORDS)


@dataclass(frozen=True, slots=True)
class Relation:
    """A view of the catalog as it is asked about: the types of its columns, and rows to take values from."""

    name: str
    types: dict[str, str]
    rows: list[tuple[Any, ...]]


def relations(connection: duckdb.DuckDBPyConnection) -> list[Relation]:
    """All that `connection` has in the schemas of a catalog."""
    names = connection.execute(
        "SELECT schema || '.\"' || name || '\"' FROM (SHOW ALL TABLES) WHERE schema <> 'main' ORDER BY ALL"
    ).fetchall()
    return [
        Relation(
            name,
            {column: kind for column, kind, *_ in connection.execute(f"DESCRIBE {name}").fetchall()},
            connection.execute(f"FROM {name}").fetchall(),
        )
        for (name,) in names
    ]


def calls_of_macros(day: date, since: date) -> list[str]:
    """A call of each table macro."""
    ticker, expiry = f"'{UNDERLYINGS[1]}'", "DATE '2027-01-15'"
    values = {
        "day": f"DATE '{day}'",
        "slot": "1",
        "ticker": ticker,
        "expiration": expiry,
        "contract": "1001",
        "contract_key": f"'{UNDERLYINGS[1]}|{UNDERLYINGS[1]}|100|2027-01-15|P|0.00'",
    }
    return [
        f"FROM {macro.name}({', '.join(given)})"
        for macro in MACROS
        if macro.is_table
        for given in [
            [
                f"since := DATE '{since}'" if parameter.startswith("since") else values[parameter]
                for parameter in macro.parameters.split(", ")
                if not parameter.startswith("until")
            ]
        ]
    ]


class Questions:
    """Questions of `relation`, of its partition column oftener than of others."""

    def __init__(self, random: Random, relation: Relation, others: Sequence[Relation]) -> None:
        self._random, self._of, self._others = random, relation, others
        self._kinds: tuple[Callable[[], str], ...] = (
            *(self._aggregates, self._aggregates, self._groups, self._distinct, self._rows),
            *(self._windows, self._joins, self._of_dates_elsewhere, self._unions),
        )

    def ask(self) -> str:
        """A SELECT."""
        return self._random.choice(self._kinds)()

    def _aggregates(self) -> str:
        return f"SELECT {self._some_aggregates()} FROM {self._of.name}{self._where()}"

    def _groups(self) -> str:
        having = self._random.choice(("", " HAVING count(*) > 2"))
        return (
            f"SELECT {self._columns(2)}, {self._some_aggregates()} FROM {self._of.name}{self._where()} "
            f"GROUP BY ALL{having}{self._limit()}"
        )

    def _distinct(self) -> str:
        return f"SELECT DISTINCT {self._columns(2)} FROM {self._of.name}{self._where()}{self._limit()}"

    def _rows(self) -> str:
        return f"SELECT {self._columns(4)} FROM {self._of.name}{self._where()}{self._limit()}"

    def _windows(self) -> str:
        window = f"(PARTITION BY {self._columns(2)} ORDER BY {self._columns(1)})"
        windows = f"rank() OVER {window}, {self._aggregate()} OVER {window}"
        return f"SELECT {self._columns(2)}, {windows} FROM {self._of.name}{self._where()}"

    def _joins(self) -> str:
        other = self._random.choice(self._others)
        kind = self._random.choice(("JOIN", "LEFT JOIN", "SEMI JOIN", "ANTI JOIN"))
        return (
            f"SELECT {self._some_aggregates('a.')} FROM (FROM {self._of.name}{self._where()}) AS a "
            f"{kind} {other.name} AS b ON a.trade_date = b.trade_date"
        )

    def _of_dates_elsewhere(self) -> str:
        other = self._random.choice(self._others)
        within = self._random.choice(
            (
                "IN (SELECT trade_date",
                "NOT IN (SELECT trade_date",
                "= (SELECT max(trade_date)",
                "> (SELECT min(trade_date)",
            )
        )
        return (
            f"SELECT {self._some_aggregates()} FROM {self._of.name} WHERE trade_date {within} "
            f"FROM {other.name}) AND {self._predicate()}"
        )

    def _unions(self) -> str:
        parts = " UNION ALL ".join(f"(FROM {self._of.name}{self._where()})" for _ in range(2))
        return f"SELECT {self._some_aggregates()} FROM ({parts})"

    def _column(self) -> str:
        return "trade_date" if self._random.random() < 0.4 else self._random.choice(list(self._of.types))

    def _columns(self, most: int) -> str:
        return ", ".join(f'"{self._column()}"' for _ in range(self._random.randint(1, most)))

    def _some_aggregates(self, of: str = "") -> str:
        # DuckDB answers these from statistics when nothing else is asked for.
        extremes = [f'{self._random.choice(("min", "max"))}({of}"{self._column()}")' for _ in range(2)]
        found = extremes if self._random.random() < 0.5 else [self._aggregate(of), self._aggregate(of)]
        return ", ".join([*found[: self._random.randint(1, 2)], *self._random.choice(([], ["count(*)"]))])

    def _aggregate(self, of: str = "") -> str:
        column = self._column()
        kind = self._of.types[column]
        functions = ["min", "max", "count", *(("sum", "avg") if kind in NUMBERS else ())]
        return f'{self._random.choice(functions)}({of}"{column}")'

    def _where(self) -> str:
        chosen = self._random.random()
        if chosen < 0.3:
            return ""
        if chosen < 0.7:
            return f" WHERE {self._predicate()}"
        return f" WHERE {self._predicate()} {self._random.choice(('AND', 'OR', 'AND NOT'))} {self._predicate()}"

    def _predicate(self) -> str:
        column = self._column()
        values = [literal_of(value) for value in self._values(column)]
        chosen = self._random.random()
        if not values or chosen < 0.1:
            return f'"{column}" IS {self._random.choice(("", "NOT "))}NULL'
        if chosen < 0.2:
            return f'"{column}" IN ({", ".join(values)})'
        if chosen < 0.35:
            return f'"{column}" BETWEEN {values[0]} AND {values[-1]}'
        return f'"{column}" {self._random.choice(("=", "<", "<=", ">", ">=", "<>"))} {values[0]}'

    def _values(self, column: str) -> list[Any]:
        """Up to three values of a column; of the dates also one without rows."""
        place = list(self._of.types).index(column)
        rows = self._random.sample(self._of.rows, min(3, len(self._of.rows)))
        found = [row[place] for row in rows if isinstance(row[place], bool | int | float | str | date)]
        return [*found, date(2026, 12, 31)] if self._of.types[column] == "DATE" else found

    def _limit(self) -> str:
        return self._random.choice(("", " ORDER BY ALL LIMIT 3", " ORDER BY ALL DESC LIMIT 5 OFFSET 2"))


def literal_of(value: bool | int | float | str | date) -> str:
    """`value` in SQL."""
    if isinstance(value, datetime):
        return f"TIMESTAMPTZ '{value.isoformat()}'"
    if isinstance(value, date):
        return f"DATE '{value}'"
    return literal(value) if isinstance(value, str) else str(value)
