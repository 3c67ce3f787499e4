"""What the page shows, as queries on a catalog (`lake.catalog.connection.open_catalog`). Each returns a polars frame.

A day that dbt has not rolled up yet is shown from its raw rows, so that a session can be watched while it runs.
"""

from datetime import date

import duckdb
import polars as pl

# The last error-free outcome of each contract and slot; `clean` chooses with more care.
RAW_QUOTES = """
    SELECT * FROM raw.option_quotes
    WHERE trade_date = $day AND view = 'intraday' AND NOT snapshot_error
    QUALIFY row_number() OVER (PARTITION BY slot_30m, conid ORDER BY asof_ts DESC NULLS LAST, ingest_id DESC) = 1"""
CLEAN_QUOTES = "SELECT * FROM clean.intraday WHERE trade_date = $day AND NOT snapshot_error"
SLOTS = """
    SELECT DISTINCT strftime(sample_time AT TIME ZONE 'America/New_York', '%H:%M') AS slot, slot_30m
    FROM raw.sessions WHERE trade_date = $day"""


def tables(catalog: duckdb.DuckDBPyConnection) -> list[str]:
    """Names (``schema.table``) of the tables and views of the lake, sorted."""
    listed = catalog.execute("SELECT schema, name FROM (SHOW ALL TABLES) ORDER BY ALL").fetchall()
    return [f"{schema}.{name}" for schema, name in listed]


