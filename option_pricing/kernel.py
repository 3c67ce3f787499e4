"""Volatilities and greeks of quotes, many smiles at once: what a database engine calls in batches. Pure.

A contract comes with the time, forward and discount of its smile (`option_pricing.forwards`): rate and carry follow
from them, and where no spot is known it is that of the forward, S = F D. European contracts, and American ones that are
never exercised early, are valued by the closed formula; the others by `american_vols`.

Greeks are those of the volatility at mid, or at the ask where nobody bids, by the same model: ``delta`` per dollar of
the underlying, ``gamma`` per dollar squared, ``theta`` dollars a calendar day, ``vega`` a volatility point, ``rho`` a
point of the rate, with spot and carry as they are.
"""

from dataclasses import dataclass, fields

import numpy as np
from scipy.special import ndtr

from option_pricing import american_vols, black_scholes
from option_pricing.american import AsPuts, european_put
from option_pricing.american_vols import RATE_STEP, Curves, Sides
from option_pricing.black_scholes import DAYS_PER_YEAR, Floats
from option_pricing.segments import Bools, Ints

# Why a contract has no volatility at mid; the first: it has one.
REASONS = ("", "no_bid", "below_intrinsic", "no_time_value", "above_bound", "expired")
# Of the strike: a price this near to what exercise gives tells nothing of volatility.
NO_TIME_VALUE = 1e-7
# American volatilities are sought between these parts of the lowest and highest European ones of their side.
BELOW, ABOVE = 0.5, 1.05


@dataclass(frozen=True, slots=True)
class Smiles:
    """One row a smile. ``years`` (ACT/365), ``forward``, ``discount``; ``spot``, NaN where unknown; ``american``."""

    years: Floats
    forward: Floats
    discount: Floats
    spot: Floats
    american: Bools


@dataclass(frozen=True, slots=True)
class Quotes:
    """One row a contract: the number of its smile, right, strike, and its quote; ``bid`` is NaN without one."""

    smile: Ints
    call: Bools
    strike: Floats
    bid: Floats
    ask: Floats


@dataclass(frozen=True, slots=True)
class Implied:
    """One row a contract; NaN where a number cannot be told. ``reason``: a place in `REASONS`."""

    iv_bid: Floats
    iv_mid: Floats
    iv_ask: Floats
    delta: Floats
    gamma: Floats
    theta: Floats
    vega: Floats
    rho: Floats
    exercise_premium: Floats
    reason: Ints


@dataclass(frozen=True, slots=True)
class _Rows:
    """Contracts with what their smile says, as puts of strike 1."""

    given: Quotes
    years: Floats
    rate: Floats
    carry: Floats
    spot: Floats
    puts: AsPuts

    def take(self, rows: Ints) -> "_Rows":
        quotes = Quotes(*(getattr(self.given, each.name)[rows] for each in fields(Quotes)))
        puts = AsPuts(
            self.puts.log_spot[rows],
            self.puts.puts.take(rows),
            self.puts.unit[rows],
            self.puts.never_early[rows],
            self.puts.unknown[rows],
        )
        return _Rows(quotes, self.years[rows], self.rate[rows], self.carry[rows], self.spot[rows], puts)

    def european(self, price: Floats) -> Floats:
        """The volatility at which a European put of strike 1 has the price."""
        puts = self.puts.puts
        grown = np.exp((puts.rate - puts.carry) * puts.years)
        return black_scholes.implied_vol(
            price * np.exp(puts.rate * puts.years), np.exp(self.puts.log_spot) * grown, 1.0, puts.years, False
        )


@np.errstate(all="ignore")
def implied(smiles: Smiles, quotes: Quotes) -> Implied:
    """Volatilities of bid, mid and ask of every contract, and its greeks."""
    rows = _rows(smiles, quotes)
    found = _nothing(quotes.strike.size)
    early = smiles.american[quotes.smile] & ~rows.puts.never_early
    known = ~rows.puts.unknown
    for chosen, of in ((known & ~early, _european), (known & early, _american)):
        if (at := np.flatnonzero(chosen)).size:
            part = of(rows.take(at))
            for each in fields(Implied):
                getattr(found, each.name)[at] = getattr(part, each.name)
    return _with_reasons(found, rows, early)


def _nothing(count: int) -> Implied:
    columns = {each.name: np.full(count, np.nan) for each in fields(Implied)}
    return Implied(**(columns | {"reason": np.zeros(count, np.int64)}))


def _rows(smiles: Smiles, quotes: Quotes) -> _Rows:
    smile = quotes.smile
    years, forward = smiles.years[smile], smiles.forward[smile]
    rate = -np.log(smiles.discount[smile]) / years
    spot = np.where(np.isfinite(smiles.spot), smiles.spot, smiles.forward * smiles.discount)[smile]
    carry = rate - np.log(forward / spot) / years
    # The volatility is what is looked for.
    any_vol = np.ones(smile.size)
    return _Rows(
        quotes, years, rate, carry, spot, AsPuts.of(quotes.call, spot, quotes.strike, years, any_vol, rate, carry)
    )


