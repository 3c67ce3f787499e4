"""The premium of early exercise against published prices, and against a large tree of the tests' own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from option_pricing import black_scholes
from option_pricing.early_exercise import exercise_premium
from tests.option_pricing import binomial

# American puts, spot 40, rate 4.88 %, no dividends: strike, years, volatility, price. Of Geske and Johnson, "The
# American Put Option Valued Analytically", Journal of Finance 39 (1984), table I; to four digits as later papers have
# them.
PUBLISHED = [
    (35.0, 0.5833, 0.2, 0.4328), (35.0, 0.5833, 0.3, 1.2198), (35.0, 0.5833, 0.4, 2.1549), (40.0, 0.0833, 0.2, 0.8522),
    (40.0, 0.3333, 0.3, 2.4825), (40.0, 0.5833, 0.2, 1.9904), (40.0, 0.5833, 0.3, 3.1696), (40.0, 0.5833, 0.4, 4.3526),
    (45.0, 0.3333, 0.2, 5.0883), (45.0, 0.5833, 0.2, 5.2670), (45.0, 0.5833, 0.3, 6.2436), (45.0, 0.5833, 0.4, 7.3830),
]  # fmt: skip


@pytest.mark.parametrize(("strike", "years", "vol", "price"), PUBLISHED)
def test_published_prices(strike: float, years: float, vol: float, price: float) -> None:
    european = black_scholes.price(40.0, strike, years, vol, False, 0.0488)
    premium = exercise_premium(*(np.array([each]) for each in (40.0, strike, years, vol, False, 0.0488, 0.0)))
    assert european + premium[0] == pytest.approx(price, abs=2e-3)


def test_a_large_tree_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binomial, "STEPS", 600)
    rng = np.random.default_rng(4)
    strike, vol = 100.0 * np.exp(rng.uniform(-0.2, 0.2, 400)), rng.uniform(0.1, 0.6, 400)
    years, call = rng.choice([0.003, 0.02, 0.1, 0.25, 0.5, 1.0, 2.0], 400), rng.random(400) < 0.5
    rate, carry = rng.choice([0.0003, 0.01, 0.05], 400), rng.choice([-0.03, -0.003, 0.0, 0.01, 0.03, 0.08], 400)
    ours = exercise_premium(100.0, strike, years, vol, call, rate, carry)
    tree = binomial.tree_premium(100.0, strike, years, vol, call, rate, carry)
    assert np.median(np.abs(ours - tree)) < 5e-4
    assert np.quantile(np.abs(ours - tree), 0.99) < 0.03
    assert tree.max() > 2.0


def test_a_call_without_carry_and_a_put_without_rate_are_never_exercised() -> None:
    strikes = np.linspace(50.0, 150.0, 21)
    assert (exercise_premium(100.0, strikes, 0.5, 0.3, True, 0.05, 0.0) == 0).all()
    assert (exercise_premium(100.0, strikes, 0.5, 0.3, False, 0.0, 0.02) == 0).all()


@settings(max_examples=40, deadline=None)
@given(
    strike=st.floats(70.0, 140.0),
    years=st.floats(0.01, 1.5),
    vol=st.floats(0.1, 0.6),
    rate=st.floats(0.0, 0.08),
    carry=st.floats(0.0, 0.08),
)
def test_a_call_is_a_put_with_everything_turned_round(
    strike: float, years: float, vol: float, rate: float, carry: float
) -> None:
    """C(S, K, r, q) = P(K, S, q, r) (McDonald and Schroder, 1998)."""
    call = exercise_premium(100.0, strike, years, vol, True, rate, carry)
    put = exercise_premium(strike, 100.0, years, vol, False, carry, rate)
    assert call == pytest.approx(put, abs=0.02)
    assert 0 <= call < 100.0 * carry * years + strike * abs(np.minimum(rate, 0)) + 0.02


def test_a_deep_put_is_worth_what_exercise_brings() -> None:
    european = black_scholes.price(50.0, 100.0, 1.0, 0.1, False, 0.05)
    assert european + exercise_premium(50.0, 100.0, 1.0, 0.1, False, 0.05, 0.0) == pytest.approx(50.0)


@pytest.mark.filterwarnings("error")
def test_values_at_the_edge_are_not_known() -> None:
    for place in range(7):
        if place == 4:
            continue
        for worst in (np.nan, np.inf, -np.inf, 1e300, -1.0, 0.0):
            given = [100.0, 100.0, 0.5, 0.3, False, 0.05, 0.01]
            given[place] = worst
            premium = exercise_premium(*(np.array([each]) for each in given))
            assert premium.shape == (1,)
            assert not premium[0] < 0
    assert np.isnan(exercise_premium(100.0, 100.0, 0.0, 0.3, False, 0.05, 0.0))
    assert exercise_premium(np.zeros(0), 100.0, 0.5, 0.3, False, 0.05, 0.0).size == 0
