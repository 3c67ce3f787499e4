"""What tables and columns mean, with grain and units: from `lake.tables`, and from the YAML beside dbt's models."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from lake.dbt.sources import SQL_TYPES
from lake.resources import DBT_PROJECT
from lake.tables import TABLES

# Folders of models that a lake keeps, by the schema in which it keeps them. A folder that is not there yet has none.
FOLDERS = {"clean": "marts", "derived": "derived", "quality": "quality"}


@dataclass(frozen=True, slots=True)
class ColumnMeaning:
    """A column: its SQL type, and what it says, with its unit."""

    name: str
    type: str
    meaning: str


@dataclass(frozen=True, slots=True)
class TableMeaning:
    """A table, as ``schema.table``: its grain, its key where it is declared, and its columns."""

    name: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[ColumnMeaning, ...]


@cache
def table_meanings() -> dict[str, TableMeaning]:
    """Every table that is described, by its name (``schema.table``)."""
    return {meaning.name: meaning for meaning in (*_written_by_python(), *_written_by_dbt())}


def _written_by_python() -> Iterator[TableMeaning]:
    for table in TABLES:
        columns = tuple(ColumnMeaning(c.name, SQL_TYPES[c.type], c.description) for c in table.columns)
        yield TableMeaning(table.name.replace("/", "."), f"{table.grain}.", table.key, columns)


def _written_by_dbt() -> Iterator[TableMeaning]:
    for schema, folder in FOLDERS.items():
        for file in sorted((DBT_PROJECT / "models" / folder).glob("*.yml")):
            yield from _models(schema, file)


def _models(schema: str, file: Path) -> Iterator[TableMeaning]:
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    for model in content.get("models", []):
        columns = tuple(
            ColumnMeaning(column["name"], column.get("data_type", ""), _line(column.get("description", "")))
            for column in model.get("columns", [])
        )
        yield TableMeaning(f"{schema}.{model['name']}", _line(model.get("description", "")), _key(model), columns)


def _key(model: dict[str, object]) -> tuple[str, ...]:
    """The columns of the model's first test of uniqueness."""
    tests = model.get("data_tests", [])
    for test in tests if isinstance(tests, list) else []:
        if isinstance(test, dict) and "unique_key" in test:
            return tuple(test["unique_key"]["arguments"]["columns"])
    return ()


def _line(text: str) -> str:
    return " ".join(text.split())
