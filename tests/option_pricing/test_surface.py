"""Surfaces against smiles that are known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from option_pricing.forwards import Forwards, imply_forwards
from option_pricing.quotes import pair_quotes
from option_pricing.surface import DELTAS, Surfaces, Volatilities, fit_surfaces
from option_pricing.svi import Svi
from tests.option_pricing.european_quotes import volatilities
from tests.option_pricing.known_market import KnownMarket, known_market, slice_of

YEARS = np.array([0.25])
ALONE = np.array([0])


@pytest.fixture(scope="module")
def market() -> KnownMarket:
    return known_market(60, seed=17)


@pytest.fixture(scope="module")
def forwards(market: KnownMarket) -> Forwards:
    return imply_forwards(market.smiles, pair_quotes(market.quotes))


@pytest.fixture(scope="module")
def quotes(market: KnownMarket, forwards: Forwards) -> Volatilities:
    return volatilities(market.smiles, market.quotes, forwards)


@pytest.fixture(scope="module")
def found(market: KnownMarket, quotes: Volatilities) -> Surfaces:
    return fit_surfaces(market.smiles.years, market.surface, quotes)


def smile(k: np.ndarray, vol: np.ndarray, half: float | np.ndarray = 0.002) -> Volatilities:
    return Volatilities(np.zeros(k.size, dtype=int), k, k >= 0, vol - half, vol, vol + half)


def vols_of(surfaces: Surfaces, k: np.ndarray) -> np.ndarray:
    return np.sqrt(surfaces.svi.total_variance(k[None, :])[0] / surfaces.years[0])


@st.composite
def smiles(draw: st.DrawFn) -> Svi:
    """SVI smiles without butterfly arbitrage, at a quarter of a year."""
    variance = draw(st.floats(0.1, 0.8)) ** 2 * YEARS[0]
    root = np.sqrt(variance)
    return Svi(
        *(
            np.array([each])
            for each in (
                variance * draw(st.floats(0.2, 0.6)),
                root * draw(st.floats(0.1, 0.8)),
                draw(st.floats(-0.8, 0.6)),
                root * draw(st.floats(-0.5, 0.5)),
                root * draw(st.floats(0.3, 1.5)),
            )
        )
    )


@settings(max_examples=60, deadline=None)
@given(svi=smiles(), number=st.integers(12, 60))
def test_an_exact_smile_is_recovered(svi: Svi, number: int) -> None:
    root = np.sqrt(svi.total_variance(np.zeros((1, 1)))[0, 0])
    k = np.linspace(-3.0, 2.5, number) * root
    if svi.durrleman(np.linspace(-6, 6, 121)[None, :] * root).min() < 0.01:
        return
    vol = np.sqrt(svi.total_variance(k[None, :])[0] / YEARS[0])
    found = fit_surfaces(YEARS, ALONE, smile(k, vol))
    np.testing.assert_allclose(vols_of(found, k), vol, atol=2e-4)
    assert found.inside_share == 1.0
    assert found.rms < 0.1
    assert found.arbitrage_free.all()


@settings(max_examples=60, deadline=None)
@given(row=st.integers(0, 24), factor=st.floats(0.3, 3.0).filter(lambda factor: abs(factor - 1) > 0.1))
def test_one_bad_quote_moves_nothing(row: int, factor: float) -> None:
    svi = Svi(*(np.array([each]) for each in (0.004, 0.05, -0.5, 0.02, 0.1)))
    k = np.linspace(-0.4, 0.3, 25)
    vol = np.sqrt(svi.total_variance(k[None, :])[0] / YEARS[0])
    wrong = vol.copy()
    wrong[row] *= factor
    found = fit_surfaces(YEARS, ALONE, smile(k, wrong))
    assert np.abs(vols_of(found, k) - vol)[2:-2].max() < 5e-4
    assert found.used == 24
    assert found.inside_share == pytest.approx(24 / 25)


def test_the_known_market_is_fitted_within_its_spreads(
    market: KnownMarket, quotes: Volatilities, found: Surfaces
) -> None:
    q = quotes
    fitted = np.sqrt(
        found.svi.take(q.smile).total_variance(q.log_moneyness[:, None])[:, 0] / market.smiles.years[q.smile]
    )
    good = (q.iv_bid > 0) & ~market.planted & (q.call == (q.log_moneyness >= 0))
    off = np.abs(fitted - market.true_vol)[good]
    assert np.median(off) < 5e-4
    assert np.quantile(off, 0.99) < 5e-3
    inside = (fitted >= q.iv_bid) & (fitted <= q.iv_ask)
    assert inside[good].mean() > 0.99


def test_the_implied_volatility_of_good_quotes_holds_the_true_one(market: KnownMarket, quotes: Volatilities) -> None:
    q = quotes
    good = (q.iv_bid > 0) & ~market.planted & (q.call == (q.log_moneyness >= 0))
    assert ((market.true_vol >= q.iv_bid) & (market.true_vol <= q.iv_ask))[good].mean() > 0.99


def test_what_is_said_of_the_money_is_true(market: KnownMarket, found: Surfaces) -> None:
    truth = slice_of(market.shape, market.smiles.years)
    zero = np.zeros((market.smiles.years.size, 1))
    t, step = market.smiles.years, 1e-4

    def vol(k: np.ndarray) -> np.ndarray:
        return np.sqrt(truth.total_variance(k)[:, 0] / t)

    at, skew = vol(zero), (vol(zero + step) - vol(zero - step)) / (2 * step)
    sure = found.confidence >= 0.8
    assert sure.mean() > 0.8
    assert np.quantile(np.abs(found.atm_iv - at)[sure], 0.99) < 3e-3
    off = np.abs(found.atm_iv - at) / found.atm_error
    assert 0.3 < np.nanquantile(off, 0.68) < 1.3
    long = sure & (t > 0.1)
    assert np.median(np.abs(found.skew - skew)[long]) < 0.05 * np.median(np.abs(skew[long]))
    curvature = (vol(zero + 0.01) - 2 * at + vol(zero - 0.01)) / 0.01**2
    assert np.median(np.abs(found.curvature / curvature - 1)[long]) < 0.3


def test_the_known_market_has_no_arbitrage_and_is_found_to_have_none(found: Surfaces) -> None:
    assert found.arbitrage_free.mean() > 0.97
    assert (found.butterfly >= 0).mean() > 0.99


def test_smiles_with_a_negative_density_are_repaired() -> None:
    """Vogt's smile (Gatheral and Jacquier 2014, example 5.1) cannot be: the fit is the nearest that can."""
    vogt = Svi(*(np.array([each]) for each in (-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)))
    k = np.linspace(-1.0, 1.3, 41)
    vol = np.sqrt(vogt.total_variance(k[None, :])[0])
    found = fit_surfaces(np.ones(1), ALONE, smile(k, vol, 0.004))
    assert found.repaired.all()
    assert found.butterfly >= 0
    assert found.arbitrage_free.all()
    assert np.abs(vols_of(found, k) - vol).max() < 0.02


