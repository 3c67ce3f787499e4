"""A market of which everything is known: forwards, discounts and surfaces, and the quotes that makers would show.

The surfaces are SSVI with a power law (Gatheral and Jacquier, 2014, section 4), free of arbitrage. Quotes have ticks,
spreads that grow with the price, and mids off by up to seven tenths of a half-spread. Some are planted wrong: stale or
mistyped.
"""

from dataclasses import dataclass, replace

import numpy as np

from option_pricing import black_scholes
from option_pricing.black_scholes import Floats
from option_pricing.forwards import Smiles
from option_pricing.quotes import Quotes
from option_pricing.segments import Bools, Ints
from option_pricing.svi import Svi, ssvi

EXPIRIES = np.array([0.2, 4, 9, 18, 25, 32, 46, 60, 95, 150, 180, 270, 400, 600, 760]) / 365.0
TICK = 0.01


@dataclass(frozen=True)
class Makers:
    """How quotes are made: `spread`, a part of the price; `planted`, the part of quotes that are wrong."""

    spread: float = 0.01
    planted: float = 0.03
    widest: float = 3.0
    strikes: int = 60


@dataclass(frozen=True)
class KnownMarket:
    """`true_vol` and `planted` have a row a contract; the rest a row a smile."""

    smiles: Smiles
    forward: Floats
    discount: Floats
    surface: Ints
    shape: Floats
    quotes: Quotes
    true_vol: Floats
    planted: Bools


def slice_of(shape: Floats, years: Floats) -> Svi:
    """The true smiles: a row of (first volatility, last volatility, speed, rho, eta, gamma) and a time each."""
    first, last, speed, rho, eta, gamma = np.moveaxis(np.atleast_2d(shape), 1, 0)
    level = last**2 + (first**2 - last**2) * (1.0 - np.exp(-speed * years)) / (speed * years)
    variance = level * years
    return ssvi(variance, rho, eta / (variance**gamma * (1.0 + variance) ** (1.0 - gamma)))


def known_market(surfaces: int, seed: int, makers: Makers = Makers()) -> KnownMarket:
    """Some surfaces, each with every expiry of `EXPIRIES`, from 0DTE to two years."""
    rng = np.random.default_rng(seed)
    low = np.array([0.12, 0.15, 0.5, -0.75, 0.5, 0.35])
    high = np.array([0.5, 0.4, 4.0, -0.1, 1.2, 0.5])
    surface = np.repeat(np.arange(surfaces), EXPIRIES.size)
    shape = rng.uniform(low, high, (surfaces, 6))[surface]
    years = np.tile(EXPIRIES, surfaces)
    spot = rng.uniform(30.0, 500.0, surfaces)[surface]
    forward, discount = spot * np.exp(0.03 * years), np.exp(-0.04 * years)
    truth = slice_of(shape, years)
    deviation = np.sqrt(truth.total_variance(np.zeros((years.size, 1)))[:, 0])
    smile, strike = _strikes(forward, deviation, makers)
    vol = np.sqrt(truth.take(smile).total_variance(np.log(strike / forward[smile])[:, None])[:, 0] / years[smile])
    smile, strike, vol = np.tile(smile, 2), np.tile(strike, 2), np.tile(vol, 2)
    call = np.arange(smile.size) < smile.size // 2
    price = black_scholes.price(forward[smile], strike, years[smile], vol, call) * discount[smile]
    bid, ask, planted = _quoted(price, makers, rng)
    quotes = Quotes(smile, strike, call, bid, ask, np.zeros(smile.size))
    smiles = Smiles(years, np.full(years.size, 0.042), spot, np.zeros(years.size, dtype=bool))
    return KnownMarket(smiles, forward, discount, surface, shape, quotes, vol, planted)


def with_quotes(market: KnownMarket, **changed: Floats) -> KnownMarket:
    """The market with other bids or asks."""
    return replace(market, quotes=replace(market.quotes, **changed))


def _strikes(forward: Floats, deviation: Floats, makers: Makers) -> tuple[Ints, Floats]:
    """A lattice of listed strikes around each forward, as wide as the makers quote."""
    smiles, strikes = [], []
    for number, (center, width) in enumerate(zip(forward, deviation, strict=True)):
        low, high = center * np.exp(-makers.widest * width), center * np.exp(makers.widest * width)
        step = next(step for step in (0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0) if (high - low) / step <= makers.strikes)
        listed = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
        strikes.append(listed[listed > 0])
        smiles.append(np.full(strikes[-1].size, number))
    return np.concatenate(smiles), np.concatenate(strikes)


def _quoted(price: Floats, makers: Makers, rng: np.random.Generator) -> tuple[Floats, Floats, Bools]:
    half = np.maximum(TICK / 2, makers.spread * price + TICK) * rng.uniform(0.7, 1.3, price.size)
    mid = price + rng.uniform(-0.7, 0.7, price.size) * half
    bid = np.floor(np.maximum(mid - half, 0.0) / TICK + 1e-9) * TICK
    ask = np.ceil((mid + half) / TICK - 1e-9) * TICK
    planted = rng.random(price.size) < makers.planted
    wrong = rng.choice([-1.0, 1.0], price.size) * rng.uniform(0.1, 0.5, price.size) * np.maximum(price, 0.3)
    bid = np.maximum(np.where(planted, bid + wrong, bid), 0.0)
    return bid, np.maximum(np.where(planted, ask + wrong, ask), bid + TICK), planted
