"""Rows before a corporate action, restated into the terms after it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

SPECIAL_DIVIDEND_MINIMUM = 0.125
PRICES = ("bid", "ask", "mid", "last", "model_price", "pv_dividend")
COUNTS = ("bid_size", "ask_size", "volume", "open_interest")
# On one date a split comes before a dividend.
ORDER = ("split", "special_dividend", "deliverable_change", "symbol_change")
# What comes after them under the same class is another contract.
ANOTHER_SERIES = ("deliverable_change", "symbol_reused")
# Strikes and cash are reckoned in millionths of a dollar: an exact half cent must be one.
MICRO, CENT = 1_000_000, 10_000


@dataclass(frozen=True, slots=True)
class Action:
    """One event as it counts: `ratio` 1 and `cash` 0 (micro-dollars a share) where it changes no terms."""

    event: str
    effective_date: date
    ratio: int = 1
    cash: int = 0
    new_symbol: str | None = None

    def __str__(self) -> str:
        return f"{self.event}:{self.effective_date}"


def in_force(actions: pl.DataFrame, as_of: datetime, latest_trade_date: date | None) -> dict[str, list[Action]]:
    """The actions that count, by symbol, in the order in which they apply.

    `actions` has the columns of config/corporate_actions.csv. An action listed again with a later ``known_at`` stands
    as it was last known.
    """
    known = (
        actions.filter(pl.col("known_at") <= as_of, pl.col("effective_date") <= latest_trade_date)
        .sort("known_at")
        .unique(["symbol", "event_type", "effective_date"], keep="last")
    )
    counted: dict[str, list[Action]] = {}
    for row in known.iter_rows(named=True):
        if (action := _counted(row)) is not None:
            counted.setdefault(row["symbol"], []).append(action)
    for listed in counted.values():
        listed.sort(key=_order)
    return counted


def _counted(row: dict[str, object]) -> Action | None:
    event, day = str(row["event_type"]), row["effective_date"]
    assert isinstance(day, date)
    match event:
        case "split":
            new, old = _float(row["ratio_new"]), _float(row["ratio_old"])
            if new >= old and new % old == 0:
                return Action("split", day, ratio=int(new // old))
            return Action("deliverable_change", day)
        case "special_dividend":
            cash = _float(row["cash_amount"])
            return Action(event, day, cash=round(cash * MICRO)) if cash >= SPECIAL_DIVIDEND_MINIMUM else None
        case "symbol_change":
            return Action(event, day, new_symbol=str(row["new_symbol"]))
        case _:
            return Action(event, day)


def _float(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def reaching(actions: dict[str, list[Action]], underlying: str, trade_date: date) -> Iterator[Action]:
    """The actions that restate a row of `underlying` on `trade_date`, following the company through its symbols."""
    symbol, day = underlying, trade_date
    while True:
        own = actions.get(symbol, [])
        left = min((a for a in own if a.new_symbol and a.effective_date > day), key=_when, default=None)
        taken = min((on for on in _takeovers(actions, symbol) if on > day), default=None)
        if taken is not None and (left is None or taken < left.effective_date):
            # Another company goes by the symbol from here on: what follows is its history, not this one's.
            yield from (a for a in own if day < a.effective_date < taken)
            yield Action("symbol_reused", taken)
            return
        if left is None:
            yield from (a for a in own if a.effective_date > day)
            return
        yield from (a for a in own if day < a.effective_date < left.effective_date)
        symbol, day = str(left.new_symbol), left.effective_date
        # The events of that day may be listed under either symbol, and a split still comes before a dividend.
        before = [a for a in own if a.effective_date == day]
        after = [a for a in actions.get(symbol, []) if a.effective_date == day and not a.new_symbol]
        waiting = [a for a in before if a.cash and any(b.ratio > 1 for b in after)]
        yield from (a for a in before if a not in waiting)
        yield from sorted([*waiting, *after], key=_order)


def _takeovers(actions: dict[str, list[Action]], symbol: str) -> Iterator[date]:
    """Dates on which another company takes `symbol`, and its holder does not leave it for a new one."""
    leaving = {a.effective_date for a in actions.get(symbol, []) if a.new_symbol}
    for listed in actions.values():
        yield from (a.effective_date for a in listed if a.new_symbol == symbol and a.effective_date not in leaving)


def _when(action: Action) -> date:
    return action.effective_date


def _order(action: Action) -> tuple[date, int]:
    return action.effective_date, ORDER.index(action.event)


def daily_adjusted(daily_clean: pl.DataFrame, actions: dict[str, list[Action]]) -> pl.DataFrame:
    """clean/daily_adjusted: daily_clean and its restated columns; same key."""
    histories = _histories(daily_clean.select("underlying", "trade_date").unique(), actions)
    rows = daily_clean.join(histories, on=["underlying", "trade_date"], how="left")
    factor, ratio = pl.col("price_factor"), pl.col("_ratio")
    strike = _restated_strike(rows)
    return (
        rows.with_columns(
            strike,
            *((pl.col(name) * factor).alias(f"{name}_adj") for name in PRICES),
            *((pl.col(name) * ratio).alias(f"{name}_adj") for name in COUNTS),
            (pl.col("underlying_close") * factor - pl.col("strike_shift")).alias("underlying_close_adj"),
            (pl.col("gamma").cast(pl.Float64) * ratio).cast(pl.Float32).alias("gamma_adj"),
            (pl.col("vega").cast(pl.Float64) / ratio).cast(pl.Float32).alias("vega_adj"),
            (pl.col("theta").cast(pl.Float64) / ratio).cast(pl.Float32).alias("theta_adj"),
        )
        .with_columns(
            (pl.col("underlying_close_adj") / pl.col("strike_adj") - 1).alias("moneyness_pct_adj"), _contract_key()
        )
        .drop("_ratio", "_ratios", "_cashes", "_today", "_since")
    )


def _histories(pairs: pl.DataFrame, actions: dict[str, list[Action]]) -> pl.DataFrame:
    """One row per underlying and trade date: what all events that reach it amount to."""
    made = []
    for underlying, trade_date in pairs.iter_rows():
        reached = list(reaching(actions, underlying, trade_date))
        ratio, shift, today, since = 1, 0.0, underlying, None
        for action in reached:
            ratio *= action.ratio
            shift = shift / action.ratio + action.cash / MICRO
            today = action.new_symbol or today
            since = action.effective_date if action.event in ANOTHER_SERIES else since
        made.append(
            {
                "underlying": underlying,
                "trade_date": trade_date,
                "price_factor": 1 / ratio,
                "strike_shift": shift,
                "adjustment_events": [str(action) for action in reached],
                "_ratio": ratio,
                "_ratios": [action.ratio for action in reached],
                "_cashes": [action.cash for action in reached],
                "_today": today,
                "_since": since,
            }
        )
    return pl.DataFrame(
        made,
        schema={
            "underlying": pl.String,
            "trade_date": pl.Date,
            "price_factor": pl.Float64,
            "strike_shift": pl.Float64,
            "adjustment_events": pl.List(pl.String),
            "_ratio": pl.Int64,
            "_ratios": pl.List(pl.Int64),
            "_cashes": pl.List(pl.Int64),
            "_today": pl.String,
            "_since": pl.Date,
        },
    )


def _restated_strike(rows: pl.DataFrame) -> pl.Expr:
    """``strike_adj``: divided and lowered event by event, each time rounded to the cent, half a cent up."""
    events = rows["_ratios"].list.len().max()
    strike = (pl.col("strike") * MICRO).round().cast(pl.Int64)
    for k in range(int(events) if isinstance(events, int) else 0):
        ratio = pl.col("_ratios").list.get(k, null_on_oob=True)
        cash = pl.col("_cashes").list.get(k, null_on_oob=True)
        # floor(strike / ratio - cash + half a cent), with no division before the last step.
        lowered = 2 * (strike - cash * ratio) + CENT * ratio
        changes = (ratio > 1) | (cash > 0)
        strike = pl.when(changes.fill_null(False)).then((lowered // (2 * CENT * ratio)) * CENT).otherwise(strike)
    return (strike.cast(pl.Float64) / MICRO).alias("strike_adj")


def _contract_key() -> pl.Expr:
    # A class that begins with the symbol follows it (FB1, META1).
    rest = pl.col("trading_class").str.strip_prefix(pl.col("underlying"))
    follows = pl.col("trading_class").str.starts_with(pl.col("underlying"))
    root = pl.when(follows).then(pl.col("_today") + rest).otherwise(pl.col("trading_class"))
    since = (
        pl.when(pl.col("_since").is_not_null())
        .then("@" + pl.col("_since").dt.to_string("%Y-%m-%d"))
        .otherwise(pl.lit(""))
    )
    cents = (pl.col("strike_adj") * 100).round().cast(pl.Int64)
    return pl.concat_str(
        "_today",
        root + since,
        pl.col("multiplier").cast(pl.Int64).cast(pl.String),
        pl.col("expiry").dt.to_string("%Y-%m-%d"),
        "right",
        (cents // 100).cast(pl.String) + "." + (cents % 100).cast(pl.String).str.zfill(2),
        separator="|",
    ).alias("adjusted_contract_key")
