"""dbt-duckdb plugin: what the models ask of the files that people edit.

Named in ``profiles.yml``. ``chainlake_refusal_of`` judges a CSV file before dbt seeds it (the macro `check_seeds` asks
it), so that ``dbt build`` from a shell refuses what `flows.models` does; ``chainlake_rate`` reads the curve of rates.
"""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from dbt.adapters.duckdb.plugins import BasePlugin
from duckdb.func import PythonUDFType

from flows.seeds import refusal_of
from ingest.errors import UsageError
from ingest.rates import RateCurve, curve_of, read_rates
from lake import resources
from lake.dbt.pricing_functions import Column, floats, structs, whole

RATES = resources.SHIPPED / "config" / "rates.csv"


class Plugin(BasePlugin):
    """Connections that know ``chainlake_refusal_of(path)`` and ``chainlake_rate(trade_date, days)``."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """`plugin_config["rates"]` is the file of interest rates; without it the one that ships."""
        self._rates = Path(plugin_config.get("rates") or RATES)

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Register the functions: a file's refusal or an empty text; the rate for so many days as of a date."""
        conn.create_function("chainlake_refusal_of", refusal_of, ["VARCHAR"], "VARCHAR", side_effects=True)
        curves: list[RateCurve] = []

        def rate(day: Column, days: Column) -> pa.Array:
            if not curves:
                curves.extend(read_rates(self._rates))
            return rates_of(curves, day, days)

        conn.create_function(
            "chainlake_rate", rate, ["DATE", "DOUBLE"], "STRUCT(rate DOUBLE, curve_date DATE)", type=PythonUDFType.ARROW
        )


def rates_of(curves: list[RateCurve], day: Column, days: Column) -> pa.Array:
    """The rate (continuous, ACT/365, a year) for `days` by the latest curve up to `day`, and that curve's date.

    A struct a row; null where no curve is as old.
    """
    dates, length = np.asarray(whole(day).to_pylist(), dtype=object), floats(days)
    rate, curve_dates = np.full(len(dates), np.nan), np.full(len(dates), None, dtype=object)
    for date in sorted(set(dates)):
        rows = np.flatnonzero(dates == date)
        try:
            curve = curve_of(curves, date)
        except UsageError:
            continue
        rate[rows], curve_dates[rows] = curve.rate_at(length[rows]), curve.day
    return structs({"rate": rate, "curve_date": pa.array(curve_dates, pa.date32())})
