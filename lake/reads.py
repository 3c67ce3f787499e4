"""What capture asks of the lake: the frozen set, and what a slot still lacks. Read through DuckDB, as analysts do."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

import duckdb

from lake.duck import connect
from lake.store import Lake

# design: a good quote is error-free, arrived in its window, can be bought, and is not crossed; a bid is not needed
# when a tick has said that there is none. The dbt model stg_option_quotes states the same rule for `clean`.
GOOD_QUOTE = """
    not snapshot_error
    and asof_ts >= $window_start and asof_ts < $window_end
    and ask > 0
    and ((bid >= 0 and bid <= ask) or (bid is null and bid_seen))
"""


class Reader:
    """Queries of one lake on one DuckDB connection. Make one with `reader`."""

    def __init__(self, lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
        self._lake, self._connection = lake, connection

    def rows(self, table: str, where: str = "true", columns: str = "*", **values: Any) -> list[dict[str, Any]]:
        """Rows of a table as dictionaries; `where` may name `values` as ``$name``. Empty when the table is missing."""
        if self._lake.version(table) is None:
            return []
        cursor = self._connection.execute(
            f"select {columns} from delta_scan('{self._lake.uri(table)}') where {where}",
            values,
        )
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def contracts(self, trade_date: date) -> list[dict[str, Any]]:
        """The frozen set of a date, in the columns of ``raw/contracts``; one row per conid."""
        return self.rows("raw/contracts", f"trade_date = date '{trade_date}' order by frozen_at desc")

    def discovered_parts(self, trade_date: date) -> set[str]:
        """The parts of the universe that finished discoveries of a date were for: "all", or chosen symbols."""
        found = self.rows("ops/runs", f"trade_date = date '{trade_date}' and step = 'discover'", "distinct batch")
        return {row["batch"] for row in found}

    def sessions(self, trade_date: date) -> list[dict[str, Any]]:
        """The stored slots of a date."""
        return self.rows("raw/sessions", f"trade_date = date '{trade_date}'")

    def captured_options(self, trade_date: date, view: str, slot: int, window: tuple[datetime, datetime]) -> set[int]:
        """Conids that already have a good row in the slot of a view."""
        found = self.rows(
            "raw/option_quotes",
            f"trade_date = date '{trade_date}' and slot_30m = {slot} and view = '{view}' and {GOOD_QUOTE}",
            "distinct conid",
            window_start=window[0],
            window_end=window[1],
        )
        return {row["conid"] for row in found}

    def captured_underlyings(self, trade_date: date, view: str, slot: int) -> set[int]:
        """Conids of underlyings that already have an error-free row in the slot of a view."""
        found = self.rows(
            "raw/underlying_quotes",
            f"trade_date = date '{trade_date}' and slot_30m = {slot} and view = '{view}' and not snapshot_error",
            "distinct conid",
        )
        return {row["conid"] for row in found}

    def underlying_conids(self, trade_date: date) -> dict[str, int]:
        """Conids by symbol of the underlyings that were asked for on a date."""
        found = self.rows(
            "raw/underlying_quotes", f"trade_date = date '{trade_date}' and conid > 0", "distinct underlying, conid"
        )
        return {row["underlying"]: row["conid"] for row in found}

    def latest_date(self) -> date | None:
        """The last trade date that the lake knows, None in an empty lake."""
        found = self.rows("raw/sessions", columns="max(trade_date) as day")
        day: date | None = found[0]["day"] if found else None
        return day

    def captured_slots(self, trade_date: date) -> set[int]:
        """Slots of a date that have an error-free row."""
        found = self.rows(
            "raw/option_quotes",
            f"trade_date = date '{trade_date}' and view = 'intraday' and not snapshot_error",
            "distinct slot_30m",
        )
        return {row["slot_30m"] for row in found}

    def last_close(self, underlying: str, before: date) -> float | None:
        """The latest `underlying_close` of daily_clean before a date, if any."""
        found = self.rows(
            "clean/daily_clean",
            f"trade_date < date '{before}' and trade_date >= date '{before}' - 30 and underlying = $underlying",
            "arg_max(underlying_close, trade_date) as underlying_close",
            underlying=underlying,
        )
        return found[0]["underlying_close"] if found else None

    def recent_contracts(self, underlying: str, before: date, days: int = 15) -> list[dict[str, Any]]:
        """Contracts of an underlying that were frozen in the last `days` days, one row per conid."""
        return self.rows(
            "raw/contracts",
            f"trade_date < date '{before}' and trade_date >= date '{before}' - {days} and underlying = $underlying "
            "order by trade_date",
            underlying=underlying,
        )

    def session_interest(self, trade_date: date) -> dict[int, tuple[int | None, int | None]]:
        """By conid: the latest open interest that the day's own snapshots showed, and the day's volume."""
        found = self.rows(
            "raw/option_quotes",
            f"trade_date = date '{trade_date}' and not snapshot_error group by conid",
            "conid, arg_max(open_interest, asof_ts) as open_interest, max(volume) as volume",
        )
        return {row["conid"]: (row["open_interest"], row["volume"]) for row in found}

    def filled_open_interest(self, trade_date: date) -> set[int]:
        """Conids whose open interest of the session itself is already observed."""
        found = self.rows(
            "raw/open_interest",
            f"trade_date = date '{trade_date}' and oi_asof_date = trade_date and not snapshot_error",
            "distinct conid",
        )
        return {row["conid"] for row in found}


@contextmanager
def reader(lake: Lake) -> Iterator[Reader]:
    """A Reader whose connection is closed at the end."""
    connection = connect()
    try:
        yield Reader(lake, connection)
    finally:
        connection.close()
