"""Smiles of a real day: Apple's of 9 June 2014, the first after its split, hour by hour."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
import pytest

from option_pricing.forwards import Forwards, Smiles, imply_forwards
from option_pricing.quotes import Quotes, pair_quotes
from option_pricing.surface import Surfaces, Volatilities, fit_surfaces
from tests.option_pricing.european_quotes import volatilities
from tests.reference_data import reference_data

# Treasury bills of that day: 0.03 to 0.11 %.
RATE = 0.0005


@dataclass(frozen=True)
class Replayed:
    """A row of `smiles`, `forwards`, `surfaces` and `expiry` is one expiry at one hour."""

    expiry: list[date]
    smiles: Smiles
    quotes: Quotes
    forwards: Forwards
    vols: Volatilities
    surfaces: Surfaces


@pytest.fixture(scope="module")
def apple() -> Replayed:
    frame = pl.read_parquet(reference_data("replay", "AAPL_2014-06-09.parquet"))
    # The expiries are Saturdays: trading ends on the Friday, at 16:00 New York.
    saturday = pl.col("expiry").dt.weekday() == 6
    last = pl.when(saturday).then(pl.col("expiry").dt.offset_by("-1d")).otherwise(pl.col("expiry"))
    close = last.cast(pl.Datetime("us", "UTC")).dt.offset_by("20h")
    frame = frame.with_columns(
        years=(close - pl.col("ts")).dt.total_seconds() / (365 * 86400),
        smile=pl.struct("ts", "expiry").rank("dense").cast(pl.Int64) - 1,
        surface=pl.col("ts").rank("dense").cast(pl.Int64) - 1,
    ).sort("smile", "strike", "right")
    firsts = frame.group_by("smile").first().sort("smile")
    smiles = Smiles(
        firsts["years"].to_numpy(),
        np.full(firsts.height, RATE),
        firsts["underlying_price"].to_numpy(),
        np.ones(firsts.height, dtype=bool),
    )
    quotes = Quotes(
        frame["smile"].to_numpy(),
        frame["strike"].to_numpy(),
        (frame["right"] == "C").to_numpy(),
        frame["bid"].fill_null(0.0).to_numpy(),
        frame["ask"].fill_null(np.nan).to_numpy(),
        np.zeros(frame.height),
    )
    forwards = imply_forwards(smiles, pair_quotes(quotes))
    vols = volatilities(smiles, quotes, forwards)
    surfaces = fit_surfaces(smiles.years, firsts["surface"].to_numpy(), vols)
    return Replayed(firsts["expiry"].to_list(), smiles, quotes, forwards, vols, surfaces)


def test_the_smile_has_no_jump_at_the_money(apple: Replayed) -> None:
    """At the strike next to the forward call and put have one volatility, to within the half of their interval."""
    off, half = [], []
    for number in range(len(apple.expiry)):
        rows = np.flatnonzero(apple.quotes.smile == number)
        nearest = rows[np.argmin(np.abs(apple.vols.log_moneyness[rows]))]
        pair = rows[apple.quotes.strike[rows] == apple.quotes.strike[nearest]]
        if pair.size == 2:
            off.append(abs(apple.vols.iv_mid[pair[0]] - apple.vols.iv_mid[pair[1]]))
            half.append(0.5 * np.max(apple.vols.iv_ask[pair] - apple.vols.iv_bid[pair]))
    jump = np.array(off) / np.array(half)
    assert len(off) > 70
    assert np.median(jump) < 0.5
    assert np.quantile(jump, 0.9) < 1.2


def test_the_forward_knows_when_the_dividend_comes(apple: Replayed) -> None:
    """Apple paid 0.47 dollars to holders before 7 August 2014: expiries before that go without nothing."""
    forwards, expiry = apple.forwards, np.array(apple.expiry)
    sure = forwards.forward_error / forwards.forward < 4e-4
    before, after = expiry < date(2014, 8, 7), (expiry > date(2014, 8, 7)) & (expiry < date(2014, 11, 6))
    assert np.abs(np.median(forwards.dividends[sure & before])) < 0.06
    # What is missing to 0.47 is funding above the Treasury's rate, which carry holds as well.
    assert 0.2 < np.median(forwards.dividends[sure & after]) < 0.5


def test_the_fit_goes_through_the_quotes_without_arbitrage(apple: Replayed) -> None:
    surfaces = apple.surfaces
    assert np.median(surfaces.inside_share) > 0.9
    assert np.median(surfaces.rms) < 1.0
    assert surfaces.rms.max() < 4.0
    assert (surfaces.butterfly >= 0).all()
    assert surfaces.arbitrage_free.mean() > 0.9


def test_hours_agree_on_the_volatility_of_an_expiry(apple: Replayed) -> None:
    level = pl.DataFrame({"expiry": apple.expiry, "atm": apple.surfaces.atm_iv, "sure": apple.surfaces.confidence})
    spread = level.filter(pl.col("sure") > 0.8).group_by("expiry").agg(pl.col("atm").std(), pl.len())
    assert spread.filter(pl.col("len") >= 4)["atm"].max() < 0.02
