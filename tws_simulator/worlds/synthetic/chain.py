"""Which strikes are listed, and how a series goes through corporate actions. Pure functions of the path and the date.

The rules are OCC's (facts on each: docs/reference/gateway.md). A split of N for 1 divides every strike by N, a special
dividend takes its cash off; any other change leaves the strikes and moves the series to a root of its own, while new
standard series are listed around the new price.
"""

from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from ingest.calendar.sessions import next_session, session_on
from tws_simulator.worlds.instruments import OptionSeries, Underlying, option_conids, option_root, word
from tws_simulator.worlds.synthetic.classes import MINI_DIGIT, OptionClass
from tws_simulator.worlds.synthetic.events import CorporateAction, Regime
from tws_simulator.worlds.synthetic.expiries import Expiry, Kind, expiries_on
from tws_simulator.worlds.synthetic.paths import UnderlyingPath, day_number
from tws_simulator.worlds.synthetic.underlyings import ListedUnderlying

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Classes in the penny programme quote in 0.01 below 3 dollars and 0.05 from there; the others in 0.05 and 0.10.
_PENNY_SHARE = 70
_LOWEST_STRIKE = 0.01
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, eq=False)
class Leg:
    """A series from the date ``first`` to the next corporate action, in the terms of that time.

    ``path``: the price of what the contract delivers, a share. ``strikes``: of the contracts of the whole series, shape
    (n,); infinite where one is listed in a later leg. ``carried``: taken over from the leg before; the others are
    listed as the price reaches them. ``contracts``: what one contract of the leg before has become.
    """

    first: date
    path: UnderlyingPath
    strikes: Floats
    carried: Bools
    contracts: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticSeries(OptionSeries):
    """A listed series with what its market needs to know. Identity is the object.

    ``listed_on``: its first date. ``ends``: when it expires, seconds since 1970. ``width``: of its strike range.
    ``legs``: from its listing to today. ``path``: of the deliverable, in today's terms. ``stock``: of the underlying;
    another one for an adjusted series. ``since``, ``until``: today's terms are in force from the one date to before the
    other. ``first_class``, ``first_strikes``: what the contracts were called when they were listed; their trading is
    drawn by that name, so it goes on through corporate actions.
    """

    kind: Kind = "monthly"
    listed_on: date = date.min
    ends: float = field(kw_only=True)
    legs: tuple[Leg, ...] = field(kw_only=True)
    path: UnderlyingPath = field(kw_only=True)
    stock: UnderlyingPath = field(kw_only=True)
    width: float = field(kw_only=True)
    first_class: str = field(kw_only=True)
    first_strikes: Floats = field(kw_only=True)
    since: date = date.min
    until: date = date.max


class _Lineage:
    """One series on its way from listing to today."""

    def __init__(
        self, listed: ListedUnderlying, kind: OptionClass, expiry: Expiry, regime: Regime, first: date
    ) -> None:
        self.trading_class = self.first_class = option_root(regime.symbol) + kind.suffix
        self.listed_on = first
        self.first_strikes = np.empty(0)
        self.factor, self.shift = regime.factor, regime.shift
        self.adjusted = False
        self.kind, self.expiry, self._path = kind, expiry, listed.path
        self._legs = [Leg(first, self.path, np.empty(0), np.empty(0, dtype=np.bool_))]

    @property
    def path(self) -> UnderlyingPath:
        """Of the deliverable, in the terms of now."""
        return self._path.in_terms(self.factor, self.shift)

    @property
    def legs(self) -> tuple[Leg, ...]:
        """From the listing on; the last one is today's."""
        return tuple(self._legs)

    def adjust(self, actions: tuple[CorporateAction, ...], before: Regime, first: date) -> None:
        """Begin a leg at `first`, after `actions`; `before` is the underlying's regime until then."""
        strikes, contracts = self._legs[-1].strikes, 1
        # of an adjusted series: what a share of its deliverable is of a share of today
        share = self.factor / before.factor
        for action in actions:
            if action.changes_deliverable:
                self.adjusted = True
            elif action.event_type == "split":
                strikes, contracts = to_cents(strikes / action.contracts), contracts * action.contracts
                self.factor, self.shift = self.factor / action.contracts, self.shift / action.contracts
            elif action.event_type == "special_dividend":
                strikes = np.maximum(to_cents(strikes - share * action.cash), _LOWEST_STRIKE)
                self.shift -= share * action.cash
            else:
                tail = self.trading_class.removeprefix(option_root(action.symbol))
                self.trading_class = option_root(action.new_symbol) + tail
        self._legs.append(Leg(first, self.path, strikes, np.ones(len(strikes), dtype=np.bool_), contracts))

    def grow(self, until: date) -> None:
        """List what the price reaches up to the date `until`: the range only grows, as exchanges add strikes after it.

        Nothing is added to an adjusted series.
        """
        if self.adjusted:
            return
        leg = self._legs[-1]
        last = day_number(until) - 1
        closes = leg.path.closes(min(day_number(leg.first) - 1, last), last)
        width, step = self.kind.width[self.expiry.kind], self.kind.step(self.expiry.kind, leg.path.level)
        low, high = float(closes.min()) * (1 - width), float(closes.max()) * (1 + width)
        lattice = np.arange(max(1, int(np.ceil(low / step))), int(np.floor(high / step)) + 1, dtype=np.float64) * step
        if leg.strikes.size:
            below, above = lattice[lattice < leg.strikes[0] - 1e-6], lattice[lattice > leg.strikes[-1] + 1e-6]
        else:
            below, above = lattice, np.empty(0)
        if below.size or above.size:
            earlier = [_padded(one, len(below), len(above)) for one in self._legs[:-1]]
            strikes = np.concatenate([below, leg.strikes, above])
            carried = _with_none(leg.carried, len(below), len(above))
            self._legs = [*earlier, Leg(leg.first, leg.path, strikes, carried, leg.contracts)]
            self.first_strikes = np.concatenate([below, self.first_strikes, above])


