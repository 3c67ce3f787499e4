"""dbt-duckdb plugin: Delta tables as the place where dbt's models are kept.

Named in ``profiles.yml`` as the plugin ``lake.dbt.delta_plugin``. It makes ``delta_scan`` available to every model, and
it stores the models of the ``delta`` materialization: exactly the trade dates of the build are replaced, in one commit.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import TargetConfig
from dbt_common.exceptions import DbtRuntimeError

from lake import storage
from lake.duck import load_delta, open_root
from lake.errors import LakeError
from lake.location import lake_root
from lake.store import RESTATED, Lake

# Rows handed from DuckDB to the writer at a time: a day of 3.5 million rows never lies in memory as a whole.
BATCH_ROWS = 131_072
# Key of the Delta commit that names the model that made it.
MODEL_KEY = "chainlake.dbt_model"


class DatabaseInUse(DbtRuntimeError):
    """Another process has dbt's database file open."""


class Plugin(BasePlugin):
    """Connections that read Delta, and a `store` that writes it."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Called once by dbt-duckdb, before there is a connection: finds the lake, and names it absolutely.

        `plugin_config["root"]` is the lake where it is named; else `lake.location` finds the one of the settings in the
        folder `plugin_config["home"]`. Views that dbt creates name the root, and are read again by a dbt that was
        started from another folder.
        """
        self._connection: duckdb.DuckDBPyConnection | None = None
        if self.creds is not None:
            with _as_dbt_error():
                home = Path(plugin_config.get("home", "."))
                self.creds.external_root = storage.absolute(lake_root(plugin_config.get("root"), home))

    def update_connection_config(self, creds: DuckDBCredentials, config: dict[str, Any]) -> None:
        """Make the folder of the database file, as DuckDB does not, and refuse a file that another build has open."""
        if creds.path != ":memory:":
            Path(creds.path).parent.mkdir(parents=True, exist_ok=True)
            _require_free(creds.path)

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Load ``delta_scan``, and keep the connection: dbt-duckdb gives `store` none.

        The credentials of an object store are given here, where dbt neither logs nor compiles them.
        """
        load_delta(conn)
        if self.creds is not None:
            with _as_dbt_error():
                storage.require_reachable(self.creds.external_root)
                storage.require_whole_logs(self.creds.external_root)
                open_root(conn, self.creds.external_root)
        self._connection = conn

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Instants are UTC; the time zone is a setting of each cursor, not of the database."""
        cursor.execute("SET TimeZone = 'UTC'")

    def store(self, target_config: TargetConfig) -> None:
        """Write the rows of a model to its Delta table, as the ``delta`` materialization asks.

        `target_config.config` is that macro's request: ``root``, ``table`` (``schema/name``), ``dates`` (ISO trade
        dates), ``sorted_by``, ``required`` (columns that are never null), ``model`` and ``restated`` (underlyings by
        date, kept with the commit). The rows are those of `target_config.relation`, which has to be committed: another
        cursor reads it.
        """
        if self._connection is None:
            raise RuntimeError(f"the plugin {__name__} has no connection: list it under `plugins` in profiles.yml")
        request = target_config.config
        query = f"select * from {target_config.relation}{_order_by(request['sorted_by'])}"
        cursor = self._connection.cursor()
        try:
            self.configure_cursor(cursor)
            Lake.open(request["root"]).replace_dates(
                request["table"],
                partial(_stream, cursor, query, request["required"]),
                [date.fromisoformat(day) for day in request["dates"]],
                **{MODEL_KEY: request["model"]},
                **({RESTATED: json.dumps(request["restated"])} if request["restated"] else {}),
            )
        finally:
            cursor.close()


def _require_free(path: str) -> None:
    """Raise DatabaseInUse when another process has the database file: of DuckDB's error dbt shows a traceback."""
    try:
        duckdb.connect(path).close()
    except duckdb.IOException as error:
        if held := re.search(r"Could not set lock on file.*?\(PID (\d+)\)", str(error), re.DOTALL):
            raise DatabaseInUse(
                f"another process is building with the same database, {path} (PID {held[1]}): "
                "wait for it, then try again"
            ) from None
        raise


@contextmanager
def _as_dbt_error() -> Iterator[None]:
    """dbt shows the text of its own errors, and a traceback of all others."""
    try:
        yield
    except LakeError as error:
        raise DbtRuntimeError(str(error)) from None


def _stream(cursor: duckdb.DuckDBPyConnection, query: str, required: Sequence[str]) -> pa.RecordBatchReader:
    """Run `query`, and stream its rows in the schema that Delta wants."""
    rows = cursor.execute(query).to_arrow_reader(BATCH_ROWS)
    schema = delta_schema(rows.schema, required)
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in rows))


def release_database() -> None:
    """Close dbt's DuckDB file, which dbt-duckdb keeps open, and locked, while the process lives."""
    with DuckDBConnectionManager._LOCK:
        if DuckDBConnectionManager._ENV is not None:
            DuckDBConnectionManager._ENV.close()
            DuckDBConnectionManager._ENV = None


def delta_schema(schema: pa.Schema, required: Sequence[str]) -> pa.Schema:
    """The Arrow schema of a DuckDB result in Delta's own terms: UTC instants, list items named ``element``."""
    return pa.schema(
        [pa.field(field.name, _delta_type(field.type), nullable=field.name not in required) for field in schema]
    )


def _delta_type(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(type_):
        if type_.tz is None:
            raise TypeError("a timestamp without time zone cannot be stored: make it `timestamp with time zone`")
        return pa.timestamp("us", tz="UTC")
    if pa.types.is_list(type_):
        return pa.list_(pa.field("element", _delta_type(type_.value_type)))
    return type_


def _order_by(columns: Sequence[str]) -> str:
    quoted = ", ".join(f'"{column}" nulls last' for column in columns)
    return f" order by {quoted}" if quoted else ""
