"""Chains with faults: each kind planted once, and all kinds at random."""

from datetime import date
from typing import Any

import numpy as np
import polars as pl

from ingest.calendar.sessions import Session, session_on
from tests.models import chains

PLANTED, NOISY = date(2014, 6, 11), date(2014, 6, 12)
# No rate and no dividends: nothing is worth less than at once exercised.
FLAT = chains.black_scholes(rate=0.0, dividend_yield=0.0)
# Days of maturity.
SHORT, LONG = 30, 180


def session(day: date) -> Session:
    found = session_on(day)
    assert found is not None
    return found


def rising(start: float = 100.0) -> list[float]:
    """A spot for each slot, 0.3 dollars more in each."""
    return [start + 0.3 * slot for slot in range(14)]


class Plant:
    """The chain PLANT, some quotes of which are changed: `at` names one by maturity, strike and right."""

    def __init__(self) -> None:
        self.quotes = chains.made(session(PLANTED), "PLANT", rising(), FLAT, first_conid=1)
        close = self.quotes.filter(pl.col("slot_30m") == 13).with_columns(
            view=pl.lit("close"),
            market_data_type=pl.lit(2),
            asof_ts=pl.col("asof_ts") + pl.duration(hours=1),
        )
        self.quotes = pl.concat([self.quotes, close])

    def at(self, days: int, strike: float, right: str) -> int:
        expiry = self.quotes["expiry"].min() if days == SHORT else self.quotes["expiry"].max()
        found = self.quotes.filter(pl.col("expiry") == expiry, pl.col("strike") == strike, pl.col("right") == right)
        return int(found["conid"][0])

    def quote(self, conid: int, slot: int, view: str = "intraday") -> dict[str, Any]:
        return self.quotes.row(by_predicate=self._is(conid, slot, view), named=True)

    def change(self, conid: int, slot: int, view: str = "intraday", **values: Any) -> None:
        this = self._is(conid, slot, view)
        self.quotes = self.quotes.with_columns(
            pl.when(this).then(pl.lit(value)).otherwise(pl.col(name)).alias(name) for name, value in values.items()
        )

    @staticmethod
    def _is(conid: int, slot: int, view: str) -> pl.Expr:
        return (pl.col("conid") == conid) & (pl.col("slot_30m") == slot) & (pl.col("view") == view)


def planted() -> tuple[Plant, dict[str, set[tuple[int, int, str]]]]:
    """The chain with one fault of each kind, and the keys (conid, slot, view) that each rule should find."""
    plant = Plant()
    # Unchanged since the slot before, though its underlying rose by 0.3 dollars and its delta is nearly -1.
    stale = plant.at(SHORT, 120.0, "P")
    before = plant.quote(stale, 4)
    plant.change(stale, 5, bid=before["bid"], ask=before["ask"])
    # Offered for ten cents less than exercising it brings in.
    cheap = plant.at(SHORT, 80.0, "C")
    spot = plant.quote(cheap, 7)["underlying_price"]
    plant.change(cheap, 7, bid=round(spot - 80.70, 2), ask=round(spot - 80.10, 2))
    # A call with the higher strike is bid for two cents above the ask of the lower one: in a slot, and after the close.
    lower, higher = plant.at(SHORT, 118.0, "C"), plant.at(SHORT, 120.0, "C")
    for slot, view in ((9, "intraday"), (13, "close")):
        ask = plant.quote(lower, slot, view)["ask"]
        plant.change(higher, slot, view, bid=round(ask + 0.02, 2), ask=round(ask + 0.06, 2))
    # The middle of three calls is bid for five cents above what its neighbours cost, out of the money.
    wings = [plant.at(LONG, strike, "C") for strike in (114.0, 118.0)]
    middle = plant.at(LONG, 116.0, "C")
    both = sum(plant.quote(conid, 11)["ask"] for conid in wings) / 2
    plant.change(middle, 11, bid=round(both + 0.05, 2), ask=round(both + 0.20, 2))
    # A put at the money is quoted 40 cents too low, too little for its neighbours to tell.
    call, put = plant.at(LONG, 100.0, "C"), plant.at(LONG, 100.0, "P")
    fair = plant.quote(put, 2)
    plant.change(put, 2, bid=round(fair["bid"] - 0.4, 2), ask=round(fair["ask"] - 0.4, 2))
    return plant, {
        "stale_quote": {(stale, 5, "intraday")},
        "below_intrinsic": {(cheap, 7, "intraday")},
        "strike_monotonicity": {
            (conid, slot, view) for conid in (lower, higher) for slot, view in ((9, "intraday"), (13, "close"))
        },
        "butterfly_violation": {(conid, 11, "intraday") for conid in (*wings, middle)},
        "parity_violation": {(call, 2, "intraday"), (put, 2, "intraday")},
    }


def noise(first_conid: int, underlying: str, seed: int) -> pl.DataFrame:
    """A chain in which everything goes wrong that the rules look at, and all that keeps them from looking."""
    quotes = chains.made(session(NOISY), underlying, rising(), FLAT, first_conid=first_conid, strikes=range(84, 117))
    generator = np.random.default_rng(seed)
    rows = quotes.height

    def share(part: float) -> pl.Series:
        return pl.Series(generator.random(rows) < part)

    factor = pl.Series(np.where(generator.random(rows) < 0.2, generator.uniform(0.9, 1.1, rows), 1.0))
    # Quotes of the slot before: nobody has changed them.
    unchanged = share(0.3)
    quotes = quotes.sort("conid", "slot_30m").with_columns(
        pl.when(unchanged).then(pl.col(name).shift(1).over("conid")).otherwise(pl.col(name)).alias(name)
        for name in ("bid", "ask")
    )
    return quotes.with_columns(
        bid=pl.when(share(0.03)).then(None).otherwise((pl.col("bid") * factor).round(2)),
        ask=(pl.col("ask") * factor).round(2),
        bid_size=pl.when(share(0.1)).then(7).otherwise(pl.col("bid_size")),
        underlying_price=pl.when(share(0.05)).then(None).otherwise(pl.col("underlying_price")),
        delta=pl.when(share(0.05)).then(None).otherwise(pl.col("delta")),
        asof_ts=pl.col("asof_ts") + pl.Series(generator.uniform(0, 90e6, rows)).cast(pl.Duration("us")),
        # An adjusted series of the same underlying has strikes and quotes of its own.
        trading_class=pl.when(pl.col("strike") > 112).then(pl.lit(underlying + "1")).otherwise(pl.lit(underlying)),
    ).filter(~share(0.05))


def underlyings(symbol: str, day: date) -> pl.DataFrame:
    """raw/underlying_quotes: a middle that is 5 cents from the spots of `rising`, thirty seconds into each slot."""
    return pl.DataFrame(
        [
            {
                "trade_date": day,
                "view": "intraday",
                "slot_30m": slot.slot_30m,
                "sample_time": slot.sample_time,
                "underlying": symbol,
                "conid": 1,
                "bid": spot - 0.05,
                "ask": spot + 0.15,
                "last": 1.0,
                "asof_ts": slot.sample_time,
                "ingest_id": "0190",
                "snapshot_error": False,
                "source": "simulated",
            }
            for slot, spot in zip(session(day).slots, rising(), strict=True)
        ]
    ).with_columns(pl.col("asof_ts") + pl.duration(seconds=30))