def trade_dates(catalog: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """One row per recorded trade date, latest first, with its latest publication."""
    return catalog.execute(
        """SELECT trade_date, coalesce(status, 'not published') AS status, published_at, detail
        FROM (SELECT DISTINCT trade_date FROM raw.sessions) LEFT JOIN ops.latest_published USING (trade_date)
        ORDER BY trade_date DESC"""
    ).pl()


def open_incidents(catalog: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """One row per incident that is open: severe ones first, then the oldest; acknowledged ones are marked."""
    return catalog.execute(
        """SELECT cause, any_value(severity) AS severity, min(trade_date) AS trade_date, min(changed_at) AS since,
            arg_min(detail, changed_at) AS detail, bool_or(state = 'acknowledged') AS acknowledged
        FROM ops.incidents GROUP BY incident_id, cause
        HAVING NOT bool_or(state = 'closed')
        ORDER BY any_value(severity) = 'severe' DESC, since, cause"""
    ).pl()


def row_counts(catalog: duckdb.DuckDBPyConnection, day: date) -> pl.DataFrame:
    """One row per table: its rows on `day`."""
    counted = [name for name in tables(catalog) if not name.endswith("_passed") and name != "ops.latest_published"]
    each = [f"SELECT '{name}' AS \"table\", count(*) AS rows FROM {name} WHERE trade_date = $day" for name in counted]
    return catalog.execute(" UNION ALL ".join(each) + " ORDER BY 1", {"day": day}).pl()


def metrics(catalog: duckdb.DuckDBPyConnection, day: date) -> pl.DataFrame:
    """One row per quality metric of `day`: value, threshold, and whether it passed, failed or is pending."""
    if "quality.daily_metrics" not in tables(catalog):
        return pl.DataFrame()
    return catalog.execute(
        """SELECT metric, value, threshold,
            CASE WHEN pending THEN 'pending' WHEN passed THEN 'passed' ELSE 'failed' END AS state
        FROM quality.daily_metrics WHERE trade_date = $day ORDER BY state, metric""",
        {"day": day},
    ).pl()


def coverage(catalog: duckdb.DuckDBPyConnection, day: date) -> pl.DataFrame:
    """One row per underlying and slot of `day`: frozen and captured contracts and their share, in [0, 1].

    Before the rollup only slots that have been captured have rows.
    """
    measured = """SELECT underlying, slot_30m, frozen, captured FROM quality.slot_coverage WHERE trade_date = $day"""
    live = """SELECT c.underlying, s.slot_30m, count(c.conid) AS frozen, count(q.conid) AS captured
        FROM (SELECT DISTINCT slot_30m FROM raw.option_quotes WHERE trade_date = $day AND view = 'intraday') AS s
        JOIN (FROM raw.contracts WHERE trade_date = $day) AS c ON c.first_seen_slot <= s.slot_30m
        LEFT JOIN (
            SELECT DISTINCT slot_30m, conid FROM raw.option_quotes
            WHERE trade_date = $day AND view = 'intraday' AND NOT snapshot_error
        ) AS q ON q.slot_30m = s.slot_30m AND q.conid = c.conid
        GROUP BY ALL"""
    source = measured if _has_rows(catalog, "quality.slot_coverage", day) else live
    return catalog.execute(
        f"""SELECT underlying, slot, frozen, captured, captured / nullif(frozen, 0) AS coverage
        FROM ({source}) AS counted JOIN ({SLOTS}) USING (slot_30m)
        ORDER BY underlying, slot_30m""",
        {"day": day},
    ).pl()


def strategies(catalog: duckdb.DuckDBPyConnection, day: date) -> pl.DataFrame:
    """One row per rollup strategy, or reason of a contract left without a daily row: how many contracts of `day`."""
    known = tables(catalog)
    parts = []
    if "clean.daily_clean" in known:
        parts.append(
            "SELECT rollup_strategy AS outcome, 'daily row' AS kind FROM clean.daily_clean WHERE trade_date = $day"
        )
    if "clean.daily_unresolved" in known:
        parts.append("SELECT reason, 'unresolved' FROM clean.daily_unresolved WHERE trade_date = $day")
    if not parts:
        return pl.DataFrame()
    return catalog.execute(
        f"SELECT outcome, kind, count(*) AS contracts FROM ({' UNION ALL '.join(parts)}) GROUP BY ALL ORDER BY ALL",
        {"day": day},
    ).pl()


def slots(catalog: duckdb.DuckDBPyConnection, day: date) -> list[str]:
    """The slots of `day` on the New York clock, ``HH:MM``, in order."""
    return [slot for slot, _ in catalog.execute(f"{SLOTS} ORDER BY slot_30m", {"day": day}).fetchall()]


def underlyings(catalog: duckdb.DuckDBPyConnection, day: date) -> list[str]:
    """Underlyings with contracts on `day`, in order."""
    sql = "SELECT DISTINCT underlying FROM raw.contracts WHERE trade_date = $day ORDER BY 1"
    return [underlying for (underlying,) in catalog.execute(sql, {"day": day}).fetchall()]


def chain(catalog: duckdb.DuckDBPyConnection, day: date, underlying: str, slot: str) -> pl.DataFrame:
    """One row per contract of `underlying` that answered in `slot`: the whole chain, by expiry, strike and right.

    Prices are dollars a share, sizes and volume contracts, `iv` a year; `age_s` is the seconds from the slot to
    the last tick of the row.
    """
    source = CLEAN_QUOTES if _has_rows(catalog, "clean.intraday", day) else RAW_QUOTES
    return catalog.execute(
        f"""SELECT expiry, strike, "right", bid, ask, bid_size, ask_size, last, volume, iv, delta, gamma, theta, vega,
            underlying_price, trading_class, market_data_type, epoch(asof_ts - sample_time) AS age_s, data_quality_flag,
            conid
        FROM ({source}) AS quotes JOIN ({SLOTS}) AS slots USING (slot_30m)
        WHERE underlying = $underlying AND slot = $slot
        ORDER BY expiry, strike, "right" """,
        {"day": day, "underlying": underlying, "slot": slot},
    ).pl()


def _has_rows(catalog: duckdb.DuckDBPyConnection, name: str, day: date) -> bool:
    if name not in tables(catalog):
        return False
    return bool(catalog.execute(f"FROM {name} WHERE trade_date = $day LIMIT 1", {"day": day}).fetchall())
