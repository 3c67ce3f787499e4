"""Whole chains as raw rows: recorded days at their slots, and days that a closed form prices."""

import math
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ingest.calendar.sessions import Session
from lake.store import Lake
from lake.tables import BY_NAME
from option_pricing import black_scholes as pricing

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
# Fair prices of options: spot, strike, years to expiry, whether it is a call; arrays of one length.
Price = Callable[[Floats, Floats, Floats, Bools], Floats]

# A recorded quote arrives so long after its slot's instant; the recording opens a minute after the market.
ARRIVAL = timedelta(seconds=20)
FIRST_BAR = timedelta(minutes=1)


def write(lake: Lake, table: str, frame: pl.DataFrame, day: date) -> None:
    """Make `frame` the rows of a date of a raw table; columns that it lacks are null."""
    schema = BY_NAME[table].schema
    missing = [pl.lit(None).alias(name) for name in schema.names if name not in frame.columns]
    rows = frame.with_columns(missing).select(schema.names).to_arrow().cast(schema)
    lake.replace_dates(table, lambda: pa.RecordBatchReader.from_batches(schema, rows.to_batches()), [day])


def sessions(session: Session) -> pl.DataFrame:
    """The rows of raw/sessions."""
    return pl.DataFrame(
        [
            {
                "trade_date": session.trade_date,
                "slot_30m": slot.slot_30m,
                "sample_time": slot.sample_time,
                "is_close": slot.is_close,
                "is_pre_close": slot.is_pre_close,
                "window_end": slot.window_end,
            }
            for slot in session.slots
        ]
    )


def frozen(quotes: pl.DataFrame, session: Session) -> pl.DataFrame:
    """The rows of raw/contracts: every contract of `quotes`, frozen at the open."""
    terms = ["trade_date", "underlying", "conid", "symbol", "trading_class", "expiry", "last_trade_date", "right"]
    return (
        quotes.select(*terms, "strike", "multiplier", "exchange", "source", "ingest_id")
        .unique("conid")
        .with_columns(frozen_at=pl.lit(session.open), first_seen_slot=pl.lit(0))
    )


def recorded(file: Path, session: Session, first_conid: int = 1) -> pl.DataFrame:
    """raw/option_quotes of a recorded day: at each slot the quote that stands, with the greeks of its middle."""
    slots = pl.DataFrame(
        [
            {"slot_30m": slot.slot_30m, "sample_time": slot.sample_time, "at": slot.sample_time + wait}
            for slot, wait in zip(session.slots, [FIRST_BAR, *[timedelta()] * len(session.slots)], strict=False)
        ]
    )
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    connection.register("slots", slots.to_arrow())
    standing = connection.execute(
        f"""
        with q as (select * from read_parquet('{file}')),
        prices as (
            select slots.slot_30m, arg_max(q.underlying_price, q.ts) as underlying_price
            from slots inner join q on q.ts <= slots.at group by slots.slot_30m
        ),
        latest as (
            select slots.slot_30m, q.underlying, q.expiry, q.strike, q."right", q.multiplier, max(q.ts) as ts
            from slots inner join q on q.ts <= slots.at group by all
        )
        select
            slots.*, q.underlying, q.expiry, q.strike, q."right", q.multiplier, q.bid, q.ask, q.bid_size, q.ask_size,
            q.last, q.volume, q.open_interest, prices.underlying_price,
            {first_conid - 1} + dense_rank() over (order by q.expiry, q.strike, q."right", q.multiplier) as conid
        from latest
        inner join q using (ts, underlying, expiry, strike, "right", multiplier)
        inner join slots using (slot_30m)
        inner join prices using (slot_30m)
        order by slot_30m, conid
        """
    ).pl()
    connection.close()
    minis = pl.col("multiplier") != 100
    return _as_captured(
        standing.with_columns(
            trading_class=pl.when(minis).then(pl.col("underlying") + "7").otherwise(pl.col("underlying"))
        ),
        session,
    )


def black_scholes(vol: float = 0.3, rate: float = 0.04, dividend_yield: float = 0.01) -> Price:
    """European options. A deep put can be worth less than its intrinsic value."""

    def price(spot: Floats, strike: Floats, years: Floats, call: Bools) -> Floats:
        return np.asarray(pricing.price(spot, strike, years, vol, call, rate, dividend_yield))

    return price


def binomial(vol: float, rate: float, dividend_yield: float, steps: int = 150) -> Price:
    """American options, by the tree of Cox, Ross and Rubinstein (1979)."""

    def price(spot: Floats, strike: Floats, years: Floats, call: Bools) -> Floats:
        found = np.empty(len(strike))
        for s, t, c in sorted(set(zip(spot.tolist(), years.tolist(), call.tolist(), strict=True))):
            same = (spot == s) & (years == t) & (call == c)
            found[same] = tree(s, strike[same], t, 1.0 if c else -1.0)
        return found

    def tree(spot: float, strike: Floats, years: float, sign: float) -> Floats:
        step = years / steps
        up = math.exp(vol * math.sqrt(step))
        rises = (math.exp((rate - dividend_yield) * step) - 1 / up) / (up - 1 / up)
        discount = math.exp(-rate * step)
        strikes = strike[:, None]
        value = np.maximum(sign * (spot * up ** (steps - 2.0 * np.arange(steps + 1)) - strikes), 0)
        for level in range(steps - 1, -1, -1):
            exercised = sign * (spot * up ** (level - 2.0 * np.arange(level + 1)) - strikes)
            value = np.maximum(discount * (rises * value[:, :-1] + (1 - rises) * value[:, 1:]), exercised)
        return np.asarray(value[:, 0])

    return price


