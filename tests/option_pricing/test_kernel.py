"""Volatilities and greeks of whole smiles: a volatility that goes in comes out, and greeks are slopes of the price."""

import numpy as np
import pytest

from option_pricing import american, black_scholes
from option_pricing.black_scholes import Floats
from option_pricing.kernel import REASONS, Implied, Quotes, Smiles, implied
from option_pricing.segments import Bools

SMILES, STRIKES = 60, 24
HALF = 0.004


class Market:
    """Smiles of which volatility, rate and carry are known; quotes lie a volatility of `HALF` about them."""

    def __init__(self, american_style: bool, seed: int = 5) -> None:
        rng = np.random.default_rng(seed)
        years = np.exp(rng.uniform(np.log(3 / 365), np.log(1.8), SMILES))
        self.rate, self.carry = rng.uniform(0.001, 0.06, SMILES), rng.uniform(-0.01, 0.05, SMILES)
        self.spot = rng.uniform(5.0, 400.0, SMILES)
        level = rng.uniform(0.12, 0.8, SMILES)
        self.smile = np.repeat(np.arange(SMILES), 2 * STRIKES)
        self.years = years
        width = np.tile(np.repeat(np.linspace(-2.0, 2.0, STRIKES), 2), SMILES)
        self.call = np.tile([True, False], SMILES * STRIKES)
        forward = self.spot * np.exp((self.rate - self.carry) * years)
        self.strike = forward[self.smile] * np.exp(width * level[self.smile] * np.sqrt(years[self.smile]))
        self.vol = level[self.smile] * np.exp(-0.1 * width + 0.03 * width**2)
        self.american = american_style
        self.smiles = Smiles(years, forward, np.exp(-self.rate * years), self.spot, np.full(SMILES, american_style))

    def price(self, vol: Floats, **changed: Floats) -> Floats:
        terms = {"spot": self.spot, "rate": self.rate, "carry": self.carry, "years": self.years} | changed
        spot, rate, carry, years = (terms[name][self.smile] for name in ("spot", "rate", "carry", "years"))
        if self.american:
            return american.price(self.call, spot, self.strike, years, vol, rate, carry)
        return black_scholes.price(spot, self.strike, years, vol, self.call, rate, carry)

    @property
    def exercised(self) -> Floats:
        return np.where(self.call, 1.0, -1.0) * (self.spot[self.smile] - self.strike)

    def implied(self, bid: Floats, ask: Floats) -> Implied:
        return implied(self.smiles, Quotes(self.smile, self.call, self.strike, bid, ask))


@pytest.fixture(scope="module", params=[False, True], ids=["european", "american"])
def market(request: pytest.FixtureRequest) -> Market:
    return Market(request.param)


def sure(market: Market, found: Implied) -> Bools:
    """Contracts that move by more than a thousandth of the spot for a whole unit of volatility."""
    return np.asarray(np.nan_to_num(found.vega) * 100.0 > 1e-3 * market.spot[market.smile])


def test_the_volatility_that_made_a_price_is_found(market: Market) -> None:
    price = market.price(market.vol)
    found = market.implied(price, price)
    told = sure(market, found)
    assert told.mean() > 0.7
    error = np.abs(found.iv_mid - market.vol)[told]
    assert np.quantile(error, 0.99) < 2e-5
    assert np.quantile(error, 0.999) < 1e-3
    np.testing.assert_allclose(found.iv_bid[told], found.iv_mid[told], atol=2e-5)
    np.testing.assert_allclose(found.iv_ask[told], found.iv_mid[told], atol=2e-5)


def test_bid_mid_and_ask_have_their_own(market: Market) -> None:
    bid, ask = market.price(market.vol - HALF), market.price(market.vol + HALF)
    found = market.implied(bid, ask)
    told = sure(market, found) & (bid > market.exercised * (1 + 1e-6))
    assert np.quantile(np.abs(found.iv_bid - market.vol + HALF)[told], 0.99) < 1e-4
    assert np.quantile(np.abs(found.iv_ask - market.vol - HALF)[told], 0.99) < 1e-4
    assert (found.iv_bid[told] <= found.iv_mid[told]).all()
    assert (found.iv_mid[told] <= found.iv_ask[told]).all()


