"""The YAML of the dbt project: grains, descriptions, types and exposures. Read as files, without dbt."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lake.dbt.sources import SQL_TYPES
from lake.tables import TABLES

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / "dbt_project" / "models"
FILES = {file.stem: file for file in MODELS.rglob("*.sql")}
KEPT = sorted(name for name, file in FILES.items() if file.parent.name in {"marts", "quality"})


def described(file: Path) -> dict[str, Any]:
    """The only model of a YAML file."""
    (model,) = yaml.safe_load(file.with_suffix(".yml").read_text(encoding="utf-8"))["models"]
    return model


def queried(folder: str) -> set[str]:
    """Tables that the queries in Python code under a folder name, as ``schema.table``."""
    code = " ".join(file.read_text(encoding="utf-8") for file in (REPOSITORY / folder).rglob("*.py"))
    return {f"{schema}.{name}" for schema, name in re.findall(r"\b(raw|ops|clean|quality)\.([a-z_]+)\b", code)}


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_model_has_a_yaml_of_its_own_that_begins_with_its_grain(name: str) -> None:
    model = described(FILES[name])
    assert model["name"] == name
    assert model["description"].startswith("One row per ")


@pytest.mark.parametrize("name", KEPT)
def test_every_column_that_is_kept_has_a_meaning_and_a_type(name: str) -> None:
    columns = described(FILES[name])["columns"]
    assert len(columns) > 5
    assert [column["name"] for column in columns if not column.get("description") or not column.get("data_type")] == []


@pytest.mark.parametrize("name", KEPT)
def test_a_column_has_one_type_wherever_it_is(name: str) -> None:
    """What dbt passes on from raw has the type that lake/tables.py gives it."""
    types: dict[str, set[str]] = {}
    for table in TABLES:
        for column in table.columns:
            types.setdefault(column.name, set()).add(SQL_TYPES[column.type])
    columns = {column["name"]: column["data_type"] for column in described(FILES[name])["columns"]}
    shared = columns.keys() & types.keys()
    assert "trade_date" in shared
    assert {column: columns[column] for column in shared if columns[column] not in types[column]} == {}


def test_exposures_name_what_is_read() -> None:
    exposures = {
        exposure["name"]: {
            "".join(filter(None, (f"{schema}." if schema else "", name)))
            for schema, name in re.findall(r"(?:source\('(\w+)', |ref\()'(\w+)'\)", " ".join(exposure["depends_on"]))
        }
        for exposure in yaml.safe_load((MODELS / "exposures.yml").read_text(encoding="utf-8"))["exposures"]
    }
    schemas = {"marts": "clean", "quality": "quality"}
    kept = {f"{schemas[FILES[name].parent.name]}.{name}" for name in KEPT}
    named = {
        name: {f"{schemas[FILES[table].parent.name]}.{table}" if table in KEPT else table for table in tables}
        for name, tables in exposures.items()
    }
    # latest_published is a view over published.
    assert named["dashboard"] == {name.replace("latest_", "") for name in queried("chainlake/dashboard")}
    programs = queried("chainlake/cli") | queried("chainlake/ops") | queried("flows")
    assert named["command_line"] == programs & kept
    assert named["catalog"] == kept
