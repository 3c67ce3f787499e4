"""American options under continuous carry: values by the integral equation of their exercise boundary. Pure.

An American put is worth a European one and the interest that early exercise earns below a boundary B(t), less the carry
it forgoes there (Kim, "The Analytic Valuation of American Options", 1990). The boundary solves a fixed-point equation,
which is iterated at Chebyshev nodes in the root of time (Andersen, Lake and Offengenden, "High Performance American
Option Pricing", 2016, their system A). A call is a put with underlying and strike, rate and carry changed for each
other (McDonald and Schroder, 1998).

Where the rate is not above 0 a put is never exercised early (a call where the carry is not), and it is worth its
European twin. With both below 0, and the rate the higher one, there are two boundaries: those puts are NaN, as are such
calls.

`carry` is dividends and borrow together, F = spot exp((rate - carry) years). Dollars per share, years ACT/365.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from option_pricing.black_scholes import Floats
from option_pricing.segments import Bools, Ints

# Boundaries found together: their arrays fit a processor's cache.
CHUNK = 256
_INVERSE_SQRT_2PI = 1.0 / np.sqrt(2.0 * np.pi)
_LEAST = 1e-300
# A rate, a year, that earns nothing.
NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a boundary costs, and how exact it is; the tables are the same for all options.

    `nodes` in the root of time, `points` of each integral of the iteration, `price_points` of that of the price, and
    `rounds` of iteration.
    """

    nodes: int
    points: int
    price_points: int
    rounds: int

    @property
    def tables(self) -> "_Tables":
        """Nodes, quadratures, and what interpolates between them."""
        if self not in _TABLES:
            _TABLES[self] = _Tables.of(self)
        return _TABLES[self]


# Prices within 6e-7 of the spot, 1e-11 in the median (3,000 options against QuantLib's QdFp engine at high precision).
EXACT = Scheme(nodes=12, points=24, price_points=48, rounds=6)
# Within 2e-6 of the spot, 1e-10 in the median, at a third of the cost.
FAST = Scheme(nodes=8, points=16, price_points=24, rounds=6)
_TABLES: dict[Scheme, "_Tables"] = {}


@dataclass(frozen=True, slots=True)
class _Tables:
    """Of time shares: `root`, of the nodes; `ahead`, t / tau at the points; what carries node values to points."""

    root: Floats
    ahead: Floats
    weight: Floats
    to_points: Floats
    price_ahead: Floats
    price_weight: Floats
    to_price: Floats

    @classmethod
    def of(cls, scheme: Scheme) -> "_Tables":
        nodes = np.cos(np.pi * np.arange(scheme.nodes + 1) / scheme.nodes)
        root = 0.5 * (1.0 + nodes)
        y, weight = np.polynomial.legendre.leggauss(scheme.points)
        py, price_weight = np.polynomial.legendre.leggauss(scheme.price_points)
        # With t = tau (1 + y)^2 / 4 the root of time that the integrals have in their denominators is gone.
        ahead, price_ahead = 0.25 * (1.0 + y) ** 2, 0.25 * (1.0 + py) ** 2
        places = root[:-1, None] * np.sqrt(1.0 - ahead)
        return cls(
            root[:-1],
            ahead,
            0.5 * weight * (1.0 + y),
            interpolation(nodes, 2.0 * places - 1.0),
            price_ahead,
            0.5 * price_weight * (1.0 + py),
            interpolation(nodes, 2.0 * np.sqrt(1.0 - price_ahead) - 1.0),
        )


def interpolation(nodes: Floats, at: Floats) -> Floats:
    """Barycentric weights of Chebyshev `nodes` for each place: values at the nodes times these are values there."""
    weights = np.where(np.arange(nodes.size) % 2, -1.0, 1.0)
    weights[[0, -1]] *= 0.5
    off = at[..., None] - nodes
    hit = np.abs(off) < 1e-14
    terms = weights / np.where(hit, 1.0, off)
    found = terms / terms.sum(axis=-1, keepdims=True)
    return np.where(hit.any(axis=-1, keepdims=True), hit.astype(float), found)