def test_a_later_smile_below_an_earlier_one_is_told() -> None:
    k = np.linspace(-0.3, 0.3, 21)
    both = [smile(k, np.full(k.size, vol)) for vol in (0.4, 0.2)]
    later = replace(both[1], smile=both[1].smile + 1)
    joined = Volatilities(
        *(np.concatenate([getattr(a, n), getattr(b, n)]) for a, b in [(both[0], later)] for n in NAMES)
    )
    found = fit_surfaces(np.array([0.25, 0.5]), np.array([0, 0]), joined)
    assert not found.arbitrage_free.any()
    assert found.calendar == pytest.approx(0.2 - 0.4 * np.sqrt(0.5), abs=2e-3)
    apart = fit_surfaces(np.array([0.25, 0.5]), np.array([0, 1]), joined)
    assert apart.arbitrage_free.all()
    assert np.isnan(apart.calendar).all()


NAMES = ("smile", "log_moneyness", "call", "iv_bid", "iv_mid", "iv_ask")


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
def test_few_quotes_make_a_smile_through_them_that_is_little_believed(number: int) -> None:
    k = np.linspace(-0.1, 0.1, number) if number > 1 else np.array([0.02])
    found = fit_surfaces(YEARS, ALONE, smile(k, 0.25 - 0.1 * k, 0.005))
    assert np.abs(vols_of(found, k) - 0.25 + 0.1 * k).max() < 0.01
    assert found.confidence[0] < 0.9
    assert np.isfinite(found.atm_iv).all()
    assert found.arbitrage_free.all()