def made(
    session: Session,
    underlying: str,
    spots: Iterable[float],
    price: Price,
    *,
    first_conid: int,
    strikes: Iterable[float] = tuple(range(80, 122, 2)),
    expiries: Iterable[int] = (30, 180),
    apart_s: float = 0.0,
    drift: float = 0.0,
) -> pl.DataFrame:
    """raw/option_quotes of a market without faults: one spot a slot, expiries in days, live.

    Quotes are rounded outward to cents, two cents and one per cent of the price to either side of `price`. Contracts
    arrive `apart_s` seconds after one another, while the underlying moves by `drift` dollars a second.
    """
    slots = pl.DataFrame(
        [
            {"slot_30m": slot.slot_30m, "sample_time": slot.sample_time, "at": slot.sample_time, "spot": spot}
            for slot, spot in zip(session.slots, spots, strict=False)
        ]
    )
    contracts = (
        pl.DataFrame({"expiry": [session.trade_date + timedelta(days=days) for days in expiries]})
        .join(pl.DataFrame({"strike": [float(strike) for strike in strikes]}), how="cross")
        .join(pl.DataFrame({"right": ["C", "P"]}), how="cross")
        .with_row_index("conid", offset=first_conid)
        .with_columns(pl.col("conid").cast(pl.Int64), underlying=pl.lit(underlying), multiplier=pl.lit(100.0))
    )
    late = (pl.col("conid") - first_conid) * apart_s
    chain = slots.join(contracts, how="cross").with_columns(
        at=pl.col("at") + (late * 1_000_000).cast(pl.Duration("us")), spot=pl.col("spot") + late * drift
    )
    years = (chain["expiry"] - session.trade_date).dt.total_days().to_numpy() / pricing.DAYS_PER_YEAR
    fair = price(chain["spot"].to_numpy(), chain["strike"].to_numpy(), years, chain["right"].to_numpy() == "C")
    half = 0.02 + 0.01 * fair
    bid, ask = np.floor((fair - half) * 100) / 100, np.ceil((fair + half) * 100) / 100
    return _as_captured(
        chain.with_columns(
            bid=pl.Series(np.where(bid > 0, bid, np.nan)).fill_nan(None),
            ask=pl.Series(ask),
            last=pl.Series(fair),
            bid_size=pl.lit(10),
            ask_size=pl.lit(10),
            volume=pl.lit(100),
            open_interest=pl.lit(1000),
            underlying_price=pl.col("spot"),
            trading_class=pl.lit(underlying),
        ),
        session,
    )


def _as_captured(quotes: pl.DataFrame, session: Session) -> pl.DataFrame:
    """Add what capture knows beside the quote: model values of the middle, arrival, identity."""
    years = np.maximum((quotes["expiry"] - session.trade_date).dt.total_days().to_numpy(), 0.5) / pricing.DAYS_PER_YEAR
    spot, strike = quotes["underlying_price"].to_numpy(), quotes["strike"].to_numpy()
    call = quotes["right"].to_numpy() == "C"
    middle = quotes.select((pl.col("bid").fill_null(0) + pl.col("ask")) / 2).to_series().fill_null(math.nan).to_numpy()
    vol = pricing.implied_vol(middle, spot, strike, years, call)
    model = pricing.value(spot, strike, years, vol, call)
    values = {"iv": vol, **{name: getattr(model, name) for name in ("delta", "gamma", "theta", "vega")}}
    return quotes.with_columns(
        *(pl.Series(name, array).cast(pl.Float32).fill_nan(None) for name, array in values.items()),
        trade_date=pl.lit(session.trade_date),
        view=pl.lit("intraday"),
        symbol=pl.col("trading_class").str.pad_end(6)
        + pl.col("expiry").dt.strftime("%y%m%d")
        + pl.col("right")
        + (pl.col("strike") * 1000).round().cast(pl.Int64).cast(pl.String).str.zfill(8),
        last_trade_date=pl.col("expiry"),
        exchange=pl.lit("SMART"),
        bid_seen=pl.lit(True),
        market_data_type=pl.lit(1),
        requested_at=pl.col("at") + ARRIVAL,
        asof_ts=pl.col("at") + ARRIVAL,
        ingest_id=pl.lit("0190"),
        ingest_run_type=pl.lit("scheduled"),
        batch=pl.lit("1"),
        attempt=pl.lit(1),
        data_quality_flag=pl.Series([[]] * quotes.height, dtype=pl.List(pl.String)),
        snapshot_error=pl.lit(False),
        source=pl.lit("simulated"),
    )
