"""What the server says of tables and columns, held against the tables themselves."""

from chainlake.mcp.meanings import table_meanings
from lake.catalog.connection import Limits, open_catalog
from lake.tables import TABLES
from tests.models.conftest import SmallLake


def test_every_column_of_every_table_of_a_built_lake_has_its_type_and_a_meaning(lake: SmallLake) -> None:
    with open_catalog(lake.lake.root, Limits(threads=1)) as catalog:
        there = [name.replace("/", ".") for name in lake.lake.table_names()]
        assert len(there) > len(TABLES)
        for name in there:
            meaning = table_meanings()[name]
            assert meaning.grain.startswith("One row per"), name
            assert set(meaning.key) <= {column.name for column in meaning.columns}
            assert meaning.key or name == "quality.slot_coverage", name
            actual = {column: type_.lower() for column, type_, *_ in catalog.execute(f"DESCRIBE {name}").fetchall()}
            assert {column.name: column.type for column in meaning.columns} == actual, name
            assert all(column.meaning for column in meaning.columns), name
