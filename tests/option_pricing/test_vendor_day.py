"""Forwards, volatilities and deltas against an exchange's own, of 26 April 2021.

VIX options are European and have a forward for each expiry; those of A (Agilent) are American. What the file says of
one contract and stamp are its quote, an implied underlying, the volatility of the mid, and greeks.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from scipy.special import ndtr

from option_pricing.forwards import Forwards, Smiles, imply_forwards
from option_pricing.quotes import Quotes, pair_quotes
from option_pricing.surface import Volatilities
from tests.option_pricing.european_quotes import volatilities
from tests.reference_data import reference_data

# Treasury bills of that day: 0.01 to 0.06 %.
RATE = 0.0003
FIRST = datetime(2021, 4, 26, 10)  # noqa: DTZ001 - the file's stamps are New York clocks without a zone


@dataclass(frozen=True)
class VendorDay:
    """The contracts, a row each, by smile; and what is implied of them."""

    frame: pl.DataFrame
    smiles: Smiles
    quotes: Quotes
    forwards: Forwards
    vols: Volatilities

    def column(self, name: str) -> np.ndarray:
        return self.frame[name].to_numpy()

    @property
    def quoted_out_of_the_money(self) -> np.ndarray:
        return (self.vols.call == (self.vols.log_moneyness >= 0)) & (self.quotes.bid > 0)

    @property
    def current(self) -> np.ndarray:
        """The file's implied underlying of each smile: the commonest of the strikes above it."""
        above = self.frame.filter(pl.col("strike") > pl.col("implied_underlying_price"))
        commonest = above.group_by("smile").agg(pl.col("implied_underlying_price").mode().sort().first()).sort("smile")
        return commonest["implied_underlying_price"].to_numpy()


def vendor_day(symbol: str, expires: str, american: bool) -> VendorDay:
    frame = pl.read_parquet(reference_data("vendor", f"{symbol}_2021-04-26.parquet"))
    until = pl.col("expiration").cast(pl.Datetime("us")).dt.offset_by(expires) - pl.col("quote_datetime")
    smile = pl.struct("quote_datetime", "root", "expiration").rank("dense").cast(pl.Int64) - 1
    frame = frame.with_columns(years=until.dt.total_seconds() / (365 * 86400), smile=smile).sort("smile", "strike")
    firsts = frame.group_by("smile").first().sort("smile")
    count = firsts.height
    spot = firsts["active_underlying_price"].to_numpy() if american else np.full(count, np.nan)
    smiles = Smiles(firsts["years"].to_numpy(), np.full(count, RATE), spot, np.full(count, american))
    bid, ask = (frame[name].to_numpy() for name in ("bid", "ask"))
    call = (frame["option_type"] == "C").to_numpy()
    quotes = Quotes(frame["smile"].to_numpy(), frame["strike"].to_numpy(), call, bid, ask, np.zeros(frame.height))
    forwards = imply_forwards(smiles, pair_quotes(quotes))
    return VendorDay(frame, smiles, quotes, forwards, volatilities(smiles, quotes, forwards))


@pytest.fixture(scope="module")
def vix() -> VendorDay:
    return vendor_day("VIX", "9h30m", american=False)


@pytest.fixture(scope="module")
def agilent() -> VendorDay:
    return vendor_day("A", "16h", american=True)


def off_by(day: VendorDay) -> np.ndarray:
    """The part by which the present value of the forward is off the file's implied underlying."""
    present = day.forwards.forward * np.exp(-RATE * day.smiles.years)
    return np.abs(present / day.current - 1)


def test_the_forward_of_a_stock_is_the_vendors_to_a_thousandth(agilent: VendorDay) -> None:
    assert off_by(agilent).max() < 1e-3
    assert np.median(off_by(agilent)) < 4e-4


def test_the_forward_of_the_vix_is_the_vendors_within_the_spread_of_its_one_pair(vix: VendorDay) -> None:
    """The vendor's is the mid of one pair at the money, on a lattice of half a tick: 12 basis points of 20 dollars."""
    pairs = pair_quotes(vix.quotes)
    half = np.full(vix.smiles.years.size, np.inf)
    np.minimum.at(half, pairs.smile, 0.5 * (pairs.call_ask - pairs.call_bid + pairs.put_ask - pairs.put_bid))
    assert (off_by(vix) * vix.current < 0.8 * half).all()
    assert np.median(off_by(vix)) < 8e-4
    assert (off_by(vix) < 1e-3).mean() > 0.6
    assert off_by(vix).max() < 4e-3


def test_below_the_money_the_vendor_repeats_the_underlying_of_its_first_stamp(
    vix: VendorDay, agilent: VendorDay
) -> None:
    for day in (vix, agilent):
        first = {
            (row["root"], row["expiration"], row["strike"], row["option_type"]): row["implied_underlying_price"]
            for row in day.frame.filter(pl.col("quote_datetime") == FIRST).iter_rows(named=True)
        }
        below = day.frame.filter(pl.col("strike") < 0.98 * pl.col("implied_underlying_price"))
        same = [
            row["implied_underlying_price"] == first[row["root"], row["expiration"], row["strike"], row["option_type"]]
            for row in below.iter_rows(named=True)
        ]
        assert np.mean(same) > 0.99


def agreement(day: VendorDay, chosen: np.ndarray) -> tuple[float, float, float]:
    """Share of volatilities within a quarter of the bid-ask interval, and inside it; share of deltas within 0.01."""
    theirs, vols = day.column("implied_volatility"), day.vols
    off = np.abs(vols.iv_mid - theirs) / (vols.iv_ask - vols.iv_bid)
    inside = (theirs >= vols.iv_bid - 1e-4) & (theirs <= vols.iv_ask + 1e-4)
    deviation = vols.iv_mid * np.sqrt(day.smiles.years[vols.smile])
    delta = ndtr(-vols.log_moneyness / deviation + 0.5 * deviation) - ~vols.call
    near = np.abs(delta - day.column("delta")) <= 0.01
    return float((off <= 0.25)[chosen].mean()), float(inside[chosen].mean()), float(near[chosen].mean())


def test_volatilities_and_deltas_of_the_vix_are_the_vendors(vix: VendorDay) -> None:
    quarter, inside, delta = agreement(vix, vix.quoted_out_of_the_money)
    assert quarter > 0.85
    assert inside > 0.97
    assert delta > 0.99


def test_volatilities_and_deltas_of_a_stock_are_the_vendors_while_its_underlying_is_of_the_stamp(
    agilent: VendorDay,
) -> None:
    first = agilent.frame["quote_datetime"].to_numpy() == np.datetime64(FIRST)
    quarter, inside, delta = agreement(agilent, agilent.quoted_out_of_the_money & first)
    assert quarter > 0.95
    assert inside > 0.98
    assert delta > 0.99


def test_volatilities_of_a_stock_later_in_the_day_differ_as_far_as_the_vendors_underlying_is_old(
    agilent: VendorDay,
) -> None:
    quarter, inside, delta = agreement(agilent, agilent.quoted_out_of_the_money)
    assert quarter > 0.7
    assert inside > 0.9
    assert delta > 0.97
