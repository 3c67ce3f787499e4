"""Market data subscriptions: which ticks go out, when, and what changed since."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from random import Random

from tws_simulator.connections.deliveries import Answer
from tws_simulator.connections.generics import (
    HISTORICAL_VOLATILITY,
    IMPLIED_VOLATILITY,
    OPEN_INTEREST,
    OPTION_VOLUME,
)
from tws_simulator.connections.timers import Timers
from tws_simulator.faults import Faults
from tws_simulator.faults.treatment import NOT_COMPUTED, UNTREATED
from tws_simulator.market import Market, View
from tws_simulator.protocol import messages
from tws_simulator.protocol.wire import frame
from tws_simulator.worlds.exchanges import OPTION_MAP, STOCK_MAP
from tws_simulator.worlds.instruments import Instrument, Option
from tws_simulator.worlds.world import NO_QUOTE, Model, Quote

_OPEN_INTEREST_TICKS, _VOLUME_TICKS = (27, 28), (29, 30)
_HISTORICAL_VOLATILITY_TICK, _IMPLIED_VOLATILITY_TICK = 23, 24
_SNAPSHOT_PERMISSIONS = 3
# An attribute of bid and ask: the quote can be executed against automatically.
_AUTO_EXECUTE = 1
# What has been sent of a subscription, as bits.
_BID, _ASK, _MODEL = 1, 2, 4


@dataclass(frozen=True, slots=True)
class TickIds:
    """The tick types of one kind of data."""

    bid: int
    ask: int
    last: int
    bid_size: int
    ask_size: int
    last_size: int
    high: int
    low: int
    volume: int
    close: int
    open: int
    model: int


LIVE_TICKS = TickIds(1, 2, 4, 0, 3, 5, 6, 7, 8, 9, 14, 13)
DELAYED_TICKS = TickIds(66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 83)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What subscriptions of one connection share: market, faults, timers, the way out, and the latency of ticks.

    ``answered`` is told of each subscription once, when all that answers it has been written; None: nobody asks.
    """

    market: Market
    faults: Faults
    timers: Timers
    write: Callable[[bytes], None]
    latency: tuple[float, float]
    snapshot_seconds: float
    random: Random = field(repr=False)
    answered: Callable[[Answer], None] | None = None


@dataclass(frozen=True, slots=True)
class MarketDataRequest:
    """One request for market data: its id, of what, of which market data type, with which generic ticks."""

    req_id: int
    instrument: Instrument
    requested_type: int
    generics: frozenset[int] = frozenset()
    snapshot: bool = False


