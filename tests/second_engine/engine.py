"""The whole second engine: raw tables in, clean tables out."""

from collections.abc import Mapping
from datetime import datetime

import polars as pl

from tests.second_engine import adjustment, outcomes, rollup, staging


def clean_tables(raw: Mapping[str, pl.DataFrame], actions: pl.DataFrame, as_of: datetime) -> dict[str, pl.DataFrame]:
    """clean/* by name, of all trade dates of `raw` (tables by name), with `actions` as known at `as_of`."""
    quotes, sessions = raw["raw/option_quotes"], raw["raw/sessions"]
    staged = staging.staged_options(quotes, sessions)
    intraday, close_view = outcomes.intraday(staged), outcomes.close_view(staged)
    chosen = rollup.choices(intraday, close_view)
    closes = rollup.underlying_closes(raw["raw/underlying_quotes"], pl.concat([intraday, close_view]), sessions)
    daily_clean = rollup.daily_clean(chosen, closes, rollup.open_interest(raw["raw/open_interest"]))
    unresolved = rollup.daily_unresolved(
        raw["raw/contracts"], intraday, close_view, staging.outside(quotes, sessions), chosen
    )
    begun = sessions.filter(pl.col("sample_time") <= as_of).join(daily_clean, on="trade_date", how="semi")
    in_force = adjustment.in_force(actions, as_of, max(begun["trade_date"], default=None))
    return {
        "clean/intraday": intraday,
        "clean/daily_clean": daily_clean,
        "clean/daily_unresolved": unresolved,
        "clean/daily_adjusted": adjustment.daily_adjusted(daily_clean, in_force),
    }
