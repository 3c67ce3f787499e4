"""The Parquet files of a lake: how each kind is written, and which of them a table consists of."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from deltalake import ColumnProperties, DeltaTable, WriterProperties

ROW_GROUP = 131_072
# Of a day that is asked for one chain, or one contract, at a time.
DAILY_ROW_GROUP = 49_152
# Model values hardly repeat: their bytes, sorted by significance, compress to half of what a dictionary takes.
SPLIT = {
    *("iv", "delta", "gamma", "theta", "vega", "model_price", "underlying_price"),
    *("gamma_adj", "theta_adj", "vega_adj", "model_price_adj", "pv_dividend_adj"),
}
# Arrivals, and contracts, of neighbouring rows are close: their differences take few bits.
DIFFERENCES = {
    *("asof_ts", "requested_at", "observed_at", "rollup_source_asof", "frozen_at", "asked_at"),
    "conid",
}
# A batch of a capture, and what merges them: written in a hurry, and read a few times.
HOT_FILES = WriterProperties(compression="SNAPPY", write_batch_size=65_536)


@dataclass(frozen=True, slots=True)
class File:
    """One live data file of a table: path below the table, trade date of its partition, bytes, rows."""

    path: str
    trade_date: str
    size: int
    rows: int


def live_files(table: DeltaTable) -> list[File]:
    """The data files of the version that `table` stands at, from its log."""
    actions = pa.table(table.get_add_actions(flatten=True))
    names = ("path", "partition.trade_date", "size_bytes", "num_records")
    return [
        File(path, str(day), size, rows)
        for path, day, size, rows in zip(*(actions[name].to_pylist() for name in names), strict=True)
    ]


def sizes(table: DeltaTable) -> list[int]:
    """Bytes of each data file of the version that `table` stands at, from its log."""
    return [int(size) for size in pa.table(table.get_add_actions())["size_bytes"].to_pylist()]


def daily_files(columns: Iterable[str]) -> WriterProperties:
    """How a day of a model is written, sorted by underlying and asked for every day: lz4, encoded by column.

    A query for one chain wants a few hundred of a million rows, and all of their columns. What it costs is to unpack
    what stands before them in their row group: dictionaries of values that hardly repeat double that, snappy adds a
    tenth to lz4, and in smaller groups there are more columns to begin.
    """
    return _encoded(columns, compression="LZ4_RAW", max_row_group_size=DAILY_ROW_GROUP)


def cold_files(columns: Iterable[str]) -> WriterProperties:
    """How a captured day is written that is no longer hot: zstd, encoded by column."""
    return _encoded(columns, compression="ZSTD", compression_level=3, max_row_group_size=ROW_GROUP)


def _encoded(columns: Iterable[str], **properties: Any) -> WriterProperties:
    written = set(columns)
    encodings = dict.fromkeys(sorted(written & SPLIT), "BYTE_STREAM_SPLIT")
    encodings |= dict.fromkeys(sorted(written & DIFFERENCES), "DELTA_BINARY_PACKED")
    return WriterProperties(
        **properties,
        column_properties={
            column: ColumnProperties(dictionary_enabled=False, encoding=encoding)  # type: ignore[arg-type]
            for column, encoding in encodings.items()
        }
        or None,
    )
