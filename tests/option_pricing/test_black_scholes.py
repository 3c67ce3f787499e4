"""The option model against closed forms, finite differences and scipy's normal distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from option_pricing import black_scholes as pricing

SPOT, RATE, YIELD = 100.0, 0.03, 0.015
STRIKES = np.array([40.0, 80.0, 95.0, 100.0, 105.0, 130.0, 220.0])
YEARS = np.array([[0.02], [0.25], [1.0], [2.5]])
CALLS = np.array([[[True]], [[False]]])


def textbook_price(s: float, k: float, t: float, vol: float, call: bool) -> float:
    d1 = (np.log(s / k) + (RATE - YIELD + vol**2 / 2) * t) / (vol * np.sqrt(t))
    d2 = d1 - vol * np.sqrt(t)
    if call:
        return float(s * np.exp(-YIELD * t) * norm.cdf(d1) - k * np.exp(-RATE * t) * norm.cdf(d2))
    return float(k * np.exp(-RATE * t) * norm.cdf(-d2) - s * np.exp(-YIELD * t) * norm.cdf(-d1))


def test_published_example() -> None:
    # Hull, Options, Futures and Other Derivatives, chapter on Black-Scholes-Merton: S 42, K 40, r 10 %, vol 20 %, T 0.5
    assert pricing.price(42.0, 40.0, 0.5, 0.2, True, 0.1) == pytest.approx(4.76, abs=0.005)
    assert pricing.price(42.0, 40.0, 0.5, 0.2, False, 0.1) == pytest.approx(0.81, abs=0.005)


@pytest.mark.parametrize("call", [True, False])
def test_prices_equal_the_textbook_formula(call: bool) -> None:
    ours = pricing.price(SPOT, STRIKES, YEARS, 0.3, call, RATE, YIELD)
    theirs = [[textbook_price(SPOT, k, t, 0.3, call) for k in STRIKES] for t in YEARS[:, 0]]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_put_call_parity() -> None:
    calls, puts = pricing.price(SPOT, STRIKES, YEARS, 0.4, CALLS, RATE, YIELD)
    np.testing.assert_allclose(
        calls - puts, SPOT * np.exp(-YIELD * YEARS) - STRIKES * np.exp(-RATE * YEARS), atol=1e-12
    )


def test_greeks_equal_finite_differences() -> None:
    def price(spot: float = SPOT, years: np.ndarray = YEARS, vol: float = 0.35) -> np.ndarray:
        return pricing.price(spot, STRIKES, years, vol, CALLS, RATE, YIELD)

    greeks = pricing.value(SPOT, STRIKES, YEARS, 0.35, CALLS, RATE, YIELD)
    step = 1e-3
    np.testing.assert_allclose(greeks.price, price(), rtol=1e-14)
    np.testing.assert_allclose(greeks.delta, (price(SPOT + step) - price(SPOT - step)) / (2 * step), atol=1e-7)
    second = (price(SPOT + step) - 2 * price() + price(SPOT - step)) / step**2
    np.testing.assert_allclose(np.broadcast_to(greeks.gamma, second.shape), second, atol=1e-6)
    vega = (price(vol=0.35 + 1e-5) - price(vol=0.35 - 1e-5)) / 2e-5 / 100
    np.testing.assert_allclose(np.broadcast_to(greeks.vega, vega.shape), vega, atol=1e-7)
    theta = -(price(years=YEARS + 1e-6) - price(years=YEARS - 1e-6)) / 2e-6 / 365
    np.testing.assert_allclose(greeks.theta, theta, atol=1e-6)


@given(
    vol=st.floats(0.02, 5.0),
    moneyness=st.floats(0.3, 3.0),
    years=st.floats(1 / 365, 3.0),
    call=st.booleans(),
)
def test_implied_volatility_reprices_the_option(vol: float, moneyness: float, years: float, call: bool) -> None:
    strike = SPOT * moneyness
    target = float(pricing.price(SPOT, strike, years, vol, call, RATE, YIELD))
    found = float(pricing.implied_vol(target, SPOT, strike, years, call, RATE, YIELD))
    other_side = float(pricing.price(SPOT, strike, years, vol, not call, RATE, YIELD))
    if min(target, other_side) < 1e-9:
        return  # all intrinsic: any small volatility gives this price
    assert float(pricing.price(SPOT, strike, years, found, call, RATE, YIELD)) == pytest.approx(
        target, rel=1e-7, abs=1e-9
    )


@pytest.mark.parametrize(
    ("target", "strike", "call"),
    [
        (100.5, 90.0, True),  # dearer than the stock
        (4.0, 90.0, True),  # below intrinsic value
        (91.0, 90.0, False),  # dearer than the strike
        (0.0, 120.0, True),
        (-1.0, 120.0, True),
        (float("nan"), 100.0, True),
    ],
)
def test_impossible_prices_have_no_implied_volatility(target: float, strike: float, call: bool) -> None:
    assert np.isnan(pricing.implied_vol(target, SPOT, strike, 0.5, call))
    assert np.isnan(pricing.implied_vol(1.0, SPOT, strike, 0.0, call))


def test_a_bad_price_does_not_disturb_its_neighbours() -> None:
    strikes = np.array([90.0, 100.0, 110.0])
    targets = pricing.price(SPOT, strikes, 0.5, 0.25, True)
    targets[1] = np.nan
    found = pricing.implied_vol(targets, SPOT, strikes, 0.5, True)
    np.testing.assert_allclose(found[[0, 2]], 0.25, rtol=1e-9)
    assert np.isnan(found[1])