def test_one_sided_wings_cover_half_the_deltas() -> None:
    k = np.linspace(0.0, 0.5, 20)
    found = fit_surfaces(YEARS, ALONE, smile(k, np.full(20, 0.3)))
    assert found.delta_high == pytest.approx(0.5, abs=0.05)
    assert found.delta_low < 0.05
    assert found.confidence[0] < 0.6


def test_an_unsure_forward_makes_an_unsure_smile_most_of_all_before_expiry() -> None:
    """The volatility of an option at the money moves by N(d1) / (phi(d1) sqrt(t)) of the forward's move."""
    k = np.linspace(-0.3, 0.3, 21)
    quotes = smile(k, np.full(21, 0.25))
    for years in (np.array([0.01]), YEARS):
        near = replace(quotes, log_moneyness=k * np.sqrt(years[0] / 0.25))
        known, unsure = (fit_surfaces(years, ALONE, near, np.array([error])) for error in (0.0, 1e-3))
        added = np.sqrt(unsure.lattice.error**2 - known.lattice.error**2)[0]
        middle = added[DELTAS == 0.5]
        assert middle == pytest.approx(0.5 * np.sqrt(2 * np.pi) * 1e-3 / np.sqrt(years[0]), rel=1e-3)
        assert (added <= middle + 1e-12).all()
        assert unsure.confidence < known.confidence
        assert unsure.atm_iv == known.atm_iv
        assert (fit_surfaces(years, ALONE, near).lattice.error == known.lattice.error).all()


def test_smiles_without_quotes_are_not_known() -> None:
    none = np.zeros(0)
    quotes = Volatilities(none.astype(int), none, none.astype(bool), none, none, none)
    found = fit_surfaces(np.array([0.1, 0.2]), np.array([0, 0]), quotes)
    assert np.isnan(found.atm_iv).all()
    assert np.isnan(found.calendar).all()
    assert not found.arbitrage_free.any()
    assert (found.confidence == 0).all()


def test_values_at_the_edge_do_not_count() -> None:
    k = np.linspace(-0.3, 0.3, 21)
    good = smile(k, np.full(21, 0.25))
    expected = fit_surfaces(YEARS, ALONE, good).atm_iv
    for poison in (np.nan, np.inf, -0.2, 0.0):
        ask, mid, bid = good.iv_ask.copy(), good.iv_mid.copy(), good.iv_bid.copy()
        ask[3], mid[8], bid[14] = poison, poison, poison
        found = fit_surfaces(YEARS, ALONE, replace(good, iv_ask=ask, iv_mid=mid, iv_bid=bid))
        assert found.atm_iv == pytest.approx(expected, abs=1e-3)
        assert found.quotes == 18


def test_smiles_do_not_know_of_each_other(market: KnownMarket, quotes: Volatilities, found: Surfaces) -> None:
    of_one = quotes.smile == 100
    alone = Volatilities(*(getattr(quotes, name)[of_one] for name in NAMES))
    again = fit_surfaces(market.smiles.years, market.surface, alone)
    assert again.atm_iv[100] == pytest.approx(found.atm_iv[100], rel=1e-6)
    assert again.rms[100] == pytest.approx(found.rms[100], rel=1e-4)
