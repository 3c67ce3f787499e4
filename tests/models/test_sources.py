"""The sources YAML that is checked in says what lake/tables.py says."""

import yaml

from lake.dbt_sources import SOURCES_FILE, sources_yaml
from lake.tables import TABLES


def test_the_checked_in_sources_are_current() -> None:
    assert SOURCES_FILE.read_text(encoding="utf-8") == sources_yaml(), "run `python -m lake.dbt_sources`"


def test_every_table_and_column_is_a_source() -> None:
    document = yaml.safe_load(sources_yaml())
    found = {
        f"{source['name']}/{table['name']}": [column["name"] for column in table["columns"]]
        for source in document["sources"]
        for table in source["tables"]
    }
    assert found == {table.name: [column.name for column in table.columns] for table in TABLES}
