"""The strip against variances in closed form."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from option_pricing import black_scholes
from option_pricing.quotes import Quotes
from option_pricing.svi import Svi
from option_pricing.variance_strip import Strips, variance_strips

YEARS, FORWARD, DISCOUNT = np.array([0.25]), np.array([100.3]), np.array([0.99])
STRIKES = np.arange(30.0, 300.0, 0.5)
SKEWED = Svi(*(np.array([each]) for each in (0.004, 0.05, -0.5, 0.02, 0.1)))


def chain(vol: np.ndarray | float, strikes: np.ndarray = STRIKES) -> Quotes:
    both, call = np.tile(strikes, 2), np.repeat([True, False], strikes.size)
    vols = np.tile(np.broadcast_to(vol, strikes.shape), 2)
    price = black_scholes.price(FORWARD[0], both, YEARS[0], vols, call) * DISCOUNT[0]
    return Quotes(np.zeros(both.size, dtype=int), both, call, price, price, np.zeros(both.size))


def strip(quotes: Quotes) -> Strips:
    return variance_strips(YEARS, FORWARD, DISCOUNT, quotes)


def test_a_flat_smile_replicates_its_volatility() -> None:
    assert np.sqrt(strip(chain(0.2)).variance) == pytest.approx(0.2, abs=1e-4)


def test_a_skewed_smile_replicates_the_mean_over_its_normal_quantiles() -> None:
    """Variance swap = integral of phi(z) w(k(z)) dz with z = d2(k) (Gatheral, The Volatility Surface, chapter 11)."""
    k = np.linspace(-4.0, 4.0, 4001)
    w = SKEWED.total_variance(k[None, :])[0]
    z = -k / np.sqrt(w) - np.sqrt(w) / 2
    expected = quad(lambda x: norm.pdf(x) * np.interp(x, z[::-1], w[::-1]), -8, 8, limit=400)[0] / YEARS[0]
    vol = np.sqrt(SKEWED.total_variance(np.log(STRIKES / FORWARD[0])[None, :])[0] / YEARS[0])
    assert strip(chain(vol)).variance == pytest.approx(expected, rel=2e-3)


def test_the_strip_ends_at_two_strikes_in_a_row_without_a_bid() -> None:
    quotes = chain(0.2)
    far = (quotes.strike < 80) & ~quotes.call

    def without(*strikes: float) -> Strips:
        return strip(replace(quotes, bid=np.where(far & np.isin(quotes.strike, strikes), 0.0, quotes.bid)))

    whole = strip(quotes)
    assert without(70.0).strikes == whole.strikes - 1
    ended = without(70.0, 69.5)
    assert ended.covered < whole.covered
    assert ended.strikes == whole.strikes - np.sum(STRIKES <= 70.0)
    assert ended.variance < whole.variance


def test_smiles_are_kept_apart() -> None:
    one, other = chain(0.2), chain(0.4, STRIKES[::2])
    names = ("smile", "strike", "call", "bid", "ask", "asof")
    other = replace(other, smile=other.smile + 2)
    joined = Quotes(*(np.concatenate([getattr(other, name), getattr(one, name)]) for name in names))
    three = variance_strips(np.full(3, 0.25), np.full(3, FORWARD[0]), np.full(3, DISCOUNT[0]), joined)
    assert three.variance[0] == pytest.approx(strip(chain(0.2)).variance[0])
    assert np.isnan(three.variance[1])
    assert np.sqrt(three.variance[2]) == pytest.approx(0.4, abs=1e-3)
    assert three.strikes[1] == 0


@pytest.mark.parametrize("strikes", [np.array([100.0]), np.array([105.0, 110.0, 115.0]), np.array([80.0, 85.0, 90.0])])
def test_strikes_on_one_side_only_replicate_nothing(strikes: np.ndarray) -> None:
    assert np.isnan(strip(chain(0.2, strikes)).variance).all()


def test_a_forward_that_is_not_known_has_no_strip() -> None:
    found = variance_strips(YEARS, np.array([np.nan]), DISCOUNT, chain(0.2))
    assert np.isnan(found.variance).all()
    assert found.strikes.tolist() == [0]