class Subscription:
    """One market data request from its first tick to its cancel.

    The first ticks come in three parts within the latency interval: the data type and the bid; the ask and the rest of
    the quote; the model and the generic ticks. After that `refresh` sends what has changed. A snapshot ends when it has
    everything, or after 11 s. Faults change any of this; after one that silences the contract the first ticks begin
    anew, if they had not all come.
    """

    __slots__ = (
        "_answered", "_close", "_delivery", "_generics", "_instrument", "_open_interest", "_parts_left", "_round",
        "_sent", "_told", "_treatment", "_view", "_volume", "cancelled", "complete", "on_end", "req_id",
        "requested_type", "snapshot",
    )  # fmt: skip

    def __init__(
        self,
        delivery: Delivery,
        request: MarketDataRequest,
        *,
        on_end: Callable[["Subscription"], None],
    ) -> None:
        self.req_id = request.req_id
        self.requested_type = request.requested_type
        self.snapshot = request.snapshot
        self.cancelled = False
        self.complete = False
        self.on_end = on_end
        self._delivery = delivery
        self._instrument = request.instrument
        self._generics = request.generics
        self._treatment = UNTREATED
        self._parts_left = 0
        self._round = 0
        self._sent: Quote = NO_QUOTE
        self._view: View | None = None
        self._close: float | None = None
        self._open_interest: float | None = None
        self._volume: float | None = None
        self._told = 0
        self._answered = False

    def start(self) -> None:
        """Have the first ticks delivered, and a snapshot ended in the end."""
        if self.snapshot:
            self._delivery.timers.call_later(self._delivery.snapshot_seconds, self._end)
        self._begin()

    def cancel(self) -> None:
        """Send nothing more."""
        self.cancelled = True

    def refresh(self, now: datetime) -> None:
        """Send what has changed since the last tick."""
        if self.cancelled or self._parts_left or self._silenced():
            return
        if not self.complete:
            self._begin()
        elif not self.snapshot:
            reported, before = self._view and self._view.reported_type, self._sent
            quote = self._look(now)
            out: list[str] = []
            if self._view is not None and self._view.reported_type != reported:
                out.append(messages.market_data_type(self.req_id, self._view.reported_type))
            if quote != before:
                self._bid_ticks(out, self._ticks, quote, before)
                self._quote_ticks(out, self._ticks, quote, before)
                if quote.model != before.model:
                    self._model_tick(out, quote.model)
            self._close_tick(out, now)
            self._generic_ticks(out, now, volatility=False)
            self._write(out)

    @property
    def _ticks(self) -> TickIds:
        return DELAYED_TICKS if self._view is not None and self._view.delayed else LIVE_TICKS

    def _silenced(self) -> bool:
        """Look up what faults do to the contract now; whether they silence it."""
        self._treatment = self._delivery.faults.treatment(self._instrument, self.requested_type)
        return self._treatment.silent

    def _look(self, now: datetime) -> Quote:
        """The quote as it is to be shown now."""
        market, treatment = self._delivery.market, self._treatment
        self._view = treatment.view(market.view(self.requested_type, now))
        self._sent = treatment.quote(market.quote(self._instrument, self._view))
        return self._sent

    def _begin(self) -> None:
        if self._silenced():
            return
        self._round += 1
        self._view = None
        parts = [self._send_bid, self._send_quote, self._send_model]
        if self._treatment.backwards:
            parts.reverse()
        self._parts_left = len(parts)
        low, high = (bound + self._treatment.delay for bound in self._delivery.latency)
        if high <= 0:
            for part in parts:
                self._deliver(self._round, part)
            return
        draw = self._delivery.random.uniform
        delays = sorted((draw(low, high), draw(low, high), draw(low, high)))
        for delay, part in zip(delays, parts, strict=True):
            self._delivery.timers.call_later(delay, partial(self._deliver, self._round, part))

    def _deliver(self, delivery_round: int, part: Callable[[list[str], datetime], None]) -> None:
        if self.cancelled or delivery_round != self._round:
            return
        if self._silenced():
            self._parts_left = 0
            self._round += 1
            return
        now = self._delivery.market.clock.now()
        if self._view is None:
            self._look(now)
        out: list[str] = []
        part(out, now)
        self._write(out)
        self._parts_left -= 1
        if not self._parts_left:
            self.complete = True
            if self.snapshot and self._has_everything():
                self._end()

    def _send_bid(self, out: list[str], now: datetime) -> None:
        assert self._view is not None
        out.append(messages.market_data_type(self.req_id, self._view.reported_type))
        if isinstance(self._instrument, Option):
            min_tick, key = self._instrument.series.min_tick, OPTION_MAP
        else:
            min_tick, key = 0.01, "" if self._instrument.is_index else STOCK_MAP
        out.append(messages.tick_req_params(self.req_id, min_tick, key, _SNAPSHOT_PERMISSIONS))
        self._bid_ticks(out, self._ticks, self._sent, None)

    def _send_quote(self, out: list[str], now: datetime) -> None:
        self._quote_ticks(out, self._ticks, self._sent, None)
        self._close_tick(out, now)

    def _send_model(self, out: list[str], now: datetime) -> None:
        treatment = self._treatment
        if treatment.empty_model and self._sent.model is not None:
            self._model_tick(out, NOT_COMPUTED)
            if treatment.model_after is not None:
                self._delivery.timers.call_later(treatment.model_after, partial(self._send_model_late, self._round))
        else:
            self._model_tick(out, self._sent.model)
        self._generic_ticks(out, now, volatility=True)

    def _send_model_late(self, delivery_round: int) -> None:
        if not self.cancelled and delivery_round == self._round:
            out: list[str] = []
            self._model_tick(out, self._sent.model)
            self._write(out)

    def _model_tick(self, out: list[str], model: Model | None) -> None:
        if model is not None and "model" not in self._treatment.withheld:
            out.append(messages.tick_option_computation(self.req_id, self._ticks.model, model))
            if model is self._sent.model:
                self._told |= _MODEL

    def _has_everything(self) -> bool:
        quote, treatment = self._sent, self._treatment
        if treatment.withheld or treatment.empty_model:
            return False
        return None not in (quote.bid, quote.ask, quote.last) and (
            quote.model is not None or not isinstance(self._instrument, Option)
        )

    def _end(self) -> None:
        if not self.cancelled:
            self._write([messages.tick_snapshot_end(self.req_id)])
            self.on_end(self)

    def _bid_ticks(self, out: list[str], ticks: TickIds, new: Quote, old: Quote | None) -> None:
        if "bid" not in self._treatment.withheld:
            self._told |= _BID
            self._side(out, (ticks.bid, ticks.bid_size), (new.bid, new.bid_size), old and (old.bid, old.bid_size))

    def _quote_ticks(self, out: list[str], ticks: TickIds, new: Quote, old: Quote | None) -> None:
        if "ask" not in self._treatment.withheld:
            self._told |= _ASK
            self._side(out, (ticks.ask, ticks.ask_size), (new.ask, new.ask_size), old and (old.ask, old.ask_size))
        if "trades" in self._treatment.withheld:
            return
        req_id = self.req_id
        if new.last is not None and (old is None or (new.last, new.last_size) != (old.last, old.last_size)):
            out.append(messages.tick_price(req_id, ticks.last, new.last, new.last_size))
            out.append(messages.tick_size(req_id, ticks.last_size, new.last_size))
        if new.volume is not None and (old is None or new.volume != old.volume):
            out.append(messages.tick_size(req_id, ticks.volume, new.volume))
        if self._treatment.odd_lots and new.bid is not None and new.ask is not None:
            out.extend(messages.odd_lot_ticks(req_id, new.bid, new.ask))
        for tick, price, before in (
            (ticks.open, new.open, old and old.open),
            (ticks.high, new.high, old and old.high),
            (ticks.low, new.low, old and old.low),
        ):
            if price is not None and price != before:
                out.append(messages.tick_price(req_id, tick, price, 0))

    def _side(
        self,
        out: list[str],
        ids: tuple[int, int],
        new: tuple[float | None, float],
        old: tuple[float | None, float] | None,
    ) -> None:
        """A side without a market goes out as price -1, size 0; of an index, which has no sides, nothing does."""
        if new == old or self._instrument.is_index:
            return
        price, size = new
        if old is not None and price == old[0]:
            out.append(messages.tick_size(self.req_id, ids[1], size))
        else:
            attributes = 0 if price is None else _AUTO_EXECUTE
            out.append(messages.tick_price(self.req_id, ids[0], -1.0 if price is None else price, size, attributes))

    def _close_tick(self, out: list[str], now: datetime) -> None:
        close = self._delivery.market.world.previous_close(self._instrument, now)
        if close is not None and close != self._close:
            self._close = close
            out.append(messages.tick_price(self.req_id, self._ticks.close, close, 0))

    def _generic_ticks(self, out: list[str], now: datetime, *, volatility: bool) -> None:
        """Open interest and volume of an option come on the tick of its right; the other tick then is 0, as from IB."""
        world, instrument = self._delivery.market.world, self._instrument
        if isinstance(instrument, Option):
            if OPEN_INTEREST in self._generics:
                value = world.open_interest(instrument, now)
                self._open_interest = self._by_right(out, instrument, _OPEN_INTEREST_TICKS, value, self._open_interest)
            if OPTION_VOLUME in self._generics and "trades" not in self._treatment.withheld:
                self._volume = self._by_right(out, instrument, _VOLUME_TICKS, self._sent.volume, self._volume)
            return
        seen = self._view
        if not volatility or seen is None or not self._generics & {HISTORICAL_VOLATILITY, IMPLIED_VOLATILITY}:
            return
        known = world.volatility(instrument, seen.quotes_at or now)
        if known is not None and HISTORICAL_VOLATILITY in self._generics:
            out.append(messages.tick_generic(self.req_id, _HISTORICAL_VOLATILITY_TICK, known.historical))
        if known is not None and IMPLIED_VOLATILITY in self._generics:
            out.append(messages.tick_generic(self.req_id, _IMPLIED_VOLATILITY_TICK, known.implied))

    def _by_right(
        self, out: list[str], option: Option, ticks: tuple[int, int], value: float | None, sent: float | None
    ) -> float | None:
        """Send a number on the ticks of calls and puts where it is another than was sent; the number that now is."""
        if value is None or value == sent:
            return sent
        for tick, right in zip(ticks, ("C", "P"), strict=True):
            out.append(messages.tick_size(self.req_id, tick, value if option.right == right else 0))
        return value

    def _write(self, out: Iterable[str]) -> None:
        data = b"".join([frame(text) for text in out])
        if data:
            self._delivery.write(data)
            if self._delivery.answered is not None and not self._answered:
                self._tell_answer(self._delivery.answered)

    def _tell_answer(self, tell: Callable[[Answer], None]) -> None:
        """Tell once that both sides, and the model where the world has one, have been written."""
        quote, model = self._sent, self._sent.model
        wanted = _BID | _ASK if model is None else _BID | _ASK | _MODEL
        if self._instrument.is_index or self._told & wanted != wanted:
            return
        self._answered = True
        greeks = model is not None and (model.iv or -1) > 0 and (-2 if model.delta is None else model.delta) >= -1
        tell(Answer(self.req_id, self._instrument.conid, quote.bid, quote.ask, greeks))
