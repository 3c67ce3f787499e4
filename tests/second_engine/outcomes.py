"""One outcome per key out of all attempts, and the flags that a row earns by itself."""

import polars as pl

# Flags that this engine computes. Capture's own travel on; comparisons across contracts are not its subject.
COMPUTED = (
    "delayed_fallback",
    "missing_greeks",
    "snapshot_error",
    "crossed_market",
    "locked_market",
    "no_bid",
    "zero_quote",
    "iv_out_of_range",
    "delta_out_of_range",
)
DELAYED = (3, 4)
GREEKS = ("iv", "delta", "gamma", "theta", "vega")


def best(staged: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """One row per `key`: good, else without error; live before delayed; then the latest; then the greatest id."""
    return (
        staged.with_columns(pl.col("market_data_type").is_in(DELAYED).fill_null(False).alias("_delayed"))
        .sort(
            "is_good",
            "snapshot_error",
            "_delayed",
            "asof_ts",
            "ingest_id",
            descending=[True, False, False, True, True],
            nulls_last=True,
        )
        .unique(key, keep="first", maintain_order=True)
        .drop("_delayed")
    )


def intraday(staged: pl.DataFrame) -> pl.DataFrame:
    """clean/intraday: one row per trade date, slot and conid, with its flags."""
    return flagged(best(staged.filter(pl.col("view") == "intraday"), ["trade_date", "slot_30m", "conid"]))


def close_view(staged: pl.DataFrame) -> pl.DataFrame:
    """One row per trade date and conid of the close snapshot, with its flags."""
    return flagged(best(staged.filter(pl.col("view") == "close"), ["trade_date", "conid"]))


def flagged(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with ``data_quality_flag`` completed: capture's flags and the computed ones, sorted, each once."""
    bid, ask, iv, delta = (pl.col(name) for name in ("bid", "ask", "iv", "delta"))
    is_call = pl.col("right") == "C"
    # In the order of COMPUTED.
    holds = (
        pl.col("market_data_type").is_in(DELAYED),
        pl.any_horizontal(pl.col(name).is_null() for name in GREEKS),
        pl.col("snapshot_error"),
        (bid > ask) & (ask > 0),
        (bid == ask) & (ask > 0),
        bid.is_null() & pl.col("bid_seen") & (ask > 0),
        (bid.is_null() | (bid <= 0)) & (ask.is_null() | (ask <= 0)),
        (iv < 0) | (iv > 10),
        pl.when(is_call).then((delta < 0) | (delta > 1)).otherwise((delta < -1) | (delta > 0)),
    )
    named = [
        pl.when(condition.fill_null(False)).then(pl.lit(name)) for name, condition in zip(COMPUTED, holds, strict=True)
    ]
    return rows.with_columns(with_flags(*named))


def with_flags(*named: pl.Expr) -> pl.Expr:
    """``data_quality_flag`` and the names that are not null, sorted, each once."""
    added = pl.concat_list(*named).list.drop_nulls()
    return pl.concat_list("data_quality_flag", added).list.unique().list.sort().alias("data_quality_flag")
