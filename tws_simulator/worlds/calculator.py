"""The model as a calculator: a volatility out of a price, a price out of a volatility. Pure."""

from dataclasses import dataclass

from option_pricing import black_scholes as pricing
from tws_simulator.worlds.instruments import Option
from tws_simulator.worlds.world import UNSET_MODEL, Model, ModelSettings


@dataclass(frozen=True, slots=True)
class Valued:
    """An option, ``years`` before it expires, while a share of its underlying costs ``spot`` dollars."""

    option: Option
    spot: float
    years: float
    settings: ModelSettings


def at_price(valued: Valued, price: float) -> Model:
    """The model at which the option is worth `price` dollars; unset where there is none."""
    if valued.spot <= 0 or price <= 0:
        return UNSET_MODEL
    iv = float(pricing.implied_vol(price, *_terms(valued)))
    return UNSET_MODEL if iv != iv else at_volatility(valued, iv)


def at_volatility(valued: Valued, volatility: float) -> Model:
    """The model at an annualised `volatility`; unset where one of the two is no positive number."""
    if valued.spot <= 0 or volatility <= 0:
        return UNSET_MODEL
    spot, strike, years, call, rate, dividend_yield = _terms(valued)
    worth = pricing.value(spot, strike, years, volatility, call, rate, dividend_yield)
    delta, price, gamma, vega, theta = (
        float(one) for one in (worth.delta, worth.price, worth.gamma, worth.vega, worth.theta)
    )
    return Model(volatility, delta, price, 0.0, gamma, vega, theta, spot)


def _terms(valued: Valued) -> tuple[float, float, float, bool, float, float]:
    option, settings = valued.option, valued.settings
    call = option.right == "C"
    return valued.spot, option.strike, valued.years, call, settings.rate, settings.dividend_yield