def _european(rows: _Rows) -> Implied:
    unit, quotes = rows.puts.unit, rows.given
    iv_bid, iv_mid, iv_ask = (
        rows.european(price / unit) for price in (quotes.bid, 0.5 * (quotes.bid + quotes.ask), quotes.ask)
    )
    vol = np.where(np.isfinite(iv_mid), iv_mid, iv_ask)
    worth = black_scholes.value(rows.spot, quotes.strike, rows.years, vol, quotes.call, rows.rate, rows.carry)
    deviation = vol * np.sqrt(rows.years)
    sign = np.where(quotes.call, 1.0, -1.0)
    plus = (np.log(rows.spot / quotes.strike) + (rows.rate - rows.carry) * rows.years) / deviation + 0.5 * deviation
    exercised = quotes.strike * rows.years * np.exp(-rows.rate * rows.years) * ndtr(sign * (plus - deviation))
    return Implied(
        iv_bid,
        iv_mid,
        iv_ask,
        worth.delta,
        worth.gamma,
        worth.theta,
        worth.vega,
        sign * exercised / 100.0,
        np.where(np.isfinite(vol), 0.0, np.nan),
        np.zeros(vol.size, np.int64),
    )


def _american(rows: _Rows) -> Implied:
    quotes, unit, log_spot = rows.given, rows.puts.unit, rows.puts.log_spot
    bid, ask = quotes.bid / unit, quotes.ask / unit
    mid = 0.5 * (bid + ask)
    exercised = 1.0 - np.exp(log_spot) + NO_TIME_VALUE
    bid, mid, ask = (np.where(price > exercised, price, np.nan) for price in (bid, mid, ask))
    start = rows.european(np.where(np.isfinite(mid), mid, ask))
    side, sides = _sides(rows, start)
    curves = Curves(sides)
    iv_mid = american_vols.implied(curves, side, log_spot, mid, start)
    vol = np.where(np.isfinite(iv_mid), iv_mid, start)
    slope = american_vols.european_vega(sides, side, log_spot, vol)
    iv_bid = american_vols.implied(curves, side, log_spot, bid, vol + (bid - mid) / slope)
    iv_ask = american_vols.implied(
        curves, side, log_spot, ask, np.where(np.isfinite(mid), vol + (ask - mid) / slope, start)
    )
    vol = np.where(np.isfinite(iv_mid), iv_mid, np.where(np.isfinite(bid), np.nan, iv_ask))
    return _greeks(rows, curves, side, vol, (iv_bid, iv_mid, iv_ask))


def _sides(rows: _Rows, start: Floats) -> tuple[Ints, Sides]:
    """The side of its smile that each row is on, and what the rows of a side share."""
    keys, first, side = np.unique(2 * rows.given.smile + rows.given.call, return_index=True, return_inverse=True)
    low, high = np.full(keys.size, np.inf), np.full(keys.size, -np.inf)
    there = np.isfinite(start)
    np.minimum.at(low, side[there], start[there])
    np.maximum.at(high, side[there], start[there])
    empty = ~np.isfinite(low)
    low, high = np.where(empty, 0.1, low * BELOW), np.where(empty, 1.0, high * ABOVE)
    puts = rows.puts.puts
    return side, Sides(puts.rate[first], puts.carry[first], puts.years[first], low, high)


def _greeks(
    rows: _Rows, curves: Curves, side: Ints, vol: Floats, volatilities: tuple[Floats, Floats, Floats]
) -> Implied:
    call, unit, log_spot, spot = rows.given.call, rows.puts.unit, rows.puts.log_spot, rows.spot
    put = american_vols.greeks(curves, side, log_spot, vol)
    sides = curves.sides
    # A call is a put whose own carry is the rate.
    of_call = np.zeros(sides.rate.size, dtype=bool)
    of_call[side] = call
    moved = Sides(
        sides.rate + np.where(of_call, 0.0, RATE_STEP),
        sides.carry + np.where(of_call, RATE_STEP, 0.0),
        sides.years,
        sides.low,
        sides.high,
    )
    price = unit * put.price
    delta = np.where(call, put.price - put.slope, unit * put.slope / spot)
    gamma = unit * (put.bend - put.slope) / spot**2
    # What Black, Scholes and Merton's equation leaves for time; nothing where it would be exercised now.
    decay = rows.rate * price - (rows.rate - rows.carry) * spot * delta - 0.5 * vol**2 * spot**2 * gamma
    puts = rows.puts.puts
    same = type(puts)(puts.rate, puts.carry, vol, puts.years)
    premium = unit * np.maximum(put.price - european_put(log_spot, same), 0.0)
    return Implied(
        *volatilities,
        delta,
        gamma,
        decay / DAYS_PER_YEAR,
        unit * put.vega / 100.0,
        unit * american_vols.by_rate(sides, moved, side, log_spot, vol) / 100.0,
        premium,
        np.zeros(vol.size, np.int64),
    )


def _with_reasons(found: Implied, rows: _Rows, early: Bools) -> Implied:
    quotes = rows.given
    has_bid = np.isfinite(quotes.bid)
    price = np.where(has_bid, 0.5 * (quotes.bid + quotes.ask), quotes.ask)
    sign = np.where(quotes.call, 1.0, -1.0)
    spot, strike = rows.spot * np.exp(-rows.carry * rows.years), quotes.strike * np.exp(-rows.rate * rows.years)
    floor = np.maximum(sign * (spot - strike), 0.0)
    floor = np.where(early, np.maximum(floor, sign * (rows.spot - quotes.strike)), floor)
    bound = np.where(quotes.call, np.where(early, rows.spot, spot), np.where(early, quotes.strike, strike))
    cases = [
        rows.years <= 0,
        np.isfinite(found.iv_mid),
        ~has_bid & np.isfinite(found.iv_ask),
        price < floor - NO_TIME_VALUE * quotes.strike,
        price >= bound,
    ]
    found.reason[:] = np.select(cases, [5, 0, 1, 2, 4], 3)
    return found
