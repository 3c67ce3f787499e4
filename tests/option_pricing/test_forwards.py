"""Forwards against a market whose forwards are known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from option_pricing import black_scholes
from option_pricing.forwards import Forwards, Smiles, imply_forwards
from option_pricing.quotes import Pairs, Quotes, pair_quotes
from tests.option_pricing.known_market import KnownMarket, Makers, known_market

STRIKES = np.arange(80.0, 121.0, 2.5)


@pytest.fixture(scope="module")
def market() -> KnownMarket:
    return known_market(60, seed=11)


@pytest.fixture(scope="module")
def found(market: KnownMarket) -> Forwards:
    return imply_forwards(market.smiles, pair_quotes(market.quotes))


def one_smile(
    forward: float, rate: float, years: float, half: float = 0.05, vol: float = 0.25, strikes: np.ndarray = STRIKES
) -> tuple[Smiles, Quotes]:
    """A European smile whose mids are the model's prices exactly."""
    call = np.repeat([True, False], strikes.size)
    both = np.tile(strikes, 2)
    price = black_scholes.price(forward, both, years, vol, call) * np.exp(-rate * years)
    bid = np.where(price > half, price - half, 0.0)
    zero = np.zeros(both.size)
    smiles = Smiles(np.array([years]), np.array([rate]), np.array([100.0]), np.array([False]))
    return smiles, Quotes(zero.astype(int), both, call, bid, np.where(price > half, price + half, 2 * half), zero)


def basis_points(found: Forwards, market: KnownMarket) -> np.ndarray:
    return np.abs(found.forward / market.forward - 1.0) * 1e4


def test_a_known_forward_is_found_to_two_basis_points(market: KnownMarket, found: Forwards) -> None:
    off = basis_points(found, market)
    assert np.median(off) < 1.0
    assert np.quantile(off[found.confidence >= 0.8], 0.95) < 2.0
    # 0DTE is no special case.
    assert np.median(off[market.smiles.years < 1 / 365]) < 1.0


def test_the_error_that_is_told_is_the_error_that_is_made(market: KnownMarket, found: Forwards) -> None:
    off = np.abs(found.forward - market.forward) / found.forward_error
    assert 0.4 < np.quantile(off, 0.68) < 1.2
    assert np.quantile(off, 0.99) < 3.0


def test_confidence_falls_with_the_error(market: KnownMarket) -> None:
    wide = known_market(60, seed=11, makers=Makers(spread=0.08))
    found, vague = (imply_forwards(each.smiles, pair_quotes(each.quotes)) for each in (market, wide))
    assert vague.confidence.mean() < 0.5 * found.confidence.mean()
    assert basis_points(vague, wide).mean() > 2 * basis_points(found, market).mean()


@pytest.mark.parametrize("curve_is_off_by", [-0.01, 0.01])
def test_boxes_say_the_discount_where_the_curve_does_not(curve_is_off_by: float) -> None:
    smiles, quotes = one_smile(100.0, rate=0.05, years=1.0, half=0.01)
    wrong = replace(smiles, rate=smiles.rate + curve_is_off_by)
    found = imply_forwards(wrong, pair_quotes(quotes))
    assert found.discount_implied.all()
    assert found.discount == pytest.approx(np.exp(-0.05), abs=1e-6)
    assert found.forward == pytest.approx(100.0, abs=1e-6)
    assert found.carry == pytest.approx(0.05, abs=1e-6)
    assert found.dividends == pytest.approx(100.0 - 100.0 * np.exp(-0.05), abs=1e-4)


def test_wide_quotes_leave_the_discount_to_the_curve() -> None:
    smiles, quotes = one_smile(100.0, rate=0.05, years=0.05, half=0.5)
    found = imply_forwards(smiles, pair_quotes(quotes))
    assert not found.discount_implied.any()
    assert found.discount == pytest.approx(np.exp(-0.05 * 0.05))
    assert np.isnan(found.discount_error).all()


@settings(max_examples=60, deadline=None)
@given(
    row=st.integers(0, 2 * STRIKES.size - 1),
    by=st.floats(-50.0, 50.0).filter(lambda by: abs(by) > 1.0),
    width=st.floats(0.01, 5.0),
)
def test_one_bad_quote_moves_nothing(row: int, by: float, width: float) -> None:
    smiles, quotes = one_smile(101.3, rate=0.03, years=0.4)
    bid, ask = quotes.bid.copy(), quotes.ask.copy()
    bid[row] = max(bid[row] + by, 0.01)
    ask[row] = bid[row] + width
    found = imply_forwards(smiles, pair_quotes(replace(quotes, bid=bid, ask=ask)))
    assert found.forward == pytest.approx(101.3, abs=0.012)


