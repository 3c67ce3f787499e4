"""Answers of the lake as polars frames."""

from datetime import date

import polars as pl

from lake.as_of import query_as_of
from lake.catalog import DEFAULT_LIMITS, Limits, query
from lake.store import Lake


def ask(root: str, sql: str, limits: Limits = DEFAULT_LIMITS) -> pl.DataFrame:
    """The answer of a reading statement. Raises QueryRefused, LakeMissing."""
    return pl.DataFrame(pl.from_arrow(query(root, sql, limits=limits)))


def ask_as_of(root: str, sql: str, at: str, days: int, limits: Limits = DEFAULT_LIMITS) -> pl.DataFrame:
    """The answer as it would have been at `at` (New York time), at most `days` ago. Raises QueryRefused, LakeError."""
    return pl.DataFrame(pl.from_arrow(query_as_of(root, sql, at, days=days, limits=limits)))


def daily_metrics(lake: Lake, day: date) -> pl.DataFrame:
    """One row per metric of `day`: metric, value, threshold, passed, pending, breached. Empty without any data."""
    if lake.version("quality/daily_metrics") is None:
        return pl.DataFrame(schema={"metric": pl.String, "breached": pl.Boolean})
    return ask(
        lake.root,
        "select metric, value, threshold, passed, pending, not passed and not pending as breached "
        f"from quality.daily_metrics where trade_date = date '{day}' order by metric",
    )