@dataclass(frozen=True, slots=True)
class Puts:
    """Puts of strike 1, one a row: ``rate`` > 0, ``carry``, ``vol`` > 0, ``years`` > 0."""

    rate: Floats
    carry: Floats
    vol: Floats
    years: Floats

    def take(self, rows: Ints | slice) -> "Puts":
        """The puts of `rows`."""
        return Puts(self.rate[rows], self.carry[rows], self.vol[rows], self.years[rows])


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Exercise boundaries of puts of strike 1, one a row, as logarithms of the underlying.

    ``now``: at full time to expiry; ``price_nodes``: at the points of the integral of the price.
    """

    now: Floats
    price_nodes: Floats


@np.errstate(all="ignore")
def boundaries(puts: Puts, scheme: Scheme = EXACT) -> Boundaries:
    """The exercise boundary of each put."""
    count = puts.rate.size
    now, nodes = np.empty(count), np.empty((count, scheme.price_points))
    for first in range(0, count, CHUNK):
        rows = np.arange(first, min(first + CHUNK, count))
        # Always so many at once: the last digits of a product of matrices depend on how many rows it has, and a day
        # that is built again has to come out the same.
        found, at_points = _solve(puts.take(np.resize(rows, CHUNK)), scheme)
        now[rows], nodes[rows] = found[: rows.size], at_points[: rows.size]
    return Boundaries(now, nodes)


def _solve(puts: Puts, scheme: Scheme) -> tuple[Floats, Floats]:
    tables = scheme.tables
    rate, carry, vol = (each[:, None] for each in (puts.rate, puts.carry, puts.vol))
    drift = rate - carry
    # At expiry: where interest and carry balance. Beyond it nothing is exercised.
    last = np.where(carry > rate, np.log(np.maximum(rate, _LEAST) / np.maximum(carry, _LEAST)), 0.0)
    tau = puts.years[:, None] * tables.root**2
    root = np.sqrt(tau)
    log_b = np.minimum(_guess(rate, carry, vol, tau, root, last), last - 1e-12)
    t = tau[:, :, None] * tables.ahead
    deviation = vol[:, :, None] * np.sqrt(t)
    shift = (drift[:, :, None] - 0.5 * vol[:, :, None] ** 2) * t
    earned = np.exp(rate[:, :, None] * (tau[:, :, None] - t))
    forgone = np.exp(carry[:, :, None] * (tau[:, :, None] - t))
    plain = tables.weight * tau[:, :, None]
    steep = plain / deviation
    own_deviation = vol * root
    own_shift = (drift - 0.5 * vol**2) * tau
    for _ in range(scheme.rounds):
        at_points = last[:, :, None] - _root(_squares(log_b, last), tables.to_points)
        minus = (log_b[:, :, None] - at_points + shift) / deviation
        plus = minus + deviation
        own_minus = (log_b + own_shift) / own_deviation
        own_plus = own_minus + own_deviation
        top = _density(own_minus) / own_deviation + rate * np.sum(steep * earned * _density(minus), axis=-1)
        bottom = _density(own_plus) / own_deviation + ndtr(own_plus)
        bottom += carry * np.sum(forgone * (plain * ndtr(plus) + steep * _density(plus)), axis=-1)
        log_b = np.minimum(np.log(top / bottom) - drift * tau, last - 1e-13)
    squares = _squares(log_b, last)
    at_price = last - np.sqrt(np.maximum(squares @ tables.to_price.T, 0.0))
    return log_b[:, 0], at_price


def _guess(rate: Floats, carry: Floats, vol: Floats, tau: Floats, root: Floats, last: Floats) -> Floats:
    """From the boundary at expiry to that of a perpetual put (the shape of Bjerksund and Stensland, 1993)."""
    tilt = (rate - carry) / vol**2 - 0.5
    power = -tilt - np.sqrt(tilt**2 + 2.0 * rate / vol**2)
    never, start = power / (power - 1.0), np.exp(last)
    fall = ((rate - carry) * tau - 2.0 * vol * root) * start / (start - never)
    return np.log(np.maximum(never + (start - never) * np.exp(np.minimum(fall, 0.0)), 1e-12))


def _squares(log_b: Floats, last: Floats) -> Floats:
    """What is smooth in the root of time: the square of the distance from the boundary at expiry, which ends at 0."""
    return np.concatenate(((log_b - last) ** 2, np.zeros_like(last)), axis=1)


def _root(squares: Floats, to_points: Floats) -> Floats:
    nodes, points, columns = to_points.shape
    flat = squares @ to_points.reshape(nodes * points, columns).T
    return np.asarray(np.sqrt(np.maximum(flat, 0.0)).reshape(-1, nodes, points))


def _density(x: Floats) -> Floats:
    return np.asarray(_INVERSE_SQRT_2PI * np.exp(-0.5 * x * x))


@np.errstate(all="ignore")
def put_premium(log_spot: Floats, puts: Puts, price_nodes: Floats, scheme: Scheme = EXACT) -> Floats:
    """What early exercise adds to puts of strike 1, by their boundaries at the points of the price."""
    tables = scheme.tables
    t = puts.years[:, None] * tables.price_ahead
    deviation = puts.vol[:, None] * np.sqrt(t)
    rate, carry = puts.rate[:, None], puts.carry[:, None]
    minus = (log_spot[:, None] - price_nodes + (rate - carry) * t) / deviation - 0.5 * deviation
    earned = rate * np.exp(-rate * t) * ndtr(-minus)
    forgone = carry * np.exp(log_spot[:, None] - carry * t) * ndtr(-minus - deviation)
    return np.asarray(puts.years * np.sum((earned - forgone) * tables.price_weight, axis=-1))


@np.errstate(all="ignore")
def european_put(log_spot: Floats, puts: Puts) -> Floats:
    """The European puts of strike 1."""
    deviation = puts.vol * np.sqrt(puts.years)
    plus = (log_spot + (puts.rate - puts.carry) * puts.years) / deviation + 0.5 * deviation
    strike, spot = np.exp(-puts.rate * puts.years), np.exp(log_spot - puts.carry * puts.years)
    return np.asarray(strike * ndtr(deviation - plus) - spot * ndtr(-plus))


def american_put(log_spot: Floats, puts: Puts, found: Boundaries, scheme: Scheme = EXACT) -> Floats:
    """The American puts of strike 1: exercised at the boundary and below it."""
    held = european_put(log_spot, puts) + np.maximum(put_premium(log_spot, puts, found.price_nodes, scheme), 0.0)
    exercised = 1.0 - np.exp(log_spot)
    return np.where(log_spot <= found.now, exercised, np.maximum(held, exercised))


@dataclass(frozen=True, slots=True)
class AsPuts:
    """Options as puts of strike 1: `unit` is what a price is multiplied by, the strike, or a call's spot."""

    log_spot: Floats
    puts: Puts
    unit: Floats
    never_early: Bools
    unknown: Bools

    @classmethod
    def of(  # noqa: PLR0913 - an option is that many numbers
        cls, call: Bools, spot: Floats, strike: Floats, years: Floats, vol: Floats, rate: Floats, carry: Floats
    ) -> "AsPuts":
        """Arrays of one shape."""
        with np.errstate(all="ignore"):
            own, other = np.where(call, carry, rate), np.where(call, rate, carry)
            log_spot = np.where(call, -1.0, 1.0) * np.log(spot / strike)
            valid = np.isfinite(log_spot + own + other) & (years > 0) & (vol > 0)
        never = (own <= NOTHING) & (other >= own)
        unknown = ~valid | ((own <= 0) & ~never)
        return cls(log_spot, Puts(own, other, vol, years), np.where(call, spot, strike), never, unknown)


def price(  # noqa: PLR0913 - an option is that many numbers
    call: Bools, spot: Floats, strike: Floats, years: Floats, vol: Floats, rate: Floats, carry: Floats
) -> Floats:
    """American option prices, dollars per share; NaN in, NaN out. The arguments broadcast."""
    columns = np.broadcast_arrays(call, spot, strike, years, vol, rate, carry)
    shape = columns[0].shape
    flat = [np.array(column).ravel() for column in columns]
    given = AsPuts.of(flat[0].astype(bool), *(column.astype(float) for column in flat[1:]))
    value = np.where(given.unknown, np.nan, european_put(given.log_spot, given.puts))
    rows = np.flatnonzero(~given.unknown & ~given.never_early)
    puts = given.puts.take(rows)
    value[rows] = american_put(given.log_spot[rows], puts, boundaries(puts))
    return np.asarray((value * given.unit).reshape(shape))
