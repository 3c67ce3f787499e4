"""The comparisons of docs/quality.md once more, quote by quote in plain Python, to hold the SQL against.

A quote is a dict with the columns of clean.intraday of a good row, and ``spot``, ``asof_s`` (seconds since an instant
that all quotes share) and ``multiplier``. A finding is (flag, conid, slot).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from statistics import median
from typing import Any

Quote = dict[str, Any]
Finding = tuple[str, int, int]

SKEW = 60.0
TICK = 0.001


def findings(quotes: Iterable[Quote]) -> set[Finding]:
    """What the comparisons find at fault among the good intraday quotes of one date."""
    smiles: dict[Any, list[Quote]] = defaultdict(list)
    contracts: dict[int, list[Quote]] = defaultdict(list)
    found: set[Finding] = set()
    for quote in quotes:
        series = (quote["underlying"], quote["trading_class"], quote["multiplier"], quote["expiry"])
        smiles[series, quote["slot_30m"]].append(quote)
        contracts[quote["conid"]].append(quote)
        if below_intrinsic(quote):
            found.add(("below_intrinsic", quote["conid"], quote["slot_30m"]))
    for slots in contracts.values():
        ordered = sorted(slots, key=lambda quote: quote["slot_30m"])
        found |= {_finding("stale_quote", later) for earlier, later in pairwise(ordered) if is_stale(earlier, later)}
    for smile in smiles.values():
        for right in "CP":
            found |= set(ladder([quote for quote in smile if quote["right"] == right]))
        found |= set(parity(smile))
    return found


def _finding(flag: str, quote: Quote) -> Finding:
    return flag, quote["conid"], quote["slot_30m"]


def below_intrinsic(quote: Quote) -> bool:
    spot, strike = quote["spot"], quote["strike"]
    if spot is None:
        return False
    intrinsic = spot - strike if quote["right"] == "C" else strike - spot
    return bool(intrinsic - quote["ask"] > max(TICK, 0.0002 * spot))


def is_stale(earlier: Quote, later: Quote) -> bool:
    if any(earlier[column] != later[column] for column in ("bid", "ask", "bid_size", "ask_size")):
        return False
    if earlier["spot"] is None or later["spot"] is None:
        return False
    deltas = [abs(quote["delta"]) for quote in (earlier, later) if quote["delta"] is not None]
    move = abs(later["spot"] - earlier["spot"])
    if not deltas or move <= 0.001 * earlier["spot"]:
        return False
    spread = later["ask"] - (later["bid"] or 0)
    return bool(min(deltas) * move > max(0.05, spread / 2))


def ladder(quotes: list[Quote]) -> Iterator[Finding]:
    """Strikes of one right: `strike_monotonicity` for two neighbours, `butterfly_violation` for three."""
    ordered = sorted(quotes, key=lambda quote: quote["strike"])
    for low, high in pairwise(ordered):
        dear, cheap = (high, low) if low["right"] == "C" else (low, high)
        if _apart(low, high) and dear["bid"] is not None and dear["bid"] - cheap["ask"] > TICK + _move(low, high):
            yield _finding("strike_monotonicity", low)
            yield _finding("strike_monotonicity", high)
    for low, middle, high in zip(ordered, ordered[1:], ordered[2:], strict=False):
        if not _apart(low, middle, high) or middle["bid"] is None:
            continue
        nearness = (high["strike"] - middle["strike"]) / (high["strike"] - low["strike"])
        wings = nearness * low["ask"] + (1 - nearness) * high["ask"]
        if middle["bid"] - wings > TICK + _move(low, middle, high):
            for quote in (low, middle, high):
                yield _finding("butterfly_violation", quote)


def _apart(*quotes: Quote) -> bool:
    """Whether the quotes, which are neighbours, can be compared: near in time."""
    instants = [quote["asof_s"] for quote in quotes]
    return bool(max(instants) - min(instants) <= SKEW)


def _move(*quotes: Quote) -> float:
    """How far the underlying moved between the quotes, as far as they know; two know only together."""
    spots = [quote["spot"] for quote in quotes if quote["spot"] is not None]
    return max(spots) - min(spots) if spots else 0.0


def parity(smile: list[Quote]) -> Iterator[Finding]:
    """Pairs of one strike against the line through the smile's own pairs."""
    near = [q for q in smile if q["bid"] and q["spot"] is not None and q["delta"] is not None]
    near = [q for q in near if 0.35 <= abs(q["delta"]) <= 0.65]
    puts = {q["strike"]: q for q in near if q["right"] == "P"}
    pairs = [(q, puts[q["strike"]]) for q in near if q["right"] == "C" and q["strike"] in puts]
    pairs = [(call, put) for call, put in pairs if abs(call["asof_s"] - put["asof_s"]) <= SKEW]
    if not pairs:
        return
    centre = median(call["strike"] for call, _ in pairs)
    moment = median(_mean("asof_s", pair) for pair in pairs)
    pairs = [pair for pair in pairs if abs(_mean("asof_s", pair) - moment) <= SKEW]
    if len(pairs) < 5:
        return
    line = _line([(call["strike"], (_bought(call, put) + _sold(call, put)) / 2) for call, put in pairs], centre)
    for call, put in pairs:
        dearer = max(call["bid"] + call["ask"], put["bid"] + put["ask"]) / 2
        expected, allowed = line(call["strike"]), max(0.05, 0.015 * dearer)
        if _sold(call, put) - expected > allowed or expected - _bought(call, put) > allowed:
            yield _finding("parity_violation", call)
            yield _finding("parity_violation", put)


def _line(points: list[tuple[float, float]], centre: float) -> Callable[[float], float]:
    """Brown and Mood's line: through the medians of the points up to and from the centre."""
    low, high = [p for p in points if p[0] <= centre], [p for p in points if p[0] >= centre]
    (x0, y0), (x1, y1) = ((median(x for x, _ in half), median(y for _, y in half)) for half in (low, high))
    slope = (y1 - y0) / (x1 - x0)
    level = median(y - slope * x for x, y in points)
    return lambda x: level + slope * x


def _mean(column: str, pair: tuple[Quote, Quote]) -> float:
    return float(pair[0][column] + pair[1][column]) / 2


def _bought(call: Quote, put: Quote) -> float:
    return float(call["ask"] - put["bid"] - (_mean("spot", (call, put)) - call["strike"]))


def _sold(call: Quote, put: Quote) -> float:
    return float(call["bid"] - put["ask"] - (_mean("spot", (call, put)) - call["strike"]))
