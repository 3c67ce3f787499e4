"""Lakes made by hypothesis: a few dates, underlyings and actions, and every kind of capture outcome in odd company.

Hypothesis chooses the dates, the actions and a stock of outcomes; a seeded generator deals the outcomes out over
contracts, slots and attempts, as there are thousands of them.
"""

import math
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ingest.calendar.sessions import Session, Slot, new_york, session_on, sessions_between
from ingest.corporate_actions import wrong_lines
from tests.models.rows import LATER, QUOTED, Row, contract, write_seeds
from tests.second_engine.staging import CLOSE_DEADLINE

FIRST, LAST = date(2014, 5, 1), date(2015, 1, 30)
SESSIONS = [session.trade_date for session in sessions_between(FIRST, LAST)]
EARLY_CLOSES = [date(2014, 7, 3), date(2014, 11, 28), date(2014, 12, 24)]
SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
RECORDED = SYMBOLS[:3]
HALF_CENTS = (32796.45, 41296.45)
ACTION_KEY = ("symbol", "event_type", "effective_date", "known_at")
UNSET = 1.7976931348623157e308
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Outcome:
    """What one attempt brings, wherever it is dealt to. `arrival` is a place in the window, not an instant."""

    arrival: str
    values: Row
    error: bool


@dataclass(frozen=True)
class Market:
    """What a lake is made of; `tables` deals it out."""

    dates: list[date]
    actions: list[Row]
    outcomes: list[Outcome]
    underlyings: list[Outcome]
    seed: int
    # Instant at which actions are known; trade dates may lie after it.
    as_of: datetime

    def tables(self) -> dict[str, list[Row]]:
        """Raw rows by table; the same for the same market."""
        return _Dealer(self).tables()


# -- what hypothesis chooses -----------------------------------------------------------------------------------

_odd_price = st.sampled_from(
    [None, -1.0, -2.0, -999.0, UNSET, math.nan, -0.05, 2147483647.0, 9223372036854775807.0, math.inf, -math.inf]
)
_price = st.sampled_from([0.0, 0.05, 0.95, 1.0, 1.05, 1.1, 1.25]) | _odd_price
_ask = st.sampled_from([1.0, 1.05, 1.1, 1.1, 1.2, 1.25, 0.0]) | _odd_price
_size = st.sampled_from([0, 0, 1, 10, 250, None, -1, -999, 2147483647, 9223372036854775807])
# Exact in 32 bits, so that a product is the same in every order.
_iv = st.sampled_from([0.25, 0.5, 0.0, 10.0, 10.5, None, -1.0, -999.0, UNSET, math.nan, -0.5])
_delta = st.sampled_from([0.5, -0.5, 1.0, -1.0, 1.25, 0.0, None, -2.0, -999.0, UNSET, math.nan, 2147483647.0])
_greek = st.sampled_from([0.125, 0.03125, 0.0, None, -2.0, -999.0, UNSET, math.nan])
_theta = st.sampled_from([-0.125, -1.0, 0.0, None, -2.0, -999.0, UNSET, math.nan])
_arrival = st.sampled_from(
    ["first", "first", "tie", "tie", "tie", "late", "last", "before", "end", "never", "at deadline", "after close"]
)
_model = st.fixed_dictionaries(
    {"iv": _iv, "delta": _delta, "gamma": _greek, "theta": _theta, "vega": _greek}
) | st.just(dict.fromkeys(("iv", "delta", "gamma", "theta", "vega")))
# What stands where no tick came: nothing, or a sentinel.
_UNSEEN = (-1.0, -2.0, -999.0, UNSET, 2147483647.0, 9223372036854775807.0, math.inf, -math.inf)
_flags = st.lists(st.sampled_from(["late_sample", "slot_retry_exceeded", "discovery_stale"]), unique=True, max_size=2)


