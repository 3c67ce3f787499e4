"""Lakes of another version: columns arrive without a rewrite, a changed type is refused until it is migrated."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from lake.duck import connect
from lake.errors import LakeError, NewerSchema
from lake.maintenance.evolution import changed_types, migrate, upgrade
from lake.maintenance.lock import maintainer
from lake.store import Lake
from lake.tables import BY_NAME, SCHEMA_VERSION, TABLES

NOW = datetime(2026, 11, 20, 15, tzinfo=UTC)
VERSIONS = Path(__file__).with_name("schema_versions.json")
NAME = "ops/errors"


def error_row(number: int, **values: object) -> dict[str, object]:
    return {
        "trade_date": date(2026, 11, 20),
        "step": "snapshot",
        "ingest_id": f"id-{number}",
        "conid": number,
        "code": 200,
        "error_type": "ib_error",
        "message": "no such contract",
        "observed_at": NOW,
        **values,
    }


def old_lake(root: Path, schema: pa.Schema, code: object = None) -> Lake:
    """A lake of version 1 whose ``ops/errors`` has `schema`, with three rows of that `code`."""
    lake = Lake.create(root, "simulated", NOW)
    manifest = json.loads((root / "lake.json").read_text())
    (root / "lake.json").write_text(json.dumps(manifest | {"schema_version": 1}))
    rows = pa.Table.from_pylist([error_row(n, code=code) for n in range(3)], schema=schema)
    write_deltalake(lake.uri(NAME), rows, mode="overwrite", schema_mode="overwrite", partition_by=["trade_date"])
    return lake


def with_type(name: str, type_: pa.DataType) -> pa.Schema:
    schema = BY_NAME[NAME].schema
    return schema.set(schema.get_field_index(name), pa.field(name, type_))


def version_of(lake: Lake) -> int:
    return int(json.loads((Path(lake.root) / "lake.json").read_text())["schema_version"])


def test_every_change_of_a_table_has_a_version_of_its_own() -> None:
    """A change of lake/tables.py raises SCHEMA_VERSION, and its columns are added to this file under that number."""
    recorded = json.loads(VERSIONS.read_text())
    now = {table.name: {field.name: str(field.type) for field in table.schema} for table in TABLES}
    assert recorded[str(SCHEMA_VERSION)] == now
    assert max(map(int, recorded)) == SCHEMA_VERSION


def test_an_older_lake_gets_the_columns_it_lacks_and_keeps_its_files(tmp_path: Path) -> None:
    schema = BY_NAME[NAME].schema
    lake = old_lake(tmp_path / "lake", schema.remove(schema.get_field_index("code")))
    files = set(DeltaTable(lake.uri(NAME)).file_uris())
    assert upgrade(lake) == ["ops/errors.code"]
    assert (version_of(lake), upgrade(lake)) == (SCHEMA_VERSION, [])
    assert set(DeltaTable(lake.uri(NAME)).file_uris()) == files
    assert lake.append(NAME, [error_row(9, code=321)], "later", 1)
    with connect() as connection:
        found = connection.execute(f"select conid, code from delta_scan('{lake.uri(NAME)}') order by conid").fetchall()
    assert found == [(0, None), (1, None), (2, None), (9, 321)]


def test_another_type_is_refused_and_migrated_in_one_commit(tmp_path: Path) -> None:
    lake = old_lake(tmp_path / "lake", with_type("code", pa.string()), "200")
    with pytest.raises(LakeError, match=r"ops/errors.code is .*string.* in this lake and .*integer.*chainlake migrate"):
        upgrade(lake)
    assert version_of(lake) == 1
    (change,) = changed_types(lake)
    assert (change.table, change.column) == (NAME, "code")
    before = DeltaTable(lake.uri(NAME)).version()
    with maintainer(lake, "migrate") as hold:
        assert migrate(lake, NAME, hold) == 3
    assert DeltaTable(lake.uri(NAME)).version() == before + 1
    assert changed_types(lake) == []
    upgrade(lake)
    with connect() as connection:
        found = connection.execute(f"select conid, code from delta_scan('{lake.uri(NAME)}') order by conid").fetchall()
    assert found == [(0, 200), (1, 200), (2, 200)]


def test_a_value_that_does_not_fit_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    lake = old_lake(tmp_path / "lake", with_type("code", pa.string()), "200")
    rows = pa.Table.from_pylist([error_row(7, code="many")], schema=with_type("code", pa.string()))
    write_deltalake(lake.uri(NAME), rows, mode="append")
    version = DeltaTable(lake.uri(NAME)).version()
    with maintainer(lake, "migrate") as hold, pytest.raises(LakeError, match="cannot be written with its new types"):
        migrate(lake, NAME, hold)
    assert DeltaTable(lake.uri(NAME)).version() == version


def test_a_lake_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake", "simulated", NOW)
    manifest = json.loads((tmp_path / "lake" / "lake.json").read_text())
    newer = json.dumps(manifest | {"schema_version": SCHEMA_VERSION + 1})
    (tmp_path / "lake" / "lake.json").write_text(newer)
    with pytest.raises(NewerSchema, match="upgrade Chainlake"):
        Lake.open(lake.root)
