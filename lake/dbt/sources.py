"""The dbt sources of the raw and ops tables, made from `lake.tables`: ``python -m lake.dbt.sources``.

The YAML is checked in so that a plain ``dbt build`` needs no Python step before it; a test holds it to the schemas.
"""

import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from lake.resources import DBT_PROJECT
from lake.tables import FLAGS, INSTANT, RATES, TABLES, VERSIONS, Column, Table

SOURCES_FILE = DBT_PROJECT / "models" / "staging" / "_sources.yml"
# The lake that belongs to a checkout lies beside its profiles.yml.
# A quote in it is doubled, as it stands in a string of SQL.
LAKE_ROOT = (
    "{{ var('lake_root', env_var('CHAINLAKE_LAKE__ROOT', flags.PROFILES_DIR ~ '/data/lake')) "
    """| replace("'", "''") }}"""
)
HEADER = "# Made from lake/tables.py by `python -m lake.dbt.sources`: edit that module, then run this command again.\n"
DESCRIPTIONS = {
    "raw": "Append-only audit trail of what was captured; nothing in it is changed, and keys may repeat.",
    "ops": "What the steps did: runs, errors, incidents and publications. A table that is not there reads as empty.",
}
# The column that tells when a table was last written, for `dbt source freshness`. Errors and incidents have none:
# that nothing comes is good; nor have lookups, which a calm week does not need.
LOADED_AT = {
    "raw/sessions": "window_end",
    "raw/contracts": "frozen_at",
    "raw/option_quotes": "requested_at",
    "raw/underlying_quotes": "asof_ts",
    "raw/open_interest": "observed_at",
    "ops/runs": "ended_at",
    "ops/published": "published_at",
}
# Days. Over a long week-end a step runs on Friday, and again on Tuesday at about the same hour. Only unforeseen
# closings are longer: five days in January 2007 and October 2012, seven in September 2001.
WARN_AFTER, ERROR_AFTER = 5, 8
# Words that SQL reserves; a column of that name has to be quoted.
RESERVED = frozenset({"right"})
SQL_TYPES = {
    pa.string(): "varchar",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    INSTANT: "timestamp with time zone",
    pa.int64(): "bigint",
    pa.int32(): "integer",
    pa.float64(): "double",
    pa.float32(): "float",
    FLAGS: "varchar[]",
    RATES: "double[]",
    VERSIONS: "map(varchar, bigint)",
}


def sources_yaml() -> str:
    """The whole YAML document: one source per schema, its tables with grain, columns and key tests."""
    lines = ["version: 2", "", "sources:"]
    for schema, tables in groupby(TABLES, key=_schema_of):
        lines += [
            f"  - name: {schema}",
            f"    schema: {schema}",
            f"    description: {json.dumps(DESCRIPTIONS[schema])}",
            "    config:",
            "      meta:",
            "        external_location: " + json.dumps(f"delta_scan('{LAKE_ROOT}/{schema}/{{name}}')"),
            "    tables:",
        ]
        for table in tables:
            lines += _table_lines(table, with_tests=schema == "raw")
    return HEADER + "\n".join(lines) + "\n"


def write_sources(path: Path = SOURCES_FILE) -> None:
    """Write the sources to `path`."""
    path.write_text(sources_yaml(), encoding="utf-8")


def _schema_of(table: Table) -> str:
    return table.name.split("/")[0]


def _table_lines(table: Table, *, with_tests: bool) -> Iterator[str]:
    yield f"      - name: {table.name.split('/')[1]}"
    yield f"        description: {json.dumps(table.grain + '.', ensure_ascii=False)}"
    if loaded_at := LOADED_AT.get(table.name):
        yield "        config:"
        yield f"          loaded_at_field: {loaded_at}"
        yield "          freshness:"
        yield f"            warn_after: {{count: {WARN_AFTER}, period: day}}"
        yield f"            error_after: {{count: {ERROR_AFTER}, period: day}}"
        # Prunes the files of all other dates; what is older is stale anyway.
        yield "            filter: trade_date >= current_date - 30"
    if with_tests:
        # A broken key here is a fault of storage that the clean tables repair, hence a warning.
        yield "        data_tests:"
        yield "          - unique_key:"
        yield f"              arguments: {{columns: [{', '.join(table.key)}]}}"
        yield "              config: {severity: warn}"
    yield "        columns:"
    for column in table.columns:
        yield from _column_lines(column)


def _column_lines(column: Column) -> Iterator[str]:
    yield f"          - name: {column.name}"
    yield f"            description: {json.dumps(column.description, ensure_ascii=False)}"
    yield f"            data_type: {json.dumps(SQL_TYPES[column.type])}"
    if column.name in RESERVED:
        yield "            quote: true"


def main() -> int:
    """Rewrite the checked-in file."""
    write_sources()
    sys.stdout.write(f"wrote {SOURCES_FILE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