@st.composite
def _outcomes(draw: st.DrawFn) -> Outcome:
    # Half of the outcomes are sound in price and time, so that a rule for the odd ones is met beside good rows.
    sound = draw(st.booleans())
    bid, ask = (draw(st.sampled_from([0.05, 1.0])), 1.1) if sound else (draw(_price), draw(_ask))
    kind = draw(st.sampled_from([1, 1, 2, 3, 4, None]))
    values = {
        "bid": bid,
        "ask": ask,
        "last": draw(_price),
        # A bid that is there was seen; one that is not may have been said to be none.
        "bid_seen": draw(st.booleans()) if bid is None or math.isnan(bid) or bid in _UNSEEN else True,
        "bid_size": draw(_size),
        "ask_size": draw(_size),
        "last_size": draw(_size),
        "volume": draw(_size),
        "open_interest": draw(_size),
        **draw(_model),
        "model_price": draw(_price),
        "pv_dividend": draw(_price),
        "underlying_price": draw(st.sampled_from([100.0, 101.5]) | _odd_price),
        "market_data_type": kind,
        "data_quality_flag": draw(_flags) + (["delayed_fallback"] if kind in (3, 4) else []),
    }
    return Outcome("tie" if sound else draw(_arrival), values, error=False)


_failures = st.builds(
    lambda code, kind: Outcome(
        "never",
        {
            **dict.fromkeys((*QUOTED, "market_data_type")),
            "bid_seen": False,
            "data_quality_flag": ["slot_retry_exceeded"],
            "error_code": code,
            "error_type": kind,
            "error_message": f"{kind} {code}",
        },
        error=True,
    ),
    st.sampled_from([200, 354, None]),
    st.sampled_from(["timeout", "ib_error"]),
)

_underlying_values = st.fixed_dictionaries(
    {
        "bid": st.sampled_from([99.5, 99.75]) | _odd_price,
        "ask": st.sampled_from([100.0, 100.25]) | _odd_price,
        "last": st.sampled_from([99.0, 100.5]) | _odd_price | _odd_price,
        "market_data_type": st.sampled_from([1, 2, 3, None]),
    }
)
_underlyings = st.builds(
    Outcome, st.sampled_from(["first", "tie", "tie", "late", "never"]), _underlying_values, st.booleans()
)


_whole_ratio = st.sampled_from([(2, 1), (2, 1), (3, 1), (7, 1), (4, 2)])
_cash = st.sampled_from([0.124, 0.125, 0.5, 1.005, 3.0])


@st.composite
def _actions(draw: st.DrawFn) -> Row:
    event = draw(st.sampled_from(["split", "split", "special_dividend", "symbol_change", "deliverable_change"]))
    # Few dates: several events on one, and editions of one event.
    day = draw(st.sampled_from(SESSIONS[10::12]) | st.dates(FIRST, LAST))
    symbol = draw(st.sampled_from(SYMBOLS))
    row: Row = {"symbol": symbol, "event_type": event, "effective_date": day.isoformat()}
    if event == "split":
        ratio = draw(_whole_ratio | st.sampled_from([(3, 2), (1, 8), (1, 2)]))
        row |= {"ratio_new": ratio[0], "ratio_old": ratio[1]}
    if event == "special_dividend":
        row["cash_amount"] = draw(_cash)
    if event == "symbol_change":
        row["new_symbol"] = draw(st.sampled_from([other for other in SYMBOLS if other != symbol]))
    known = draw(
        st.sampled_from(
            [
                *("2000-01-01T00:00:00Z", "2000-01-01T00:00:00Z", "2029-12-31T23:00:00Z"),
                *("2030-01-01T00:00:00Z", "2030-01-01T00:00:01Z"),
            ]
        )
    )
    return row | {"known_at": known}


@st.composite
def _lives(draw: st.DrawFn, symbol: str) -> list[Row]:
    """Splits and special dividends in the life of one company, in any order; one of them corrected later on."""
    days = sorted(draw(st.lists(st.sampled_from(SESSIONS[40:]), min_size=2, max_size=4, unique=True)))
    rows = []
    for day in days:
        of_the_day: Row = {"symbol": symbol, "effective_date": day.isoformat(), "known_at": "2000-01-01T00:00:00Z"}
        if draw(st.booleans()):
            new, old = draw(_whole_ratio)
            rows.append(of_the_day | {"event_type": "split", "ratio_new": new, "ratio_old": old})
        else:
            rows.append(of_the_day | {"event_type": "special_dividend", "cash_amount": draw(_cash)})
    corrected = draw(st.sampled_from(rows))
    change: Row = {"ratio_new": 5, "ratio_old": 1} if corrected["event_type"] == "split" else {"cash_amount": 0.25}
    return [*rows, corrected | change | {"known_at": "2000-01-02T00:00:00Z"}]