def test_greeks_are_slopes_of_the_price(market: Market) -> None:
    price = market.price(market.vol)
    found = market.implied(price, price)
    # Away from where it is exercised now: there the price has a kink in its second derivative.
    told = sure(market, found) & (price > market.exercised + 1e-3 * market.strike)
    spot = market.spot[market.smile]

    def slope(name: str, values: Floats, step: Floats) -> Floats:
        up, down = (market.price(market.vol, **{name: values + sign * step}) for sign in (1.0, -1.0))
        return (up - down) / (2.0 * step[market.smile])

    move = 1e-3 * market.spot
    delta = slope("spot", market.spot, move)
    assert np.quantile(np.abs(found.delta - delta)[told], 0.99) < 3e-4
    up, down = (market.price(market.vol, spot=market.spot + sign * move) for sign in (1.0, -1.0))
    gamma = (up - 2.0 * price + down) / move[market.smile] ** 2
    assert np.quantile((np.abs(found.gamma - gamma) * spot)[told], 0.95) < 0.02
    vega = (market.price(market.vol + 1e-3) - market.price(market.vol - 1e-3)) / 2e-3 / 100.0
    assert np.quantile((np.abs(found.vega - vega) / spot)[told], 0.99) < 2e-5
    rho = slope("rate", market.rate, np.full(SMILES, 2e-4)) / 100.0
    assert np.quantile((np.abs(found.rho - rho) / spot)[told], 0.99) < 2e-4
    theta = -slope("years", market.years, 1e-3 * market.years) / 365.0
    assert np.quantile((np.abs(found.theta - theta) / spot)[told], 0.95) < 2e-5


def test_early_exercise_is_what_the_prices_differ_by() -> None:
    market = Market(american_style=True)
    price = market.price(market.vol)
    found = market.implied(price, price)
    spot, rate, carry, years = (each[market.smile] for each in (market.spot, market.rate, market.carry, market.years))
    european = black_scholes.price(spot, market.strike, years, market.vol, market.call, rate, carry)
    told = sure(market, found)
    off = np.abs(found.exercise_premium - (price - european)) / spot
    assert np.quantile(off[told], 0.99) < 1e-6
    assert off[told].max() < 2e-5
    assert (found.exercise_premium[told] > 0.01).any()


def one(call: bool, bid: float, ask: float, *, american_style: bool = True, years: float = 0.5) -> tuple[Implied, str]:
    """A contract of strike 100 on 100, 4 %, no carry."""
    grown = np.exp(0.04 * years)
    smiles = Smiles(
        np.array([years]),
        np.array([100.0 * grown]),
        np.array([1.0 / grown]),
        np.array([100.0]),
        np.array([american_style]),
    )
    quotes = Quotes(np.array([0]), np.array([call]), np.array([100.0]), np.array([bid]), np.array([ask]))
    found = implied(smiles, quotes)
    return found, REASONS[found.reason[0]]


@pytest.mark.parametrize("american_style", [False, True])
def test_what_a_quote_does_not_tell_is_null_and_has_a_reason(american_style: bool) -> None:
    whole, reason = one(False, 6.0, 6.4, american_style=american_style)
    assert reason == ""
    assert whole.iv_bid[0] < whole.iv_mid[0] < whole.iv_ask[0]
    no_bid, reason = one(False, np.nan, 6.4, american_style=american_style)
    assert reason == "no_bid"
    assert np.isnan(no_bid.iv_bid[0])
    assert np.isnan(no_bid.iv_mid[0])
    assert no_bid.iv_ask[0] == pytest.approx(whole.iv_ask[0], abs=1e-6)
    assert np.isfinite(no_bid.delta[0])
    assert one(True, 0.5, 0.6, american_style=american_style)[1] == "below_intrinsic"
    assert one(True, 120.0, 130.0, american_style=american_style)[1] == "above_bound"
    expired, reason = one(True, 0.5, 0.6, american_style=american_style, years=-0.01)
    assert reason == "expired"
    assert np.isnan([expired.iv_bid[0], expired.iv_mid[0], expired.iv_ask[0], expired.delta[0]]).all()


def test_a_smile_is_answered_the_same_whatever_is_beside_it() -> None:
    market = Market(american_style=True)
    price = market.price(market.vol)
    together = market.implied(price * 0.99, price * 1.01)
    rows = market.smile == 7
    alone = implied(
        Smiles(*(getattr(market.smiles, name)[[7]] for name in ("years", "forward", "discount", "spot", "american"))),
        Quotes(
            np.zeros(rows.sum(), np.int64),
            market.call[rows],
            market.strike[rows],
            price[rows] * 0.99,
            price[rows] * 1.01,
        ),
    )
    for name in ("iv_bid", "iv_mid", "iv_ask", "delta", "gamma", "theta", "vega", "rho", "exercise_premium", "reason"):
        np.testing.assert_array_equal(getattr(together, name)[rows], getattr(alone, name))
