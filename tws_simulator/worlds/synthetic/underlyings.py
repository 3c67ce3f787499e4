"""The underlyings of a world over time: their names, terms, option classes and prices."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from tws_simulator.errors import GatewayError
from tws_simulator.worlds.instruments import Underlying, UnderlyingSpec, underlying_conids
from tws_simulator.worlds.synthetic.classes import INDEXES, MINI, STANDARD, OptionClass
from tws_simulator.worlds.synthetic.events import CorporateAction, Regime, regimes_of
from tws_simulator.worlds.synthetic.paths import MarketFactor, Terms, UnderlyingPath, day_number

FIRST_DATE, LAST_DATE = date(2005, 1, 1), date(2030, 12, 31)


@dataclass(frozen=True, slots=True, eq=False)
class ListedUnderlying:
    """One underlying on all dates. ``path`` has every price in the terms of its own day."""

    spec: UnderlyingSpec
    conid: int
    path: UnderlyingPath
    regimes: tuple[Regime, ...]
    classes: tuple[OptionClass, ...]

    def number(self, day: date) -> int:
        """Position of the regime of `day`."""
        return max(number for number, regime in enumerate(self.regimes) if regime.starts <= day)

    def in_force(self, day: date) -> tuple[date, date]:
        """First date of the terms of `day`, and of the ones after them."""
        number = self.number(day)
        following = self.regimes[number + 1 : number + 2]
        return self.regimes[number].starts, following[0].starts if following else date.max

    def on(self, day: date) -> Underlying:
        """The instrument as it is called on `day`."""
        symbol = self.regimes[self.number(day)].symbol
        return Underlying(self.conid, symbol, self.spec.sec_type, self.spec.primary_exchange)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol it ever has, the latest last."""
        return tuple(dict.fromkeys(regime.symbol for regime in self.regimes))


def list_underlyings(
    specs: Iterable[UnderlyingSpec],
    seed: int,
    actions: Sequence[CorporateAction] = (),
    minis: Sequence[str] = (),
) -> list[ListedUnderlying]:
    """The underlyings of `specs`, by symbol. `minis`: symbols that list options on 10 shares as well.

    Raises `GatewayError` for an empty or ambiguous list, an unknown index, minis of nobody, or an action on no session.
    """
    specs = sorted((_completed(spec) for spec in specs), key=lambda spec: spec.symbol)
    if not specs:
        raise GatewayError("the world 'synthetic' needs at least one symbol, as in --symbols AAPL,MSFT")
    if repeated := {a.symbol for a, b in itertools.pairwise(specs) if a.symbol == b.symbol}:
        raise GatewayError(f"symbols: {', '.join(sorted(repeated))} given twice; name each underlying once")
    conids = underlying_conids(specs)
    if len(set(conids.values())) < len(conids):
        raise GatewayError("symbols: two underlyings have the same contract id; check the universe file")
    stocks = {spec.symbol for spec in specs if spec.sec_type != "IND"}
    if strangers := sorted(set(minis) - stocks):
        raise GatewayError(f"minis: {', '.join(strangers)} is no stock of this world; name some of --symbols")
    market = MarketFactor(seed)
    listed = [_listed(spec, conids[spec.symbol], market, actions, spec.symbol in minis) for spec in specs]
    owners: dict[str, str] = {}
    for one in listed:
        for symbol in one.symbols:
            if owners.setdefault(symbol, one.spec.symbol) != one.spec.symbol:
                raise GatewayError(
                    f"symbols: {owners[symbol]} and {one.spec.symbol} are both called {symbol} by the corporate "
                    "actions; leave one of them out"
                )
    return listed


def _completed(spec: UnderlyingSpec) -> UnderlyingSpec:
    """An index has its exchange, its level and its id from the table of indexes."""
    index = INDEXES.get(spec.symbol)
    if index is None:
        if spec.sec_type == "IND":
            known = ", ".join(INDEXES)
            raise GatewayError(f"symbols: the option classes of the index {spec.symbol} are not known; use {known}")
        return spec
    conid = spec.conid if spec.conid is not None else index.conid
    price = spec.price if spec.price is not None else index.level
    return replace(spec, conid=conid, price=price, sec_type="IND", primary_exchange=index.primary_exchange)


def _listed(
    spec: UnderlyingSpec, conid: int, market: MarketFactor, actions: Sequence[CorporateAction], minis: bool
) -> ListedUnderlying:
    if (index := INDEXES.get(spec.symbol)) is not None:
        path = UnderlyingPath(spec, market, index_vol=index.volatility)
        return ListedUnderlying(spec, conid, path, (Regime(date.min, spec.symbol),), index.classes)
    regimes = regimes_of(spec.symbol, actions, FIRST_DATE, LAST_DATE)
    terms = [
        Terms(-1 if regime.starts == date.min else day_number(regime.starts), regime.factor, regime.shift)
        for regime in regimes
    ]
    path = UnderlyingPath(spec, market, terms)
    return ListedUnderlying(spec, conid, path, regimes, (STANDARD, MINI) if minis else (STANDARD,))
