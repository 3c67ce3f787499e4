"""Answers of the lake as polars frames."""

from datetime import date

import polars as pl
import pyarrow as pa

from lake.catalog.connection import Limits, query
from lake.catalog.untrusted import Question, answer
from lake.store import Lake


def ask(root: str, sql: str) -> pl.DataFrame:
    """The answer of a reading statement of our own. Raises QueryRefused, LakeMissing."""
    return _frame(query(root, sql))


def ask_for_user(question: Question, limits: Limits) -> pl.DataFrame:
    """The answer of a statement that a user typed (`lake.catalog.untrusted.answer`). Raises QueryRefused, LakeError."""
    return _frame(answer(question, limits))


def daily_metrics(lake: Lake, day: date) -> pl.DataFrame:
    """One row per metric of `day`: metric, value, threshold, passed, pending, breached. Empty without any data."""
    if lake.version("quality/daily_metrics") is None:
        return pl.DataFrame(schema={"metric": pl.String, "breached": pl.Boolean})
    return ask(
        lake.root,
        "select metric, value, threshold, passed, pending, not passed and not pending as breached "
        f"from quality.daily_metrics where trade_date = date '{day}' order by metric",
    )


def _frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))
