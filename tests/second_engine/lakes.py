"""One folder for many lakes in turn: dbt parses its project once for it."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path

import duckdb
import polars as pl

from lake.store import Lake
from tests.models.conftest import SmallLake
from tests.models.rows import CREATED, Row
from tests.second_engine import outcomes
from tests.second_engine.comparison import KEYS, differences
from tests.second_engine.engine import clean_tables

RAW = ("raw/sessions", "raw/contracts", "raw/option_quotes", "raw/underlying_quotes", "raw/open_interest")
ROLLUP_FLAGS = ("eod_rollup_fallback", "eod_rollup_stale", "missing_oi")
CAPTURE_FLAGS = ("late_sample", "slot_retry_exceeded", "discovery_stale")
FLAGS = frozenset((*outcomes.COMPUTED, *ROLLUP_FLAGS, *CAPTURE_FLAGS))


class Bench:
    """A lake that is made anew for each example, and both engines over it."""

    def __init__(self, folder: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.small = SmallLake(folder, connection)

    def fill(self, tables: Mapping[str, Sequence[Row]], universe: Sequence[str], actions: Sequence[Row]) -> None:
        """An empty lake at the same place, then `tables`; and the two files that people edit."""
        shutil.rmtree(self.small.lake.root)
        self.small.lake = Lake.create(self.small.lake.root, "simulated", CREATED)
        for name, rows in tables.items():
            if rows:
                assert self.small.lake.append(name, rows, "made", 1)
        self.small.reference(universe, actions)

    def disagreements(self, dates: Sequence[date], as_of: datetime) -> list[str]:
        """Build `dates` with dbt and with the second engine; where the tables differ."""
        self.small.build(dates, as_of)
        ours = clean_tables({name: self._read(name) for name in RAW}, self._actions(), as_of)
        return [line for table in KEYS for line in differences(table, ours[table], self._read(table), FLAGS)]

    def _read(self, name: str) -> pl.DataFrame:
        return self._connection.sql(f"select * from delta_scan('{self.small.lake.uri(name)}')").pl()

    def _actions(self) -> pl.DataFrame:
        return pl.read_csv(
            self.small.seeds / "corporate_actions.csv",
            schema_overrides={
                **dict.fromkeys(("symbol", "event_type", "new_symbol", "source"), pl.String),
                **dict.fromkeys(("ratio_new", "ratio_old", "cash_amount"), pl.Float64),
                "effective_date": pl.Date,
            },
        ).with_columns(pl.col("known_at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC"))
