"""SVI smiles against finite differences, and against the density of prices that they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from option_pricing import black_scholes
from option_pricing.svi import Svi, ssvi

# Gatheral and Jacquier (2014), example 5.1 (after Axel Vogt): a smile with butterfly arbitrage.
VOGT = Svi(*(np.array([each]) for each in (-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)))
PLAIN = Svi(*(np.array([each]) for each in (0.01, 0.1, -0.4, 0.05, 0.2)))
POINTS = np.linspace(-1.2, 1.2, 241)[None, :]


def test_derivatives_equal_finite_differences() -> None:
    step = 1e-4
    up, here, down = (PLAIN.total_variance(POINTS + by) for by in (step, 0.0, -step))
    first, second = PLAIN.derivatives(POINTS)
    np.testing.assert_allclose(first, (up - down) / (2 * step), atol=1e-7)
    np.testing.assert_allclose(second, (up - 2 * here + down) / step**2, atol=1e-6)


@pytest.mark.parametrize("svi", [PLAIN, VOGT])
def test_durrleman_is_the_density_of_prices(svi: Svi) -> None:
    """The second derivative of call prices by strike, by finite differences, is g(k) times a normal density."""
    k = POINTS[0]
    step = 1e-3

    def price(strike: np.ndarray) -> np.ndarray:
        vol = np.sqrt(svi.total_variance(np.log(strike)[None, :])[0])
        return black_scholes.price(1.0, strike, 1.0, vol, True)

    strike = np.exp(k)
    density = (price(strike + step) - 2 * price(strike) + price(strike - step)) / step**2
    w = svi.total_variance(POINTS)[0]
    d2 = -k / np.sqrt(w) - np.sqrt(w) / 2
    expected = svi.durrleman(POINTS)[0] * np.exp(-(d2**2) / 2) / np.sqrt(2 * np.pi * w) / strike
    np.testing.assert_allclose(density, expected, atol=2e-4)


def test_the_published_smile_with_arbitrage_is_known_as_one() -> None:
    assert VOGT.durrleman(POINTS).min() < 0
    assert PLAIN.durrleman(POINTS).min() > 0


@given(rho=st.floats(-0.95, 0.95), variance=st.floats(0.001, 1.0), part=st.floats(0.05, 0.99))
def test_ssvi_within_its_bounds_has_a_density_everywhere(rho: float, variance: float, part: float) -> None:
    lean = 1 + abs(rho)
    phi = part * min(4 / (variance * lean), 2 / np.sqrt(variance * lean))
    svi = ssvi(*(np.array([each]) for each in (variance, rho, phi)))
    assert svi.total_variance(np.zeros((1, 1)))[0, 0] == pytest.approx(variance)
    assert svi.durrleman(np.linspace(-12, 12, 801)[None, :] * np.sqrt(variance)).min() > -1e-9
    assert svi.steepest_wing() < 2.0


@given(delta=st.floats(0.01, 0.99))
def test_the_strike_of_a_delta_has_that_delta(delta: float) -> None:
    k = PLAIN.moneyness_of_delta(np.array([[delta]]))
    w = PLAIN.total_variance(k)[0, 0]
    assert ndtr(-k[0, 0] / np.sqrt(w) + np.sqrt(w) / 2) == pytest.approx(delta, abs=1e-9)


def test_a_smile_that_is_not_known_has_no_strikes() -> None:
    unknown = Svi(*(np.array([np.nan]) for _ in range(5)))
    assert np.isnan(unknown.moneyness_of_delta(np.array([[0.5]]))).all()
