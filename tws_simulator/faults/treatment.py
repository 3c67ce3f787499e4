"""What faults do to the ticks of one subscription. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ingest.calendar.sessions import NEW_YORK, session_on
from tws_simulator.faults import scenario as s
from tws_simulator.market import View
from tws_simulator.worlds.world import UNSET_MODEL, Model, Quote

# IB's values for "not computed": -1 for prices and volatility, -2 for greeks.
NOT_COMPUTED = Model(-1.0, -2.0, -1.0, -1.0, -2.0, -2.0, -2.0, -1.0)


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a subscription's ticks differ from the market's.

    ``delay``: wall-clock seconds added to the first ticks. ``withheld``: of ``bid``, ``ask``, ``trades`` and ``model``,
    those that are never sent. ``age``: how old the quote is. ``empty_model``: the first model tick has no values, the
    real one comes after ``model_after`` seconds (None: never). ``odd_lots``: their ticks come too.
    """

    silent: bool = False
    delay: float = 0.0
    backwards: bool = False
    withheld: frozenset[str] = frozenset()
    age: timedelta | None = None
    empty_model: bool = False
    model_after: float | None = None
    distortions: tuple["s.Sentinels | s.Crossed | s.FractionalSizes", ...] = ()
    odd_lots: bool = False

    def view(self, seen: View) -> View:
        """The moments that are shown instead of those of `seen`."""
        if self.age is None:
            return seen
        return View(seen.reported_type, _older(seen.quotes_at, self.age), _older(seen.trades_at, self.age))

    def quote(self, quote: Quote) -> Quote:
        """The quote that is shown instead."""
        for distortion in self.distortions:
            match distortion:
                case s.Crossed():
                    quote = _cross(quote, distortion.by)
                case s.FractionalSizes():
                    quote = _in_parts(quote)
                case _:
                    quote = _with_sentinels(quote, distortion.kind)
        return quote


UNTREATED = Treatment()


def treat(faults: Iterable[s.Fault]) -> Treatment:
    """All that strike one subscription together."""
    silent = backwards = empty_model = odd_lots = False
    delay, age, model_after = 0.0, None, None
    withheld: set[str] = set()
    distortions: list[s.Sentinels | s.Crossed | s.FractionalSizes] = []
    for fault in faults:
        match fault:
            case s.Slow():
                delay += fault.seconds
            case s.WrongOrder():
                backwards = True
            case s.OneSided():
                withheld.add("ask" if fault.side == "bid" else "bid")
            case s.PartialPermission():
                withheld |= {"bid", "ask", "trades"}
            case s.NoModel():
                withheld.add("model")
            case s.EmptyModel():
                empty_model, model_after = True, fault.seconds
            case s.Stale():
                age = timedelta(minutes=fault.minutes)
            case s.OddLots():
                odd_lots = True
            case s.Sentinels() | s.Crossed() | s.FractionalSizes():
                distortions.append(fault)
            case _:
                silent = True
    held_back = frozenset(withheld)
    return Treatment(silent, delay, backwards, held_back, age, empty_model, model_after, tuple(distortions), odd_lots)


def _older(instant: datetime | None, age: timedelta) -> datetime | None:
    if instant is None:
        return None
    session = session_on(instant.astimezone(NEW_YORK).date())
    assert session is not None, "quotes are shown of moments of a session"
    return max(instant - age, session.open)


def _cross(quote: Quote, by: float) -> Quote:
    return quote if quote.ask is None else quote._replace(bid=round(quote.ask + by, 4), bid_size=max(quote.bid_size, 1))


def _in_parts(quote: Quote) -> Quote:
    """Half a share was traded last, and a quarter more than whole ones is offered."""
    return quote._replace(
        bid_size=quote.bid_size + 0.25 if quote.bid_size else 0,
        ask_size=quote.ask_size + 0.25 if quote.ask_size else 0,
        last_size=0.5 if quote.last is not None else 0,
        volume=None if quote.volume is None else quote.volume + 0.5,
    )


def _with_sentinels(quote: Quote, kind: str) -> Quote:
    match kind:
        case "minus_one":
            return quote._replace(bid=-1.0, bid_size=0, ask=-1.0, ask_size=0, last=-1.0, last_size=0)
        case "zero":
            return quote._replace(bid=0.0, bid_size=0, ask=0.0, ask_size=0)
        case "not_computed":
            return quote if quote.model is None else quote._replace(model=NOT_COMPUTED)
        case _:
            return quote if quote.model is None else quote._replace(model=UNSET_MODEL)
