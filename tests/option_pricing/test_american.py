"""American prices against published ones, a large tree of the tests' own, and what must hold for every one of them."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from option_pricing import american, black_scholes
from tests.option_pricing import binomial
from tests.option_pricing.test_early_exercise import PUBLISHED

rates = st.floats(0.0, 0.10)
options = {
    "moneyness": st.floats(0.6, 1.6),
    "years": st.floats(0.01, 2.0),
    "vol": st.floats(0.08, 0.9),
    "rate": rates,
    "carry": rates,
}


@pytest.mark.parametrize(("strike", "years", "vol", "price"), PUBLISHED)
def test_published_prices(strike: float, years: float, vol: float, price: float) -> None:
    assert american.price(False, 40.0, strike, years, vol, 0.0488, 0.0) == pytest.approx(price, abs=1.5e-4)


def test_a_price_to_seven_digits() -> None:
    """A put of strike 100 on 80, 30 %, nine months, 4 %, no carry."""
    assert american.price(False, 80.0, 100.0, 0.75, 0.3, 0.04, 0.0) == pytest.approx(21.0861357, abs=8e-5)


def test_a_tree_of_five_thousand_steps_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binomial, "STEPS", 5000)
    rng = np.random.default_rng(8)
    count = 12
    spot, years = 100.0 * np.exp(rng.normal(0, 0.2, count)), rng.uniform(0.05, 2.0, count)
    vol, rate, carry = rng.uniform(0.1, 0.8, count), rng.uniform(0.0, 0.1, count), rng.uniform(0.0, 0.08, count)
    call = rng.random(count) < 0.5
    tree = binomial.tree_premium(spot, np.full(count, 100.0), years, vol, call, rate, carry)
    european = black_scholes.price(spot, 100.0, years, vol, call, rate, carry)
    ours = american.price(call, spot, 100.0, years, vol, rate, carry)
    assert np.abs(ours - european - tree).max() < 2e-3
    assert tree.max() > 1.0


@settings(max_examples=60, deadline=None)
@given(**options)
def test_a_call_is_a_put_with_everything_turned_round(
    moneyness: float, years: float, vol: float, rate: float, carry: float
) -> None:
    """C(S, K, r, q) = P(K, S, q, r) (McDonald and Schroder, 1998)."""
    call = american.price(True, moneyness, 1.0, years, vol, rate, carry)
    assert call == pytest.approx(american.price(False, 1.0, moneyness, years, vol, carry, rate), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(scale=st.floats(0.01, 5000.0), call=st.booleans(), **options)
def test_prices_scale_with_spot_and_strike(
    scale: float, call: bool, moneyness: float, years: float, vol: float, rate: float, carry: float
) -> None:
    once = american.price(call, moneyness, 1.0, years, vol, rate, carry)
    scaled = american.price(call, scale * moneyness, scale, years, vol, rate, carry)
    assert scaled == pytest.approx(scale * once, rel=1e-9, abs=1e-12 * scale)


@settings(max_examples=60, deadline=None)
@given(call=st.booleans(), more=st.floats(1.02, 1.5), **options)
def test_a_price_lies_between_its_bounds_and_rises_with_volatility_and_time(
    call: bool, more: float, moneyness: float, years: float, vol: float, rate: float, carry: float
) -> None:
    def price(**changed: float) -> float:
        terms = {"years": years, "vol": vol, "rate": rate, "carry": carry} | changed
        return float(american.price(call, moneyness, 1.0, *terms.values()))

    exercised = max(moneyness - 1.0, 0.0) if call else max(1.0 - moneyness, 0.0)
    european = float(black_scholes.price(moneyness, 1.0, years, vol, call, rate, carry))
    assert price() >= max(exercised, european) - 1e-9
    assert price() <= (moneyness if call else 1.0)
    # To within what the method is exact to.
    assert price(vol=vol * more) >= price() - 2e-6
    assert price(years=years * more) >= price() - 2e-6


@settings(max_examples=60, deadline=None)
@given(**options)
def test_where_nothing_is_earned_by_exercise_the_price_is_european(
    moneyness: float, years: float, vol: float, rate: float, carry: float
) -> None:
    assume(rate > 0)
    call = american.price(True, moneyness, 1.0, years, vol, rate, -carry)
    assert call == pytest.approx(black_scholes.price(moneyness, 1.0, years, vol, True, rate, -carry), abs=1e-12)
    put = american.price(False, moneyness, 1.0, years, vol, 0.0, carry)
    assert put == pytest.approx(black_scholes.price(moneyness, 1.0, years, vol, False, 0.0, carry), abs=1e-12)


def test_what_has_no_answer_is_nan() -> None:
    """Of a rate below 0 that is above the carry two boundaries come, which the method does not know."""
    assert np.isnan(american.price(False, 1.0, 1.0, 0.5, 0.2, -0.01, -0.03))
    assert np.isnan(american.price(False, 1.0, 1.0, 0.0, 0.2, 0.01, 0.0))
    assert np.isnan(american.price(True, np.nan, 1.0, 0.5, 0.2, 0.01, 0.0))
