"""docs/reference/tables.md, made from `lake.tables`: ``python -m lake.dbt.table_docs``. A test keeps it current."""

import sys
from collections.abc import Iterator

from lake.dbt.sources import SQL_TYPES
from lake.resources import SHIPPED
from lake.tables import SCHEMA_VERSION, TABLES, Table

FILE = SHIPPED / "docs" / "reference" / "tables.md"
INTRODUCTION = f"""<!-- Made from lake/tables.py by `python -m lake.dbt.table_docs`. -->
# Raw and ops tables (schema version {SCHEMA_VERSION})

Instants are UTC; prices are dollars per share of the underlying; sizes, volume and open interest are contracts;
`trade_date` is the New York date of the session and the partition of every table. A column marked * is never null.
The `clean` and `quality` tables are described where they are made: the YAML beside each model in `dbt_project/models`.
"""


def tables_markdown() -> str:
    """The whole document: one section per table with its grain, key and columns."""
    return INTRODUCTION + "".join(line + "\n" for table in TABLES for line in _section(table))


def _section(table: Table) -> Iterator[str]:
    yield f"\n## {table.name}\n"
    yield f"{table.grain}. Key: `{', '.join(table.key)}`.\n"
    yield "| column | type | meaning |\n|---|---|---|"
    for column in table.columns:
        mark = " *" if column.required else ""
        yield f"| `{column.name}`{mark} | {SQL_TYPES[column.type]} | {column.description} |"


if __name__ == "__main__":
    FILE.write_text(tables_markdown(), encoding="utf-8")
    sys.stdout.write(f"wrote {FILE}\n")