def test_a_third_of_bad_quotes_moves_little() -> None:
    rng = np.random.default_rng(3)
    smiles, quotes = one_smile(101.3, rate=0.03, years=0.4)
    for _ in range(50):
        wrong = rng.choice(quotes.bid.size, 6, replace=False)
        bad = np.zeros(quotes.bid.size)
        bad[wrong] = rng.uniform(1.0, 9.0, wrong.size)
        found = imply_forwards(smiles, pair_quotes(replace(quotes, bid=quotes.bid + bad, ask=quotes.ask + bad)))
        assert found.forward == pytest.approx(101.3, abs=0.05)
        assert found.outliers.all()


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.01, 1000.0), forward=st.floats(90.0, 110.0), years=st.floats(0.003, 2.0))
def test_scaling_strikes_and_prices_scales_the_forward(scale: float, forward: float, years: float) -> None:
    smiles, quotes = one_smile(forward, rate=0.02, years=years)
    plain = imply_forwards(smiles, pair_quotes(quotes))
    scaled = replace(quotes, strike=quotes.strike * scale, bid=quotes.bid * scale, ask=quotes.ask * scale)
    larger = imply_forwards(replace(smiles, spot=smiles.spot * scale), pair_quotes(scaled))
    assert larger.forward / scale == pytest.approx(plain.forward, rel=1e-9)
    assert larger.forward_error / scale == pytest.approx(plain.forward_error, rel=1e-6)
    assert larger.carry == pytest.approx(plain.carry, abs=1e-7)


def test_smiles_do_not_know_of_each_other(market: KnownMarket, found: Forwards) -> None:
    rng = np.random.default_rng(1)
    order = rng.permutation(market.quotes.smile.size)
    names = ("smile", "strike", "call", "bid", "ask", "asof")
    shuffled = Quotes(*(getattr(market.quotes, name)[order] for name in names))
    again = imply_forwards(market.smiles, pair_quotes(shuffled))
    np.testing.assert_allclose(again.forward, found.forward, rtol=1e-12)
    alone = np.flatnonzero(market.quotes.smile == 7)
    one = Quotes(*(getattr(market.quotes, name)[alone] for name in names))
    single = imply_forwards(market.smiles, pair_quotes(one))
    assert single.forward[7] == pytest.approx(found.forward[7], rel=1e-12)
    assert np.isnan(np.delete(single.forward, 7)).all()


def test_a_smile_without_pairs_says_nothing_and_is_not_believed() -> None:
    smiles = Smiles(np.array([0.1, 0.1]), np.zeros(2), np.full(2, 100.0), np.array([False, True]))
    none = np.zeros(0)
    found = imply_forwards(smiles, Pairs(none.astype(int), none, none, none, none, none))
    assert np.isnan(found.forward).all()
    assert np.isnan(found.residual).all()
    assert (found.pairs == 0).all()
    assert (found.confidence == 0).all()
    assert found.few_pairs.all()


def test_one_pair_is_believed_half_as_much_at_most() -> None:
    smiles, quotes = one_smile(100.0, 0.02, 0.25, half=0.005, strikes=np.array([100.0]))
    found = imply_forwards(smiles, pair_quotes(quotes))
    assert found.forward == pytest.approx(100.0, abs=1e-6)
    assert found.pairs.tolist() == [1]
    assert 0.4 < found.confidence[0] <= 0.5
    assert np.isnan(found.r2).all()


def test_a_locked_market_does_not_outweigh_the_others() -> None:
    smiles, quotes = one_smile(100.0, 0.02, 0.25)
    mid = 0.5 * (quotes.bid + quotes.ask) + 0.04 * (quotes.call - 0.5)
    locked = np.isin(quotes.strike, [100.0])
    bid, ask = np.where(locked, mid, quotes.bid), np.where(locked, mid, quotes.ask)
    found = imply_forwards(smiles, pair_quotes(replace(quotes, bid=bid, ask=ask)))
    assert np.isfinite(found.forward_error).all()
    assert found.forward == pytest.approx(100.0, abs=0.03)


def test_values_at_the_edge_give_no_exception_and_no_wrong_confidence() -> None:
    smiles, quotes = one_smile(100.0, 0.02, 0.25)
    for poison in (np.nan, np.inf, -1.0, 0.0, 1e308):
        bid, ask = quotes.bid.copy(), quotes.ask.copy()
        bid[::3], ask[1::3] = poison, poison
        with np.errstate(all="ignore"):
            found = imply_forwards(smiles, pair_quotes(replace(quotes, bid=bid, ask=ask)))
        assert np.isnan(found.forward).all() or found.forward == pytest.approx(100.0, abs=0.05)
        assert np.isfinite(found.confidence).all()
    expired = replace(smiles, years=np.zeros(1))
    with np.errstate(all="ignore"):
        assert imply_forwards(expired, pair_quotes(quotes)).confidence.shape == (1,)
