"""The end of day of each contract: which row, the underlying's close, open interest; or why there is none."""

import polars as pl

from tests.second_engine import outcomes, staging

MAX_AGE_SLOTS = 4
CONTRACT = (
    *("underlying", "symbol", "trading_class", "expiry", "last_trade_date"),
    *("right", "strike", "multiplier", "exchange"),
)
DAILY = ["trade_date", "conid"]
OF_UNDERLYING = ["trade_date", "underlying"]
# The chosen row's columns that daily_clean keeps under their own names.
QUOTED = (
    *("bid", "ask", "last", "bid_seen", "bid_size", "ask_size", "last_size", "volume", "mid", "spread"),
    *("iv", "delta", "gamma", "theta", "vega", "model_price", "pv_dividend", "underlying_price"),
    *("market_data_type", "source", "is_good"),
)


def choices(intraday: pl.DataFrame, close_view: pl.DataFrame) -> pl.DataFrame:
    """The chosen row of each trade date and conid that has one, with ``rollup_strategy``."""
    at_close, good = pl.col("slot_30m") == pl.col("close_slot"), pl.col("is_good")
    before = pl.col("slot_30m") < pl.col("close_slot")
    ranked = pl.concat(
        [
            _offered(close_view.filter(good), "close", 1),
            _offered(intraday.filter(good & at_close), "close", 2),
            _offered(intraday.filter(good & before), "last_good", 3),
            _offered(intraday.filter(~pl.col("snapshot_error") & pl.col("is_pre_close")), "slot_1530", 4),
        ]
    )
    return ranked.sort("_rank", "slot_30m", descending=[False, True]).unique(DAILY, keep="first", maintain_order=True)


def _offered(rows: pl.DataFrame, strategy: str, rank: int) -> pl.DataFrame:
    return rows.with_columns(pl.lit(strategy).alias("rollup_strategy"), pl.lit(rank).alias("_rank"))


def underlying_closes(underlyings: pl.DataFrame, options: pl.DataFrame, sessions: pl.DataFrame) -> pl.DataFrame:
    """One row per trade date and underlying: ``underlying_close`` and the ``underlying_source`` it came from.

    `options` are the outcomes that stand. Of several attempts at an underlying those that have the price asked for
    count, in the order of all attempts.
    """
    quotes = (
        staging.without_sentinels(underlyings)
        .join(staging.slots(sessions), on=["trade_date", "slot_30m"], how="inner")
        .filter(~pl.col("snapshot_error"), pl.col("is_close"))
        .with_columns(pl.lit(True).alias("is_good"), ((pl.col("bid") + pl.col("ask")) / 2).alias("mid"))
    )
    in_view, in_slot = (quotes.filter(pl.col("view") == view) for view in ("close", "intraday"))
    # Of contracts that were good at one instant, the smallest conid; the design leaves that open.
    models = options.filter(pl.col("is_good")).sort(
        "asof_ts", "conid", "underlying_price", descending=[True, False, True], maintain_order=True
    )
    offers = [
        _close(outcomes.best(_having(in_view, "last"), OF_UNDERLYING), "last", "close_view_last", 1),
        _close(outcomes.best(_having(in_slot, "last"), OF_UNDERLYING), "last", "close_slot_last", 2),
        _close(outcomes.best(_having(in_slot, "mid"), OF_UNDERLYING), "mid", "close_slot_mid", 3),
        _close(_having(models, "underlying_price"), "underlying_price", "option_model", 4),
    ]
    known = pl.concat(offers)
    return (
        known.sort("_rank", maintain_order=True).unique(OF_UNDERLYING, keep="first", maintain_order=True).drop("_rank")
    )