def _consistent(actions: list[Row]) -> list[Row]:
    """`actions` without the lines that the file may not have beside the others."""
    with tempfile.TemporaryDirectory() as folder:
        while wrong := wrong_lines(write_seeds(Path(folder), actions=actions) / "corporate_actions.csv"):
            del actions[wrong[0].line - 2]
    return actions


@st.composite
def markets(draw: st.DrawFn, dates: int = 12) -> Market:
    """Markets of `dates` trade dates, one of them at least an early close, and a dozen or more actions."""
    chosen = draw(st.lists(st.sampled_from(SESSIONS), min_size=dates - 1, max_size=dates - 1, unique=True))
    listed = [row for symbol in RECORDED for row in draw(_lives(symbol))]
    listed += draw(st.lists(_actions(), max_size=8))
    actions = _consistent(list({tuple(row[name] for name in ACTION_KEY): row for row in listed}.values()))
    as_of = draw(st.sampled_from([LATER, LATER, new_york(chosen[0], time(12))]))
    return Market(
        as_of=as_of,
        dates=sorted({*chosen, draw(st.sampled_from(EARLY_CLOSES))}),
        actions=actions,
        outcomes=draw(st.lists(_outcomes() | _outcomes() | _failures, min_size=12, max_size=24)),
        underlyings=draw(st.lists(_underlyings, min_size=4, max_size=8)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


# -- dealing ---------------------------------------------------------------------------------------------------


def listed() -> list[Row]:
    """The contracts of every date, an adjusted and a mini root among them.

    Halves of the odd strikes fall on half cents that have no exact double. The low ones are brought together by a
    split, or to nothing by a dividend.
    """
    made = []
    for k, symbol in enumerate(RECORDED):
        terms: list[dict[str, Any]] = [
            {"strike": 64500.0},
            {"strike": HALF_CENTS[0], "right": "P"},
            {"strike": HALF_CENTS[1]},
            {"strike": 64500.0, "right": "P"},
            {"strike": 64500.0, "trading_class": f"{symbol}1"},
            {"strike": 64000.0, "trading_class": f"{symbol}7", "multiplier": 10.0},
            *({"strike": strike} for strike in (0.5, 3.0, 3.01)),
        ]
        made += [contract(100 * (k + 1) + n, underlying=symbol, **each) for n, each in enumerate(terms)]
    return made


class _Dealer:
    def __init__(self, market: Market) -> None:
        self.market = market
        self.dice = random.Random(market.seed)

    def tables(self) -> dict[str, list[Row]]:
        made: dict[str, list[Row]] = {
            name: [] for name in ("sessions", "contracts", "option_quotes", "underlying_quotes", "open_interest")
        }
        for day in self.market.dates:
            session = session_on(day)
            assert session is not None
            made["sessions"] += list(session_rows(session))
            for each in listed():
                frozen = self.dice.random() < 0.85
                made["contracts"] += [
                    self._frozen(each, session, k) for k in range(self.dice.choice([1, 1, 2]))
                ] * frozen
                made["option_quotes"] += self._quotes(each, session)
                made["open_interest"] += self._interest(each, session)
            made["underlying_quotes"] += self._underlyings(session)
        return {f"raw/{name}": rows for name, rows in made.items()}

    def _frozen(self, each: Row, session: Session, k: int) -> Row:
        return each | {
            "trade_date": session.trade_date,
            "frozen_at": session.open,
            "first_seen_slot": 0,
            "ingest_id": f"0190-{k}",
            "source": "simulated",
        }

    def _quotes(self, each: Row, session: Session) -> list[Row]:
        life = self.dice.choices(["usual", "sparse", "failing", "outside", "silent"], [6, 4, 1, 1, 1])[0]
        if life == "silent":
            return []
        rows = []
        stock = [o for o in self.market.outcomes if o.error] if life == "failing" else self.market.outcomes
        density = {"usual": 0.5, "sparse": 0.15, "failing": 0.3, "outside": 0.0}[life]
        for slot in session.slots:
            if stock and self.dice.random() < density:
                rows += self._attempts(each, session, slot, slot.slot_30m, "intraday", stock)
        if stock and self.dice.random() < density:
            rows += self._attempts(each, session, session.close_slot, session.close_slot.slot_30m, "close", stock)
        if stock and self.dice.random() < 0.05:
            rows += self._attempts(each, session, session.slots[0], 0, "close", stock)
        if life == "outside" or self.dice.random() < 0.05:
            rows += self._attempts(
                each, session, session.close_slot, len(session.slots), "intraday", self.market.outcomes
            )
        return rows

    def _attempts(
        self, each: Row, session: Session, slot: Slot, number: int, view: str, stock: list[Outcome]
    ) -> list[Row]:
        """One to four attempts, in no order of their ids; at times a row twice, as a doubled file has it."""
        count = self.dice.choice([1, 1, 2, 3, 4])
        ids = self.dice.sample(range(100), count)
        rows = [self._quote(each, session, slot, number, view, self.dice.choice(stock), k) for k in ids]
        return rows + rows[:1] * (self.dice.random() < 0.1)

    def _quote(self, each: Row, session: Session, slot: Slot, number: int, view: str, outcome: Outcome, k: int) -> Row:
        asof = None if outcome.error else _instant(outcome.arrival, session, slot, view)
        return {
            **each,
            "error_code": None,
            "error_type": None,
            "error_message": None,
            **outcome.values,
            "trade_date": session.trade_date,
            "view": view,
            "slot_30m": number,
            "sample_time": slot.sample_time,
            "requested_at": slot.sample_time,
            "asof_ts": asof,
            "ingest_id": f"0190-{k:04d}",
            "ingest_run_type": "manual",
            "batch": "1",
            "attempt": 1,
            "snapshot_error": outcome.error,
            "source": "simulated",
        }

    def _underlyings(self, session: Session) -> list[Row]:
        rows = []
        for symbol in RECORDED:
            for view, slot in (("close", session.close_slot), *(("intraday", s) for s in session.slots[-2:])):
                for k in self.dice.sample(range(100), self.dice.choice([0, 0, 1, 2])):
                    outcome = self.dice.choice(self.market.underlyings)
                    rows.append(
                        {
                            **(dict.fromkeys(outcome.values) if outcome.error else outcome.values),
                            "trade_date": session.trade_date,
                            "view": view,
                            "slot_30m": slot.slot_30m,
                            "sample_time": slot.sample_time,
                            "underlying": symbol,
                            "conid": 10 + SYMBOLS.index(symbol),
                            "close": 77.0,
                            "asof_ts": None if outcome.error else _instant(outcome.arrival, session, slot, view),
                            "ingest_id": f"0190-{k:04d}",
                            "snapshot_error": outcome.error,
                            "source": "simulated",
                        }
                    )
        return rows

    def _interest(self, each: Row, session: Session) -> list[Row]:
        rows = []
        for k in self.dice.sample(range(100), self.dice.choice([0, 1, 1, 2, 3])):
            error = self.dice.random() < 0.2
            before = self.dice.random() < 0.25
            rows.append(
                {
                    "trade_date": session.trade_date,
                    "oi_asof_date": None if error else session.trade_date - timedelta(days=before),
                    "conid": each["conid"],
                    "underlying": each["underlying"],
                    "open_interest": None if error else self.dice.choice([0, 7, 40, None, -1]),
                    "observed_at": session.close + timedelta(hours=self.dice.choice([11, 11, 14, 16])),
                    "ingest_id": f"0190-{k:04d}",
                    "method": "enrichment",
                    "snapshot_error": error,
                    "source": "simulated",
                }
            )
        return rows


def session_rows(session: Session) -> Iterator[Row]:
    """Rows of raw/sessions: the slots of `session`."""
    for slot in session.slots:
        yield {
            "trade_date": session.trade_date,
            "slot_30m": slot.slot_30m,
            "sample_time": slot.sample_time,
            "is_close": slot.is_close,
            "is_pre_close": slot.is_pre_close,
            "window_end": slot.window_end,
        }


def _instant(arrival: str, session: Session, slot: Slot, view: str) -> datetime | None:
    deadline = new_york(session.trade_date, CLOSE_DEADLINE)
    opens, ends = (session.close, deadline) if view == "close" else (slot.sample_time, slot.window_end)
    return {
        "first": opens,
        "tie": opens + timedelta(seconds=20),
        "late": opens + timedelta(minutes=10),
        "last": ends - MICROSECOND,
        "before": opens - MICROSECOND,
        "end": ends,
        "never": None,
        "at deadline": deadline,
        "after close": session.close + timedelta(hours=1),
    }[arrival]
