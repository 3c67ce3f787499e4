"""dbt-duckdb plugin: judges the CSV files that people edit before dbt seeds them.

Named in ``profiles.yml``; the macro `check_seeds` asks it. So ``dbt build`` from a shell refuses what `flows.models`
does.
"""

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

from flows.seeds import refusal_of


class Plugin(BasePlugin):
    """Connections that know the scalar function ``chainlake_refusal_of(path)``."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Register the function: the refusal of a file, or an empty text."""
        conn.create_function("chainlake_refusal_of", refusal_of, ["VARCHAR"], "VARCHAR", side_effects=True)
