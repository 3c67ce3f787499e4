"""Forwards of American smiles, whose quotes are worth more than parity says, against a market made on a tree."""

import numpy as np
import pytest

from option_pricing.forwards import Forwards, Smiles, imply_forwards
from option_pricing.quotes import Quotes, pair_quotes
from tests.option_pricing.binomial import tree_price

RATE, YEARS, SPOT = 0.05, np.array([0.1, 0.5, 1.0, 2.0]), 100.0


def american_quotes(carry: float, half: float = 0.02) -> Quotes:
    """Four expiries with a smile, at strikes near the money; `carry` the dividend yield and borrow."""
    strikes = np.arange(85.0, 116.0, 2.5)
    smile = np.repeat(np.arange(YEARS.size), 2 * strikes.size)
    strike, call = np.tile(strikes, 2 * YEARS.size), np.tile(np.repeat([True, False], strikes.size), YEARS.size)
    vol = 0.28 - 0.2 * np.log(strike / SPOT)
    price = tree_price(SPOT, strike, YEARS[smile], vol, call, RATE, carry, True)
    # The tree oscillates around the price with the steps; its own European price does as much.
    return Quotes(smile, strike, call, np.maximum(price - half, 0.01), price + half, np.zeros(strike.size))


def smiles(american: bool) -> Smiles:
    return Smiles(YEARS, np.full(4, RATE), np.full(4, SPOT), np.full(4, american))


@pytest.fixture(scope="module", params=[0.0, 0.02, 0.08, -0.03])
def carry(request: pytest.FixtureRequest) -> float:
    return float(request.param)


@pytest.fixture(scope="module")
def found(carry: float) -> Forwards:
    return imply_forwards(smiles(True), pair_quotes(american_quotes(carry)))


def test_the_forward_is_the_one_without_early_exercise(found: Forwards, carry: float) -> None:
    true = SPOT * np.exp((RATE - carry) * YEARS)
    raw = imply_forwards(smiles(True), pair_quotes(american_quotes(carry)), None)
    assert np.abs(found.forward / true - 1).max() < 4e-4
    assert np.abs(found.carry - carry).max() < 1e-3
    # Parity alone is far off, where there is something to exercise for.
    assert np.abs(raw.forward / true - 1).max() > 3e-3


def test_call_and_put_have_one_volatility_at_the_forward(found: Forwards, carry: float) -> None:
    """On the tree, by bisection, at the strike next to the forward, to a quarter of the half-spread."""
    quotes = american_quotes(carry)
    mid = 0.5 * (quotes.bid + quotes.ask)
    for number in range(YEARS.size):
        of_smile = np.flatnonzero(quotes.smile == number)
        nearest = quotes.strike[of_smile[np.argmin(np.abs(quotes.strike[of_smile] - found.forward[number]))]]
        pair = of_smile[quotes.strike[of_smile] == nearest]
        low, high = np.full(2, 0.01), np.full(2, 2.0)
        for _ in range(40):
            vol = 0.5 * (low + high)
            price = tree_price(
                SPOT, nearest, YEARS[number], vol, quotes.call[pair], RATE, found.carry[number], american=True
            )
            low, high = np.where(price < mid[pair], vol, low), np.where(price < mid[pair], high, vol)
        assert low[0] == pytest.approx(low[1], abs=2e-3)


def test_one_bad_quote_moves_nothing(found: Forwards, carry: float) -> None:
    quotes = american_quotes(carry)
    bid, ask = quotes.bid.copy(), quotes.ask.copy()
    for row in np.flatnonzero(quotes.strike == 100.0):
        bid[row] += 3.0
        ask[row] += 3.0
        changed = Quotes(quotes.smile, quotes.strike, quotes.call, bid, ask, quotes.asof)
        again = imply_forwards(smiles(True), pair_quotes(changed))
        np.testing.assert_allclose(again.forward, found.forward, rtol=6e-4)
        bid[row] -= 3.0
        ask[row] -= 3.0