def _having(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    return rows.filter(pl.col(column).is_not_null())


def _close(rows: pl.DataFrame, column: str, source: str, rank: int) -> pl.DataFrame:
    return rows.select(
        *OF_UNDERLYING,
        pl.col(column).alias("underlying_close"),
        pl.lit(source).alias("underlying_source"),
        pl.lit(rank).alias("_rank"),
    )


def open_interest(observations: pl.DataFrame) -> pl.DataFrame:
    """One row per trade date and conid: the latest value that describes the trade date itself."""
    return (
        staging.without_sentinels(observations)
        .filter(
            pl.col("oi_asof_date") == pl.col("trade_date"),
            ~pl.col("snapshot_error"),
            pl.col("open_interest").is_not_null(),
        )
        .sort("observed_at", "ingest_id", descending=True)
        .unique(DAILY, keep="first", maintain_order=True)
        .select(*DAILY, "open_interest", "oi_asof_date")
    )


def daily_clean(chosen: pl.DataFrame, closes: pl.DataFrame, interest: pl.DataFrame) -> pl.DataFrame:
    """clean/daily_clean: one row per trade date and conid."""
    age = pl.col("close_slot") - pl.col("slot_30m")
    return (
        chosen.drop("open_interest")
        .join(closes, on=OF_UNDERLYING, how="left")
        .join(interest, on=DAILY, how="left")
        .with_columns(
            outcomes.with_flags(
                pl.when(pl.col("rollup_strategy") != "close").then(pl.lit("eod_rollup_fallback")),
                pl.when(age > MAX_AGE_SLOTS).then(pl.lit("eod_rollup_stale")),
                pl.when(pl.col("open_interest").is_null()).then(pl.lit("missing_oi")),
            )
        )
        .select(
            *DAILY,
            *CONTRACT,
            *QUOTED,
            "underlying_close",
            "underlying_source",
            (pl.col("underlying_close") / pl.col("strike") - 1).alias("moneyness_pct"),
            (pl.col("strike") * 100 / pl.col("multiplier")).alias("strike_per_100"),
            "open_interest",
            "oi_asof_date",
            "rollup_strategy",
            pl.col("sample_time").alias("rollup_source_time"),
            pl.col("asof_ts").alias("rollup_source_asof"),
            pl.col("slot_30m").alias("rollup_source_slot"),
            pl.col("view").alias("rollup_source_view"),
            "data_quality_flag",
        )
    )


def daily_unresolved(
    contracts: pl.DataFrame,
    intraday: pl.DataFrame,
    close_view: pl.DataFrame,
    outside: pl.DataFrame,
    chosen: pl.DataFrame,
) -> pl.DataFrame:
    """clean/daily_unresolved: one row per trade date and conid that is frozen or captured and has no end of day."""
    # The close view comes after every slot; an error-free row tells more than a failure.
    latest = (
        pl.concat([intraday, close_view])
        .sort("snapshot_error", pl.col("view") == "close", "slot_30m", descending=[False, True, True])
        .unique(DAILY, keep="first", maintain_order=True)
    )
    frozen = contracts.unique(DAILY, keep="any")
    everyone = pl.concat([frozen.select(*DAILY, *CONTRACT), latest.select(*DAILY, *CONTRACT)]).unique(
        DAILY, keep="first", maintain_order=True
    )
    strays = outside.select(*DAILY, pl.lit(True).alias("_stray")).unique()
    return (
        everyone.join(chosen, on=DAILY, how="anti")
        .join(latest.drop(*CONTRACT), on=DAILY, how="left")
        .join(strays, on=DAILY, how="left")
        .select(
            *DAILY,
            *CONTRACT,
            _reason().alias("reason"),
            pl.col("view").alias("latest_view"),
            pl.col("slot_30m").alias("latest_slot"),
            pl.col("sample_time").alias("latest_sample_time"),
            pl.col("bid").alias("latest_bid"),
            pl.col("ask").alias("latest_ask"),
            "error_code",
            "error_type",
            "error_message",
        )
    )


def _reason() -> pl.Expr:
    bid, ask = pl.col("bid").fill_null(0), pl.col("ask").fill_null(0)
    return (
        pl.when(pl.col("view").is_null() & pl.col("_stray").is_null())
        .then(pl.lit("never_asked"))
        .when(pl.col("view").is_null())
        .then(pl.lit("out_of_session"))
        .when(pl.col("snapshot_error"))
        .then(pl.lit("only_errors"))
        .when((bid <= 0) & (ask <= 0))
        .then(pl.lit("no_quote"))
        .when((bid > ask) & (ask > 0))
        .then(pl.lit("crossed"))
        .otherwise(pl.lit("not_good"))
    )
