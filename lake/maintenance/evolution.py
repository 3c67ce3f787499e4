"""A lake that another version of Chainlake wrote: what its tables lack is added, what contradicts them is refused.

Columns are only ever added to ``lake/tables.py``, and always nullable: old files stay as they are, and show nulls. A
column whose type has changed needs its table written again, which nothing does unasked: see `migrate`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Field, write_deltalake
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError

from lake import duck, storage
from lake.errors import LakeError
from lake.files import HOT_FILES
from lake.maintenance.lock import Hold
from lake.store import MANIFEST, Lake
from lake.tables import SCHEMA_VERSION, TABLES, Table

BATCH_ROWS = 131_072


@dataclass(frozen=True, slots=True)
class Change:
    """A column whose type is another one in the lake than in this version."""

    table: str
    column: str
    stored: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.table}.{self.column} is {self.stored} in this lake and {self.wanted} in this version"


def upgrade(lake: Lake) -> list[str]:
    """Add the columns that the tables of an older lake lack, and raise its version; returns what was added.

    Idempotent, and quick where there is nothing to do. Raises LakeError, and changes nothing, when a column has
    another type than in this version.
    """
    manifest = json.loads(storage.read_object(lake.root, MANIFEST))
    if int(manifest["schema_version"]) == SCHEMA_VERSION:
        return []
    if changes := changed_types(lake):
        more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
        raise LakeError(f"{changes[0]}{more}: run `chainlake migrate` on {lake.root}, which writes that table again")
    added = [f"{table.name}.{name}" for table in TABLES for name in _add_missing(lake, table)]
    manifest["schema_version"] = SCHEMA_VERSION
    storage.write_object(lake.root, MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    return added


def changed_types(lake: Lake) -> list[Change]:
    """Every column of a raw or ops table that has another type in the lake than in this version."""
    changes = []
    for spec, table in _existing(lake):
        stored = _types(table)
        wanted = {field.name: str(field.type) for field in DeltaSchema.from_arrow(spec.schema).fields}
        changes += [
            Change(spec.name, name, stored[name], type_)
            for name, type_ in wanted.items()
            if name in stored and stored[name] != type_
        ]
    return changes


def migrate(lake: Lake, name: str, hold: Hold) -> int:
    """Write a raw or ops table again with the types of this version, in one commit; returns its rows.

    The rows are streamed. Whoever reads sees the old table or the new one, and the old one stays in the log. Raises
    LakeError, and changes nothing, when a value does not fit its new type.
    """
    spec = next(table for table in TABLES if table.name == name)
    options = storage.delta_options(lake.root)
    table = DeltaTable(lake.uri(name), storage_options=options)
    stored = _types(table)
    with duck.connect(root=lake.root) as connection:
        before = duck.delta_scan(lake.uri(name), table.version())
        kept = [f'"{column}"' for column in spec.schema.names if column in stored]
        rows = connection.execute(f"select {', '.join(kept)} from {before}").to_arrow_reader(BATCH_ROWS)
        hold.require()
        misfits: list[str] = []
        try:
            write_deltalake(
                table,
                pa.RecordBatchReader.from_batches(spec.schema, _cast(rows, spec.schema, misfits)),
                mode="overwrite",
                schema_mode="overwrite",
                writer_properties=HOT_FILES,
                # Rows that were appended meanwhile would be lost: then it fails, and is run again.
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        except CommitFailedError:
            raise LakeError(f"{name} was written to meanwhile: nothing was changed, run it again") from None
        except Exception:
            # The library tells of it by one exception or another, as its threads happen to meet it.
            if misfits:
                raise LakeError(f"{name} cannot be written with its new types: {misfits[0]}") from None
            raise
        after = duck.delta_scan(lake.uri(name), table.version())
        counts = connection.execute(
            f"select (select count(*) from {before}), (select count(*) from {after})"
        ).fetchone()
    assert counts is not None
    if counts[0] != counts[1]:
        table.restore(table.version() - 1)
        raise LakeError(f"{name} had {counts[0]:,} rows and {counts[1]:,} after it was written again: it was restored")
    return int(counts[1])


def _cast(rows: pa.RecordBatchReader, schema: pa.Schema, misfits: list[str]) -> Iterator[pa.RecordBatch]:
    """Rows with the types of `schema`. What does not fit ends them, and is told in `misfits`."""
    for batch in rows:
        try:
            columns = [
                batch.column(field.name).cast(field.type)
                if field.name in batch.schema.names
                else pa.nulls(batch.num_rows, field.type)
                for field in schema
            ]
        except pa.ArrowInvalid as misfit:
            misfits.append(str(misfit))
            raise
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _add_missing(lake: Lake, spec: Table) -> list[str]:
    table = lake.table(spec.name)
    if table is None:
        return []
    stored = _types(table)
    fields = [field for field in DeltaSchema.from_arrow(spec.schema).fields if field.name not in stored]
    if fields:
        # Old rows have none, whatever the rule for new ones is.
        table.alter.add_columns([Field(field.name, field.type, nullable=True) for field in fields])
    return [field.name for field in fields]


def _existing(lake: Lake) -> Iterator[tuple[Table, DeltaTable]]:
    for spec in TABLES:
        if (table := lake.table(spec.name)) is not None:
            yield spec, table


def _types(table: DeltaTable) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema().fields}