def list_chain(listed: ListedUnderlying, day: date) -> list[SyntheticSeries]:
    """All series of an underlying listed on `day`, by expiry and class."""
    underlying = listed.on(day)
    stock = listed.path.in_terms_of(day)
    in_force = listed.in_force(day)
    penny = underlying.sec_type != "IND" and word("penny", listed.spec.symbol) % 100 < _PENNY_SHARE
    chain = [
        _series(lineage, underlying, stock, 0.01 if penny else 0.05, in_force)
        for one in listed.classes
        for expiry in expiries_on(day, stock.cycle, one.calendar)
        for lineage in _lineages(listed, one, expiry, day)
    ]
    return sorted(chain, key=lambda series: (series.expiry, series.trading_class))


def to_cents(strikes: Floats) -> Floats:
    """To the nearest cent, half a cent up."""
    return np.asarray(np.round(np.floor(strikes * 100 + 0.5 + 1e-7) / 100, 2))


def _lineages(listed: ListedUnderlying, kind: OptionClass, expiry: Expiry, day: date) -> list[_Lineage]:
    """The standard series of one expiry, and before it those that changes of the deliverable have left behind."""
    start, now = listed.number(expiry.listed_on), listed.number(day)
    standard = _Lineage(listed, kind, expiry, listed.regimes[start], expiry.listed_on)
    adjusted: list[_Lineage] = []
    changes = sum(one.changes_deliverable for regime in listed.regimes[: start + 1] for one in regime.actions)
    for number in range(start, now + 1):
        regime = listed.regimes[number]
        if number > start:
            for lineage in (*adjusted, standard):
                lineage.adjust(regime.actions, listed.regimes[number - 1], regime.starts)
            changes += sum(one.changes_deliverable for one in regime.actions)
            if standard.adjusted:
                first = MINI_DIGIT if kind.multiplier != 100 else 0
                standard.trading_class = f"{option_root(regime.symbol)}{first + changes}"
                adjusted.append(standard)
                standard = _Lineage(listed, kind, expiry, regime, regime.starts)
        standard.grow(day if number == now else listed.regimes[number + 1].starts - _DAY)
    return [*adjusted, standard]


def _series(
    lineage: _Lineage, underlying: Underlying, stock: UnderlyingPath, min_tick: float, in_force: tuple[date, date]
) -> SyntheticSeries:
    kind, expiry, (*earlier, leg) = lineage.kind, lineage.expiry, lineage.legs
    conids = option_conids(lineage.trading_class, expiry.expiry, leg.strikes, kind.multiplier)
    if earlier:
        # a large split or dividend can take two low strikes to one cent
        conids[:, np.diff(leg.strikes, prepend=0.0) <= 0] = 0
    last = session_on(expiry.last_trade_date)
    assert last is not None, "expiries are made of sessions"
    ends = next_session(last.trade_date).open if kind.calendar.morning else last.close
    return SyntheticSeries(
        underlying,
        lineage.trading_class,
        kind.multiplier,
        expiry.expiry,
        expiry.last_trade_date,
        leg.strikes,
        conids,
        min_tick,
        kind=expiry.kind,
        listed_on=lineage.listed_on,
        ends=ends.timestamp(),
        legs=(*earlier, leg),
        path=leg.path,
        stock=stock,
        width=kind.width[expiry.kind],
        first_class=lineage.first_class,
        first_strikes=lineage.first_strikes,
        since=in_force[0],
        until=in_force[1],
    )


def _padded(leg: Leg, below: int, above: int) -> Leg:
    """An earlier leg, when strikes are listed below and above those of its time."""
    strikes = np.concatenate([np.full(below, np.inf), leg.strikes, np.full(above, np.inf)])
    return Leg(leg.first, leg.path, strikes, _with_none(leg.carried, below, above), leg.contracts)


def _with_none(carried: Bools, below: int, above: int) -> Bools:
    return np.concatenate([np.zeros(below, dtype=np.bool_), carried, np.zeros(above, dtype=np.bool_)])
