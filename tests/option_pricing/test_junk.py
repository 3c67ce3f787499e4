"""Values that no market has: nothing raises, nothing warns, and nothing that is published is wrong in kind."""

import numpy as np
import pytest

from option_pricing.forwards import Smiles, imply_forwards
from option_pricing.grid import constant_maturities, surface_grid
from option_pricing.quotes import Quotes, pair_quotes
from option_pricing.surface import Volatilities, fit_surfaces
from option_pricing.variance_strip import variance_strips

WORST = np.array([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e300, 1e-300])
YEARS = np.array([1e-9, 1e-4, 0.1, 2.0, 30.0, 0.0, -1.0, np.nan])

pytestmark = pytest.mark.filterwarnings("error")


def spoilt(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    return np.where(rng.random(values.size) < 0.1, rng.choice(WORST, values.size), values)


@pytest.mark.parametrize("seed", range(60))
def test_junk_in_volatilities_makes_no_wrong_surface(seed: int) -> None:
    rng = np.random.default_rng(seed)
    smiles, rows = int(rng.integers(1, 30)), int(rng.integers(0, 400))
    smile = rng.integers(0, smiles, rows)
    k = spoilt(rng, np.round(rng.normal(0, rng.choice([1e-6, 0.01, 0.3, 3, 30]), rows), int(rng.integers(1, 9))))
    iv = spoilt(rng, rng.choice([1e-4, 0.2, 20]) * np.exp(rng.normal(0, rng.choice([0, 0.01, 1, 3]), rows)))
    with np.errstate(all="ignore"):
        half = np.abs(iv) * rng.choice([0, 1e-6, 0.05, 0.9])
        quotes = Volatilities(smile, k, k >= 0, iv - half, iv, iv + half)
    found = fit_surfaces(rng.choice(YEARS, smiles), rng.integers(0, 3, smiles), quotes)
    grid = surface_grid(found, np.exp(rng.normal(0, 5, smiles)))
    level = constant_maturities(found, spoilt(rng, rng.random(smiles)))
    for confidence in (found.confidence, grid.confidence, level.confidence):
        assert ((confidence >= 0) & (confidence <= 1)).all()
    assert np.isfinite(grid.iv).all()
    assert (grid.iv > 0).all()
    assert (found.butterfly[found.arbitrage_free] >= -1e-9).all()
    assert len(found.flags()) == smiles


@pytest.mark.parametrize("seed", range(60))
def test_junk_in_quotes_makes_no_confident_forward(seed: int) -> None:
    rng = np.random.default_rng(seed)
    smiles, rows = int(rng.integers(1, 30)), int(rng.integers(0, 400))
    strike = spoilt(rng, np.abs(rng.choice([1, 50, 1e5, 1e-5]) * np.exp(rng.normal(0, 1, rows))).round(1))
    bid = spoilt(rng, rng.choice([0, 0.01, 1, 50], rows))
    with np.errstate(all="ignore"):
        ask = bid + spoilt(rng, rng.choice([0, 0.01, 1], rows))
    asof = spoilt(rng, rng.random(rows) * 100)
    quotes = Quotes(rng.integers(0, smiles, rows), strike, rng.random(rows) < 0.5, bid, ask, asof)
    years, rate = rng.choice(YEARS, smiles), spoilt(rng, rng.choice([0, 0.05, -0.01], smiles))
    known = Smiles(years, rate, spoilt(rng, rng.choice([50.0, np.nan], smiles)), rng.random(smiles) < 0.5)
    found = imply_forwards(known, pair_quotes(quotes), lambda *given: spoilt(rng, np.zeros(given[0].size)))
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    assert (np.isnan(found.forward) <= (found.confidence == 0)).all()
    strips = variance_strips(years, found.forward, found.discount, quotes)
    assert (np.isnan(strips.variance) | (strips.variance > 0)).all()
    assert len(found.flags()) == smiles
