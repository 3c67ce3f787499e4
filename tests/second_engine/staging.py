"""Raw rows as clean reads them: no sentinels, only slots of a session, and what makes a quote good.

A `polars.DataFrame` goes in and comes out; columns are those of ``lake.tables`` plus the ones named in each docstring.
"""

from datetime import time
from typing import Literal

import polars as pl

CLOSE_DEADLINE = time(23, 45)
NEW_YORK = "America/New_York"
# What stands for "no value", column by column; delta and theta can be -1.
NOTHING = {
    **dict.fromkeys(
        ("bid", "ask", "last", "model_price", "pv_dividend", "underlying_price", "iv", "gamma", "vega"),
        (-1.0, -2.0, -999.0),
    ),
    **dict.fromkeys(("delta", "theta"), (-2.0, -999.0)),
    **dict.fromkeys(
        ("bid_size", "ask_size", "last_size", "volume", "open_interest", "market_data_type"), (-1.0, -2.0, -999.0)
    ),
}
# A price, a size or a volatility is never negative.
SIGNED = ("delta", "theta", "gamma", "vega")
# The least of IB's unset values (2147483647, 9223372036854775807, 1.7976931348623157E308): nothing real is as large.
UNSET = 2147483647


def without_sentinels(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with every sentinel of its column replaced by null."""
    return rows.with_columns(
        pl.when(_is_nothing(name)).then(None).otherwise(pl.col(name)).alias(name)
        for name in NOTHING
        if name in rows.columns
    )


def _is_nothing(name: str) -> pl.Expr:
    value = pl.col(name).cast(pl.Float64)
    nothing = value.is_in(NOTHING[name]) | value.is_nan() | (value.abs() >= UNSET)
    return nothing if name in SIGNED else nothing | (value < 0)


def slots(sessions: pl.DataFrame) -> pl.DataFrame:
    """One row per trade date and slot: ``opens, window_end, is_close, is_pre_close`` and the date's ``close_slot``,
    ``closes`` and ``deadline`` (end of the close view).
    """
    of_date = pl.col("trade_date")
    close = pl.col("is_close")
    return (
        sessions.unique(["trade_date", "slot_30m"])
        .select(
            "trade_date", "slot_30m", pl.col("sample_time").alias("opens"), "window_end", "is_close", "is_pre_close"
        )
        .with_columns(
            pl.col("slot_30m").filter(close).first().over(of_date).alias("close_slot"),
            pl.col("opens").filter(close).first().over(of_date).alias("closes"),
            of_date.dt.combine(CLOSE_DEADLINE)
            .dt.replace_time_zone(NEW_YORK)
            .dt.convert_time_zone("UTC")
            .alias("deadline"),
        )
    )


def staged_options(quotes: pl.DataFrame, sessions: pl.DataFrame) -> pl.DataFrame:
    """Capture outcomes of known slots, with ``mid, spread, is_good`` and the columns of `slots`; ``sample_time`` is the
    session's. Key unchanged; duplicates stay.
    """
    # A bid of -1 is a tick too: it says that there is none. One of -0.05 is no bid and does not say so.
    nonsense = (pl.col("bid") < 0) & (pl.col("bid") > -UNSET) & ~pl.col("bid").is_in(NOTHING["bid"])
    told = pl.col("bid_seen") | (pl.col("bid") == -1).fill_null(False)
    seen = quotes.with_columns((told & ~nonsense.fill_null(False)).alias("bid_seen"))
    known = _under_their_slots(without_sentinels(seen), sessions, "inner")
    # So does 0 with size 0, beside a valid ask.
    says_none = (pl.col("bid") == 0) & (pl.col("bid_size") == 0) & (pl.col("ask") > 0)
    return known.with_columns(
        pl.when(says_none.fill_null(False)).then(None).otherwise(pl.col("bid")).alias("bid"),
        pl.col("opens").alias("sample_time"),
    ).with_columns(
        # An ask of 0 is none.
        pl.when(pl.col("ask") > 0).then((pl.col("bid") + pl.col("ask")) / 2).alias("mid"),
        pl.when(pl.col("ask") > 0).then(pl.col("ask") - pl.col("bid")).alias("spread"),
        _is_good().alias("is_good"),
    )


def _is_good() -> pl.Expr:
    asof, bid, ask = pl.col("asof_ts"), pl.col("bid"), pl.col("ask")
    in_slot = (asof >= pl.col("opens")) & (asof < pl.col("window_end"))
    in_close_view = (asof >= pl.col("closes")) & (asof < pl.col("deadline"))
    arrived = pl.when(pl.col("view") == "close").then(in_close_view).otherwise(in_slot)
    two_sided = (bid >= 0) & (bid <= ask)
    no_bid = bid.is_null() & pl.col("bid_seen")
    return (
        ~pl.col("snapshot_error")
        & arrived.fill_null(False)
        & (ask > 0).fill_null(False)
        & (two_sided.fill_null(False) | no_bid)
    )


def outside(quotes: pl.DataFrame, sessions: pl.DataFrame) -> pl.DataFrame:
    """Capture outcomes under a slot that their session does not have."""
    return _under_their_slots(quotes, sessions, "anti")


def _under_their_slots(quotes: pl.DataFrame, sessions: pl.DataFrame, how: Literal["inner", "anti"]) -> pl.DataFrame:
    # The close view has one slot, that of the close.
    of_views = slots(sessions).join(pl.DataFrame({"view": ["intraday", "close"]}), how="cross")
    return quotes.join(
        of_views.filter((pl.col("view") == "intraday") | pl.col("is_close")),
        on=["trade_date", "slot_30m", "view"],
        how=how,
    )
