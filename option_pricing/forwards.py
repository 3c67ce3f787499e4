"""Forwards and discounts of many smiles at once, from put-call parity. Pure.

A *smile* is the options of one underlying, trading class and expiry at one instant. A call and a put of one strike, K,
pin its forward F by parity, C - P = D (F - K), to within the half-spreads of the two quotes. This module takes the
pairs of all smiles and finds each smile's forward so that one bad quote moves nothing:

- A pair counts by the inverse square of its half-spread. The start is a weighted median, and Tukey's biweight goes on
  from there (Beaton and Tukey, 1974): by it a pair that is far from the others, measured in half-spreads, counts for
  nothing.
- A European smile's discount D is the slope of the parity line, which boxes trade. Where the quotes say it well enough
  it takes the place of the rate curve's.
- An American put is worth more than parity says, by its right of early exercise, and so is a call before a dividend.
  The premium of both is taken off, at the volatility that the quotes show, until call and put have the same volatility
  at the forward. Far from the money the premium is all there is to a price, so only the nearest pairs count.

Dollars per share; years ACT/365; rates and carry a year, continuously compounded.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from option_pricing.black_scholes import Floats, implied_vol
from option_pricing.early_exercise import exercise_premium
from option_pricing.flags import flag_names
from option_pricing.quotes import Pairs
from option_pricing.segments import Bools, Ints, medians, ranks, sizes, sums, weighted_medians

# Pairs of a smile that count, the nearest to the forward. Parity of American options holds only there.
EUROPEAN_PAIRS, AMERICAN_PAIRS = 60, 6
# Tukey's constant: 95 % efficient where errors are normal.
BIWEIGHT = 4.685
# Half-spreads. Fair values lie anywhere between bid and ask: a pair within 2.3 half-spreads of the others is never
# thrown out, and however well a few pairs agree, their error counts as this at least.
LEAST_SCALE, LEAST_ERROR = 0.5, 0.3
# A half-spread below this part of the smile's median one (a locked market) is taken for it.
LEAST_HALF_SPREAD = 0.25
# Quotes of one smile err together (one model, one tick): a forward is never surer than this part of its best
# half-spread.
COMMON_ERROR = 0.1
# A discount counts as well determined when its rate is known to 25 basis points, from at least so many pairs.
RATE_ERROR, DISCOUNT_PAIRS = 0.0025, 8
# Further from the curve than any funding spread: such a slope is the work of bad quotes.
LARGEST_RATE_GAP = 0.03
# An error of the forward, as a part of it, at which its confidence is one half; 0.8 is at half of it, 2 basis points.
HALF_CONFIDENCE = 4e-4
ROUNDS = 30
# The scale is found in the first rounds. In later ones it would go to and fro between two neighbours of the median.
SCALE_ROUNDS = 4
# A forward that moves by less than this part of itself stands.
STANDING = 1e-9
# A round leaves a tenth to a quarter of the error that early exercise makes; the last two tell where the next would go.
EXERCISE_ROUNDS = 3
# A year. A quarter of an hour from expiry, one basis point between two clocks is a carry of 350 %.
LARGEST_CARRY = 1.0
FEW_PAIRS = 3

# (spot, strike, years, vol, call, rate, carry) -> what early exercise adds to the price, dollars per share.
Premium = Callable[[Floats, Floats, Floats, Floats, Bools, Floats, Floats], Floats]


@dataclass(frozen=True, slots=True)
class Smiles:
    """What is known of each smile before its quotes are read; one row a smile.

    ``years`` to expiry; ``rate`` of the curve for that time; ``spot`` of the underlying at that instant, NaN where it
    is not known; ``american`` true where the options can be exercised early.
    """

    years: Floats
    rate: Floats
    spot: Floats
    american: Bools


@dataclass(frozen=True, slots=True)
class Forwards:
    """One row a smile; NaN where no pair says it.

    ``forward`` and its standard error ``forward_error``, dollars per share; ``discount`` and ``discount_error`` (NaN
    when it is the curve's); ``carry``, a year: dividends and borrow together, F = S exp((r - carry) t), and
    ``carry_error``; ``dividends``, the present value of what the forward goes without, dollars per share; ``pairs``
    that counted; ``residual``, root mean square distance from parity in half-spreads; ``r2`` of the parity line;
    ``confidence`` from 0 to 1: 0.8 stands for an error of 2 basis points, one half for 4. Flags: ``discount_implied``
    (from parity, not the curve), ``outliers`` (a pair was thrown out), ``few_pairs`` (fewer than three counted).
    """

    forward: Floats
    forward_error: Floats
    discount: Floats
    discount_error: Floats
    carry: Floats
    carry_error: Floats
    dividends: Floats
    pairs: Ints
    residual: Floats
    r2: Floats
    confidence: Floats
    discount_implied: Bools
    outliers: Bools
    few_pairs: Bools

    def flags(self) -> list[list[str]]:
        """The names of the flags of each smile."""
        return flag_names(discount_implied=self.discount_implied, outliers=self.outliers, few_pairs=self.few_pairs)


@dataclass(frozen=True, slots=True)
class _Parity:
    """The usable pairs: what parity needs of them."""

    smile: Ints
    strike: Floats
    difference: Floats
    half: Floats
    count: int

    def take(self, kept: Bools) -> "_Parity":
        return _Parity(self.smile[kept], self.strike[kept], self.difference[kept], self.half[kept], self.count)


@dataclass(frozen=True, slots=True)
class _Line:
    """A fitted parity line of each smile, and what its pairs said. `weight` is a row a pair."""

    forward: Floats
    discount: Floats
    forward_error: Floats
    discount_error: Floats
    weight: Floats


@np.errstate(all="ignore")
def imply_forwards(smiles: Smiles, pairs: Pairs, premium: Premium | None = exercise_premium) -> Forwards:
    """The forward of every smile. `premium` values early exercise: with None American pairs are taken for European."""
    count = smiles.years.size
    parity, kept = _usable(pairs, count)
    curve = np.exp(-smiles.rate * smiles.years)
    start = _start(_floored(parity), curve)
    near = _near(parity, start, smiles.american)
    parity, kept = _floored(parity.take(near)), kept[near]
    line = _european(parity, smiles, curve, start)
    adjusted = parity
    if premium is not None and smiles.american.any():
        adjusted, line = _american(smiles, parity, pairs.take(kept), line, premium)
    return _describe(smiles, adjusted, line)


def _usable(pairs: Pairs, count: int) -> tuple[_Parity, Ints]:
    """The pairs with two quotes of a width, and their rows."""
    half = 0.5 * (pairs.call_ask - pairs.call_bid + pairs.put_ask - pairs.put_bid)
    difference = 0.5 * (pairs.call_bid + pairs.call_ask - pairs.put_bid - pairs.put_ask)
    rows = np.flatnonzero(np.isfinite(difference) & (half >= 0) & (pairs.strike > 0))
    return _Parity(pairs.smile[rows], pairs.strike[rows], difference[rows], half[rows], count), rows


def _floored(parity: _Parity) -> _Parity:
    """No half-spread far below the usual one of its smile."""
    usual = medians(parity.half, parity.smile, parity.count)[parity.smile]
    return replace(parity, half=np.maximum.reduce([parity.half, LEAST_HALF_SPREAD * usual, 1e-6 * parity.strike]))


def _start(parity: _Parity, discount: Floats) -> Floats:
    """A first forward that half of the quotes, by weight, would have to be wrong to spoil."""
    implied = parity.strike + parity.difference / discount[parity.smile]
    return weighted_medians(implied, 1.0 / parity.half, parity.smile, parity.count)


def _near(parity: _Parity, start: Floats, american: Bools) -> Bools:
    place = ranks(np.abs(parity.strike - start[parity.smile]), parity.smile, parity.count)
    return np.asarray(place < np.where(american, AMERICAN_PAIRS, EUROPEAN_PAIRS)[parity.smile])


def _european(parity: _Parity, smiles: Smiles, curve: Floats, start: Floats) -> _Line:
    """The parity line with the curve's discount, or with its own where that is well determined."""
    held = _fit(parity, curve, start, free=np.zeros(parity.count, dtype=bool))
    wanted = ~smiles.american & (sizes(parity.smile, parity.count) >= DISCOUNT_PAIRS)
    if not wanted.any():
        return held
    own = _fit(parity, curve, held.forward, free=wanted)
    rate_error = own.discount_error / (own.discount * smiles.years)
    gap = np.abs(np.log(own.discount) / smiles.years + smiles.rate)
    sure = wanted & (rate_error <= RATE_ERROR) & (gap <= LARGEST_RATE_GAP)
    return _Line(
        np.where(sure, own.forward, held.forward),
        np.where(sure, own.discount, curve),
        np.where(sure, own.forward_error, held.forward_error),
        np.where(sure, own.discount_error, np.nan),
        np.where(sure[parity.smile], own.weight, held.weight),
    )


def _fit(parity: _Parity, discount: Floats, start: Floats, free: Bools) -> _Line:
    """Iteratively reweighted least squares of C - P = D (F - K), D given except where it is `free`.

    Around the start, x = K - start: the line's height is D (F - start), its slope -D.
    """
    group, count = parity.smile, parity.count
    x = parity.strike - start[group]
    height, slope, scale = np.zeros(count), discount, np.full(count, np.inf)
    for turn in range(ROUNDS):
        error = (parity.difference - height[group] + slope[group] * x) / parity.half
        if turn < SCALE_ROUNDS:
            scale = np.maximum(LEAST_SCALE, 1.4826 * medians(np.abs(error), group, count))
        moments = _Moments.of(parity, x, _biweight(error / scale[group]) / parity.half**2)
        higher, steeper = moments.line(discount, free)
        # A smile that stands is left as it is, so that its answer does not depend on the others'.
        moving = (np.abs(higher - height) > STANDING * np.abs(start)) | (turn < SCALE_ROUNDS)
        height, slope = np.where(moving, higher, height), np.where(moving, steeper, slope)
        if not moving.any():
            break
    share = moments.weight * parity.half**2
    error = (parity.difference - height[group] + slope[group] * x) / parity.half
    spread = np.sqrt(sums(share * error**2, group, count) / sums(share, group, count))
    spread = np.maximum(LEAST_ERROR, spread)
    slope_error = np.where(free, spread / np.sqrt(moments.spread_x), np.nan)
    by_slope = np.where(free, slope_error * (moments.mean_x - height / slope), 0.0)
    common = COMMON_ERROR * _least(np.where(share > 0, parity.half, np.inf), group, count)
    forward_error = np.sqrt(spread**2 / moments.total + common**2 + by_slope**2) / slope
    forward = np.where(moments.total > 0, start + height / slope, np.nan)
    return _Line(forward, slope, np.where(moments.total > 0, forward_error, np.nan), slope_error, moments.weight)


def _biweight(error: Floats) -> Floats:
    """Tukey's weight of an error in units of its scale: one at none, zero from `BIWEIGHT` on."""
    return np.where(np.abs(error) < BIWEIGHT, (1.0 - (error / BIWEIGHT) ** 2) ** 2, 0.0)


def _least(values: Floats, group: Ints, count: int) -> Floats:
    answer = np.full(count, np.inf)
    np.minimum.at(answer, group, values)
    return answer


@dataclass(frozen=True, slots=True)
class _Moments:
    """Weighted sums of the pairs of each smile, x around the smile's start, y what call and put differ by."""

    weight: Floats
    total: Floats
    mean_x: Floats
    mean_y: Floats
    spread_x: Floats
    cross: Floats

    @classmethod
    def of(cls, parity: _Parity, x: Floats, weight: Floats) -> "_Moments":
        group, count = parity.smile, parity.count
        total = sums(weight, group, count)
        mean_x = sums(weight * x, group, count) / total
        mean_y = sums(weight * parity.difference, group, count) / total
        off = x - mean_x[group]
        spread_x = sums(weight * off**2, group, count)
        return cls(weight, total, mean_x, mean_y, spread_x, sums(weight * off * parity.difference, group, count))

    def line(self, discount: Floats, free: Bools) -> tuple[Floats, Floats]:
        """Height at x = 0, and slope (its sign turned)."""
        own = -self.cross / self.spread_x
        slope = np.where(free & (own > 0), own, discount)
        return self.mean_y + slope * self.mean_x, slope


def _american(smiles: Smiles, parity: _Parity, pairs: Pairs, line: _Line, premium: Premium) -> tuple[_Parity, _Line]:
    """Parity of what the American pairs are worth without early exercise, to the forward where both sides agree."""
    sides = _Sides.of(smiles, pairs)
    none = np.zeros(parity.count, dtype=bool)
    path = [line.forward]
    for _ in range(EXERCISE_ROUNDS):
        difference = parity.difference.copy()
        difference[sides.rows] = sides.without_exercise(smiles, line, premium)
        adjusted = replace(parity, difference=difference)
        fitted = _fit(adjusted, line.discount, line.forward, free=none)
        line = _merge(smiles.american, parity.smile, fitted, line)
        path.append(line.forward)
    # The steps shrink by a constant factor: where they go (Aitken, 1926) is known before they are there.
    first, second = path[-2] - path[-3], path[-1] - path[-2]
    rest = np.where(np.abs(second) < 0.5 * np.abs(first), second**2 / (first - second), 0.0)
    shifted = adjusted.difference + (line.discount * rest)[parity.smile]
    return replace(adjusted, difference=shifted), replace(line, forward=line.forward + rest)


@dataclass(frozen=True, slots=True)
class _Sides:
    """The mids of the American pairs, whose `rows` they are, and what early exercise is worth of them (in place)."""

    rows: Ints
    smile: Ints
    strike: Floats
    call: Floats
    put: Floats
    early_call: Floats
    early_put: Floats

    @classmethod
    def of(cls, smiles: Smiles, pairs: Pairs) -> "_Sides":
        rows = np.flatnonzero(smiles.american[pairs.smile])
        call, put = 0.5 * (pairs.call_bid + pairs.call_ask), 0.5 * (pairs.put_bid + pairs.put_ask)
        nothing = np.zeros(rows.size)
        return cls(rows, pairs.smile[rows], pairs.strike[rows], call[rows], put[rows], nothing, nothing.copy())

    def without_exercise(self, smiles: Smiles, line: _Line, premium: Premium) -> Floats:
        """Call less put, both without what early exercise is worth at this forward and the volatility of the quotes."""
        group = self.smile
        forward, discount = line.forward[group], line.discount[group]
        years, rate, spot = smiles.years[group], smiles.rate[group], smiles.spot[group]
        spot = np.where(np.isfinite(spot), spot, forward * discount)
        carry = np.clip(rate - np.log(forward / spot) / years, -LARGEST_CARRY, LARGEST_CARRY)
        is_call = self.strike >= forward
        european = np.where(is_call, self.call - self.early_call, self.put - self.early_put)
        vol = implied_vol(european / discount, forward, self.strike, years, is_call)
        usual = medians(vol, group, smiles.years.size)[group]
        vol = np.clip(np.where(np.isfinite(vol), vol, usual), 0.5 * usual, 2.0 * usual)
        for early, right in ((self.early_call, True), (self.early_put, False)):
            worth = premium(spot, self.strike, years, vol, np.full(group.size, right), rate, carry)
            early[:] = np.where(np.isfinite(worth), worth, 0.0)
        return self.call - self.early_call - self.put + self.early_put


def _merge(american: Bools, group: Ints, fitted: _Line, line: _Line) -> _Line:
    return _Line(
        np.where(american, fitted.forward, line.forward),
        line.discount,
        np.where(american, fitted.forward_error, line.forward_error),
        line.discount_error,
        np.where(american[group], fitted.weight, line.weight),
    )


def _describe(smiles: Smiles, parity: _Parity, line: _Line) -> Forwards:
    group, count = parity.smile, parity.count
    counted = line.weight > 0
    pairs = sums(counted.astype(float), group, count)
    distance = parity.difference - line.discount[group] * (line.forward[group] - parity.strike)
    weight = np.where(counted, line.weight, 0.0)
    residual = np.sqrt(sums(np.where(counted, (distance / parity.half) ** 2, 0.0), group, count) / pairs)
    mean = sums(weight * parity.difference, group, count) / sums(weight, group, count)
    about = sums(weight * (parity.difference - mean[group]) ** 2, group, count)
    r2 = np.where(pairs >= 2, 1.0 - sums(weight * distance**2, group, count) / about, np.nan)
    relative = line.forward_error / line.forward
    rate = -np.log(line.discount) / smiles.years
    confidence = (1.0 - 0.5**pairs) / (1.0 + (relative / HALF_CONFIDENCE) ** 2)
    return Forwards(
        forward=line.forward,
        forward_error=line.forward_error,
        discount=line.discount,
        discount_error=line.discount_error,
        carry=rate - np.log(line.forward / smiles.spot) / smiles.years,
        carry_error=relative / smiles.years,
        dividends=smiles.spot - line.forward * line.discount,
        pairs=pairs.astype(np.int64),
        residual=residual,
        r2=r2,
        confidence=np.nan_to_num(confidence),
        discount_implied=np.isfinite(line.discount_error),
        outliers=sums((~counted).astype(float), group, count) > 0,
        few_pairs=pairs < FEW_PAIRS,
    )
