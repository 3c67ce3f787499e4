"""Worlds of companies and their options, as corporate actions treat them: which row is which instrument is known.

Hypothesis makes the actions; the world then lives through them, and says what is listed on each trade date. Nothing
here knows of keys or of restated terms.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import count

from hypothesis import strategies as st

from tests.models.rows import Row, contract

# Trade dates; an action takes effect on one of them, before it opens.
DATES = tuple(date(2014, 6, day) for day in (2, 4, 6, 10, 12, 16))
LEAPS = date(2016, 1, 15)
# Cents. The low ones are those that a dividend of 15 dollars leaves nothing of.
STANDARD_STRIKES = (1_000, 1_500, 2_500, 4_000)
ORDER = ("split", "special_dividend", "deliverable_change")
COMPANIES = "ABCD"
KNOWN = "2000-01-01T00:00:00Z"


@dataclass
class Option:
    """One instrument. `root` is the digit of an adjusted series, empty in the standard one."""

    conid: int
    strike: int
    root: str = ""
    # False once rounding or a dividend has made an instrument of its own of it.
    followed: bool = True


@dataclass
class Company:
    """Who goes by `symbol`, and its options."""

    symbol: str
    options: list[Option] = field(default_factory=list)
    roots: Iterator[int] = field(default_factory=lambda: count(1))

    def apart(self, option: Option) -> None:
        """OCC gives the option a root of its own."""
        option.root, option.followed = str(next(self.roots)), False


@dataclass
class World:
    """Four symbols and what happens to them: lines of corporate_actions.csv."""

    name: str
    actions: list[Row]

    def rows(self, conids: Iterator[int]) -> Iterator[tuple[date, Row, bool]]:
        """Trade date, contract, and whether all rows of its conid are one history under one key."""
        companies = [Company(f"{self.name}{letter}") for letter in COMPANIES]
        for day in DATES:
            companies = _next_morning(companies, [one for one in self.actions if one["effective_date"] == str(day)])
            for company in companies:
                standing = {option.strike for option in company.options if not option.root}
                new = (strike for strike in STANDARD_STRIKES if strike not in standing)
                company.options += [Option(next(conids), strike) for strike in new]
                for option in company.options:
                    terms = {"trading_class": company.symbol + option.root, "expiry": LEAPS, "last_trade_date": LEAPS}
                    yield (
                        day,
                        contract(option.conid, option.strike / 100, underlying=company.symbol, **terms),
                        option.followed and not option.root,
                    )


def _next_morning(companies: Sequence[Company], actions: Sequence[Row]) -> list[Company]:
    becomes = {one["symbol"]: one["new_symbol"] for one in actions if one["event_type"] == "symbol_change"}
    taken = set(becomes.values())
    alive = []
    for company in companies:
        symbol = company.symbol
        if symbol in taken and symbol not in becomes:
            continue
        company.symbol = becomes.get(symbol, symbol)
        own = [one for one in actions if one["symbol"] in (symbol, company.symbol) and one["event_type"] in ORDER]
        for one in sorted(own, key=lambda one: ORDER.index(one["event_type"])):
            _apply(one, company)
        alive.append(company)
    # Whoever goes by a symbol that was left is another company.
    return [*alive, *(Company(symbol) for symbol in becomes if symbol not in taken)]


def _apply(action: Row, company: Company) -> None:
    if action["event_type"] == "special_dividend":
        for option in company.options:
            if option.strike > action["cash_amount"] * 100:
                option.strike -= round(action["cash_amount"] * 100)
            else:
                company.apart(option)
    elif action["event_type"] == "split" and action["ratio_new"] > action["ratio_old"]:
        _divide(company, action["ratio_new"] // action["ratio_old"])
    else:
        root = str(next(company.roots))
        for option in company.options:
            option.root, option.followed = option.root or root, option.followed and not option.root


def _divide(company: Company, ratio: int) -> None:
    for option in company.options:
        option.strike = (2 * option.strike + ratio) // (2 * ratio)
    places = [(option.root, option.strike) for option in company.options]
    for option, place in zip(company.options, places, strict=True):
        if places.count(place) > 1 or option.strike == 0:
            company.apart(option)
            option.strike = max(option.strike, 1)


@st.composite
def _actions(draw: st.DrawFn, symbols: Sequence[str]) -> Row:
    kind = draw(st.sampled_from([*ORDER, "deliverable_change", "symbol_change", "symbol_change"]))
    row: Row = {
        "symbol": draw(st.sampled_from(symbols)),
        "event_type": kind,
        "effective_date": str(draw(st.sampled_from(DATES[1:]))),
        "known_at": KNOWN,
    }
    if kind == "split":
        row["ratio_new"], row["ratio_old"] = draw(st.sampled_from([(2, 1), (3, 1), (7, 1), (50, 1), (1, 5), (1, 2)]))
    if kind == "special_dividend":
        row["cash_amount"] = draw(st.sampled_from([2.5, 10.0, 15.0]))
    if kind == "symbol_change":
        row["new_symbol"] = draw(st.sampled_from([one for one in symbols if one != row["symbol"]]))
    return row


@st.composite
def worlds(draw: st.DrawFn, number: int) -> World:
    """The world `number`, in which up to eight things happen, each at most once a day to a symbol."""
    name = f"W{number:03d}"
    listed = draw(st.lists(_actions([f"{name}{letter}" for letter in COMPANIES]), min_size=2, max_size=8))
    by_event = {(row["symbol"], row["event_type"], row["effective_date"]): row for row in listed}
    return World(name, list(by_event.values()))
