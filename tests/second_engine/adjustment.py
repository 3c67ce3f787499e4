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
    reached = {
        (underlying, day): list(reaching(actions, underlying, day))
        for underlying, day in daily_clean.select("underlying", "trade_date").unique().iter_rows()
    }
    rows = daily_clean.join(_histories(reached), on=["underlying", "trade_date"], how="left")
    listed = ["underlying", "trade_date", "strike"]
    rows = rows.join(_restated_strikes(daily_clean.select(listed).unique(), reached), on=listed, how="left")
    factor, ratio = pl.col("price_factor"), pl.col("_ratio")
    return (
        rows.with_columns(
            *((pl.col(name) * factor).alias(f"{name}_adj") for name in PRICES),
            *((pl.col(name) * ratio).alias(f"{name}_adj") for name in COUNTS),
            (pl.col("underlying_close") * factor - pl.col("strike_shift")).alias("underlying_close_adj"),
            (pl.col("gamma").cast(pl.Float64) * ratio).cast(pl.Float32).alias("gamma_adj"),
            (pl.col("vega").cast(pl.Float64) / ratio).cast(pl.Float32).alias("vega_adj"),
            (pl.col("theta").cast(pl.Float64) / ratio).cast(pl.Float32).alias("theta_adj"),
        )
        .with_columns(
            # A contract whose strike a dividend left alone delivers that cash beside the shares.
            ((pl.col("underlying_close_adj") + pl.col("_kept")) / pl.col("strike_adj") - 1).alias("moneyness_pct_adj"),
            _contract_key(),
        )
        .select(pl.exclude("^_.*$"))
    )


def _histories(reached: dict[tuple[str, date], list[Action]]) -> pl.DataFrame:
    """One row per underlying and trade date: what all events that reach it amount to."""
    made = []
    for (underlying, trade_date), events in reached.items():
        ratio, shift, today = 1, 0.0, underlying
        for action in events:
            ratio *= action.ratio
            shift = shift / action.ratio + action.cash / MICRO
            today = action.new_symbol or today
        reused = next((action.effective_date for action in events if action.event == "symbol_reused"), None)
        made.append(
            {
                "underlying": underlying,
                "trade_date": trade_date,
                "price_factor": 1 / ratio,
                "strike_shift": shift,
                "adjustment_events": [str(action) for action in events],
                "_ratio": ratio,
                "_today": today,
                "_company": today if reused is None else f"{today}@{reused}",
                # A new series begins with each of these dates: the next one after the row ends its own.
                "_since": min((a.effective_date for a in events if a.event in ANOTHER_SERIES), default=None),
                "_first": min((a.effective_date for a in events), default=None),
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
            "_today": pl.String,
            "_company": pl.String,
            "_since": pl.Date,
            "_first": pl.Date,
        },
    )


def _restated_strikes(listed: pl.DataFrame, reached: dict[tuple[str, date], list[Action]]) -> pl.DataFrame:
    """``strike_adj`` of each of the `listed` strikes, and how its contract is told from others."""
    made = []
    for underlying, trade_date, strike in listed.iter_rows():
        strike_adj, kept, told, apart = _restated_strike(strike, reached[underlying, trade_date])
        made.append((underlying, trade_date, strike, strike_adj / MICRO, kept, told, apart))
    names = ("underlying", "trade_date", "strike", "strike_adj", "_kept", "_told", "_apart")
    types = (pl.String, pl.Date, pl.Float64, pl.Float64, pl.Float64, pl.Int64, pl.Date)
    return pl.DataFrame(made, schema=dict(zip(names, types, strict=True)), orient="row")


def _restated_strike(listed: float, events: list[Action]) -> tuple[int, float, int, date | None]:
    """A strike, divided and lowered event by event, each time rounded to the cent, half a cent up.

    Returns it in micro-dollars; the dividends that could not lower it, in later dollars; the strike by which the
    contract is told; and the date of the event that it is kept apart from, if any: the first that would have left
    nothing of it.
    """
    strike, kept, told, apart = round(listed * MICRO), 0.0, None, None
    for event in events:
        # floor(strike / ratio - cash + half a cent), with no division before the last step.
        doubled = 2 * (strike - event.cash * event.ratio) + CENT * event.ratio
        lowered = (doubled // (2 * CENT * event.ratio)) * CENT if event.ratio > 1 or event.cash else strike
        kept /= event.ratio
        if lowered > 0:
            strike = lowered
            continue
        if apart is None:
            told, apart = strike, event.effective_date
        kept += event.cash / MICRO
        strike = strike if event.cash else CENT
    return strike, kept, strike if told is None else told, apart


def _contract_key() -> pl.Expr:
    # A class that begins with the symbol follows it (FB1, META1).
    rest = pl.col("trading_class").str.strip_prefix(pl.col("underlying"))
    follows = pl.col("trading_class").str.starts_with(pl.col("underlying"))
    root = pl.when(follows).then(pl.col("_today") + rest).otherwise(pl.col("trading_class"))
    # Strikes of one chain that rounding has made equal are told by what was listed.
    chain = ("trade_date", "underlying", "trading_class", "multiplier", "expiry", "right", "_told", "_apart")
    merged = pl.col("strike").n_unique().over(chain) > 1
    listed = (pl.col("strike") * MICRO).round().cast(pl.Int64)
    strike = pl.when(merged).then(_cents(listed)).otherwise(_cents(pl.col("_told")))
    return pl.concat_str(
        "_company",
        root + _dated(pl.col("_since")),
        pl.col("multiplier").cast(pl.Int64).cast(pl.String),
        pl.col("expiry").dt.to_string("%Y-%m-%d"),
        "right",
        strike + _dated(pl.when(merged).then("_first").otherwise("_apart")),
        separator="|",
    ).alias("adjusted_contract_key")


def _cents(micro: pl.Expr) -> pl.Expr:
    cents = (micro / CENT).round().cast(pl.Int64)
    return (cents // 100).cast(pl.String) + "." + (cents % 100).cast(pl.String).str.zfill(2)


def _dated(day: pl.Expr) -> pl.Expr:
    return pl.when(day.is_not_null()).then("@" + day.dt.to_string("%Y-%m-%d")).otherwise(pl.lit(""))
