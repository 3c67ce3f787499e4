"""The standard grid against surfaces that are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from option_pricing.forwards import imply_forwards
from option_pricing.grid import DAYS, GridPoints, constant_maturities, surface_grid
from option_pricing.quotes import pair_quotes
from option_pricing.surface import DELTAS, Surfaces, Volatilities, fit_surfaces
from tests.option_pricing.european_quotes import volatilities
from tests.option_pricing.known_market import KnownMarket, known_market, slice_of


@pytest.fixture(scope="module")
def market() -> KnownMarket:
    return known_market(60, seed=23)


@pytest.fixture(scope="module")
def grid(market: KnownMarket) -> GridPoints:
    found = imply_forwards(market.smiles, pair_quotes(market.quotes))
    quotes = volatilities(market.smiles, market.quotes, found)
    return surface_grid(fit_surfaces(market.smiles.years, market.surface, quotes), found.forward)


def true_vols(market: KnownMarket, grid: GridPoints) -> np.ndarray:
    shapes = market.shape[np.searchsorted(market.surface, grid.surface)]
    years = grid.days / 365.0
    truth = slice_of(shapes, years)
    k = truth.moneyness_of_delta(np.where(grid.call, grid.delta, 1.0 - grid.delta)[:, None])
    return np.sqrt(truth.total_variance(k)[:, 0] / years)


def flat(days: np.ndarray, vol: float, low: float = -0.6, high: float = 0.6) -> Surfaces:
    years = np.asarray(days, dtype=float) / 365.0
    k = np.tile(np.linspace(low, high, 41), years.size)
    smile = np.repeat(np.arange(years.size), 41)
    iv = np.full(k.size, vol)
    quotes = Volatilities(smile, k * np.sqrt(years[smile]), k >= 0, iv - 0.001, iv, iv + 0.001)
    return fit_surfaces(years, np.zeros(years.size, dtype=int), quotes)


def test_the_grid_is_the_known_surface_where_it_is_confident(market: KnownMarket, grid: GridPoints) -> None:
    off = np.abs(grid.iv - true_vols(market, grid))
    sure = grid.confidence >= 0.8
    assert sure.mean() > 0.9
    assert (off[sure] < 0.003).mean() > 0.999
    assert np.median(off) < 5e-4


def test_the_error_that_is_told_is_the_error_that_is_made(market: KnownMarket, grid: GridPoints) -> None:
    off = np.abs(grid.iv - true_vols(market, grid)) / grid.error
    assert 0.4 < np.quantile(off, 0.68) < 1.2
    assert np.quantile(off, 0.99) < 4.0


def test_a_call_and_the_put_of_the_rest_of_its_delta_are_one_point(grid: GridPoints) -> None:
    points = {
        (s, d, round(float(delta if call else 1 - delta), 2), bool(call)): iv
        for s, d, delta, call, iv in zip(grid.surface, grid.days, grid.delta, grid.call, grid.iv, strict=True)
    }
    assert {round(float(d), 2) for d in grid.delta} == set(DELTAS.tolist())
    assert all(points[s, d, delta, not call] == iv for (s, d, delta, call), iv in points.items())


@settings(max_examples=20, deadline=None)
@given(vol=st.floats(0.05, 1.5))
def test_the_grid_of_a_flat_surface_is_flat(vol: float) -> None:
    found = flat(np.array([5, 45, 200, 400, 800]), vol, -3 * vol, 3 * vol)
    grid = surface_grid(found, np.full(5, 100.0))
    assert set(grid.days.tolist()) == set(DAYS.tolist())
    np.testing.assert_allclose(grid.iv, vol, atol=1e-3)
    level = constant_maturities(found, np.full(5, vol**2))
    np.testing.assert_allclose(level.atm_iv, vol, atol=1e-3)
    np.testing.assert_allclose(level.risk_reversal, 0.0, atol=1e-3)
    np.testing.assert_allclose(level.butterfly, 0.0, atol=1e-3)
    np.testing.assert_allclose(level.variance_swap, vol, rtol=1e-12)


def test_nothing_is_extrapolated_in_time() -> None:
    grid = surface_grid(flat(np.array([20, 100]), 0.2), np.full(2, 50.0))
    assert sorted(set(grid.days.tolist())) == [30, 60, 91]


def test_a_maturity_on_an_expiry_needs_no_other() -> None:
    for days in (29.6, 30.0, 30.4):
        found = flat(np.array([days]), 0.2)
        grid = surface_grid(found, np.array([50.0]))
        assert set(grid.days.tolist()) == {30}
        np.testing.assert_allclose(grid.iv, 0.2, atol=1e-4)
        np.testing.assert_allclose(constant_maturities(found, np.array([0.05])).variance_swap, np.sqrt(0.05))
    assert surface_grid(flat(np.array([29.4]), 0.2), np.array([50.0])).iv.size == 0


def test_of_two_expiries_on_one_day_one_is_read() -> None:
    """Such as the morning's and the afternoon's series of an index."""
    grid = surface_grid(flat(np.array([29.7, 30.0, 95.0]), 0.2), np.full(3, 50.0))
    assert sorted(set(grid.days.tolist())) == [30, 60, 91]
    np.testing.assert_allclose(grid.iv, 0.2, atol=1e-4)


def test_deltas_that_no_quote_reaches_are_left_out() -> None:
    grid = surface_grid(flat(np.array([20, 100]), 0.2, low=-0.08, high=0.6), np.full(2, 50.0))
    calls = grid.delta[grid.call]
    assert calls.min() == pytest.approx(0.10)
    assert 0.6 <= calls.max() <= 0.7
    assert grid.delta[~grid.call].min() == pytest.approx(1 - calls.max())


def test_strikes_have_the_delta_that_is_told() -> None:
    found = flat(np.array([20, 100]), 0.2)
    grid = surface_grid(found, np.array([100.0, 104.0]))
    at = (grid.days == 60) & grid.call & (grid.delta == 0.5)
    deviation = 0.2 * np.sqrt(60 / 365)
    forward = 100.0 ** ((100 - 60) / 80) * 104.0 ** ((60 - 20) / 80)
    assert grid.strike[at] == pytest.approx(forward * np.exp(deviation**2 / 2), rel=1e-4)


def test_a_surface_of_nothing_has_no_points() -> None:
    none = np.zeros(0)
    quotes = Volatilities(none.astype(int), none, none.astype(bool), none, none, none)
    found = fit_surfaces(np.array([0.1, 0.2]), np.array([0, 0]), quotes)
    assert surface_grid(found, np.full(2, 100.0)).iv.size == 0
    assert constant_maturities(found, np.full(2, 0.04)).atm_iv.size == 0
