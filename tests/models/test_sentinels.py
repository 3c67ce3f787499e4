"""Capture and `clean` agree on what is no value, at the edges of every type: one rule, in Python and in SQL."""

import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import jinja2
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.broker.library import Ticker
from ingest.broker.quotes import quote_of
from ingest.settings import PROJECT
from lake.sentinels import GREEK, GREEK_OF_MINUS_ONE, RULES, known
from lake.tables import COUNT, OPTION_QUOTES, SMALL, UNDERLYING_QUOTES

TYPES = {column.name: column.type for table in (UNDERLYING_QUOTES, OPTION_QUOTES) for column in table.columns}
MACROS: Any = jinja2.Environment(autoescape=False).from_string(
    (Path(PROJECT) / "dbt_project" / "macros" / "quotes.sql").read_text(encoding="utf-8")
)
CONNECTION = duckdb.connect(config={"threads": 1})
LARGEST_SINGLE = 3.4028234663852886e38
EDGES = [
    *(0.0, -0.0, -0.05, 0.05, -1.0, -2.0, -999.0, 5e-324, -5e-324, 1e-50, -1e-50, 1.0, 100.0),
    *(2.0**31 - 1, 2.0**31, -(2.0**31), 2.0**31 - 100, 2.0**32, 2.0**63, -(2.0**63), 2.0**64),
    *(LARGEST_SINGLE, LARGEST_SINGLE * 2, 1e300, 1.7976931348623157e308, math.inf, -math.inf, math.nan),
]
numbers = st.one_of(
    st.sampled_from(EDGES),
    st.sampled_from(EDGES).map(lambda edge: math.nextafter(edge, math.inf)),
    st.sampled_from(EDGES).map(lambda edge: math.nextafter(edge, -math.inf)),
    st.floats(),
    st.floats(-1000, 1000),
)
whole_numbers = st.one_of(
    st.sampled_from([0, 1, -1, -2, -999, 2**31 - 2, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, -(2**63)]),
    st.integers(-(2**63), 2**63 - 1),
)


@pytest.fixture(scope="module")
def macros() -> ModuleType:
    """The macros of quotes.sql as functions that return SQL."""
    module: ModuleType = MACROS.module
    return module


def expression(macros: ModuleType, column: str) -> str:
    """What the staging models make of `column`."""
    rule = RULES[column]
    if rule.whole:
        return str(macros.known_count(column))
    if rule is GREEK:
        return str(macros.known_greek(column, "-1, -2, -999"))
    return str(macros.known_greek(column) if rule is GREEK_OF_MINUS_ONE else macros.known_amount(column))


def in_sql(rows: dict[str, pa.Array], *expressions: str) -> list[tuple[Any, ...]]:
    quotes = pa.table(rows)
    return CONNECTION.from_arrow(quotes).select(*map(duckdb.SQLExpression, expressions)).fetchall()


def stored(column: str, values: Sequence[Any]) -> pa.Array:
    return pa.array(values, TYPES[column], from_pandas=False)


def test_the_rule_speaks_of_every_number_that_a_quote_can_miss() -> None:
    columns = [
        column
        for table in (OPTION_QUOTES, UNDERLYING_QUOTES)
        for column in table.columns
        if not column.required and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type))
    ]
    assert {column.name for column in columns} - {"error_code"} == set(RULES)
    assert {TYPES[name] for name, rule in RULES.items() if rule.whole} == {COUNT, SMALL}


@pytest.mark.parametrize("column", RULES)
@given(data=st.data())
def test_python_and_sql_say_the_same_of_what_raw_holds(column: str, macros: ModuleType, data: st.DataObject) -> None:
    of_type = numbers if pa.types.is_floating(TYPES[column]) else whole_numbers
    if TYPES[column] == SMALL:
        of_type = of_type.filter(lambda number: -(2**31) <= number < 2**31)
    raw = stored(column, data.draw(st.lists(of_type, min_size=1, max_size=20)))
    told = [value for (value,) in in_sql({column: raw}, expression(macros, column))]
    assert told == [known(column, value) for value in raw.to_pylist()]


@pytest.mark.parametrize("column", RULES)
@given(data=st.data())
def test_whatever_comes_is_held_by_its_column_and_left_alone_by_sql(
    column: str, macros: ModuleType, data: st.DataObject
) -> None:
    came = data.draw(st.lists(st.one_of(numbers, st.integers(), st.decimals(), st.none()), min_size=1, max_size=20))
    raw = stored(column, [known(column, value) for value in came])
    assert [value for (value,) in in_sql({column: raw}, expression(macros, column))] == raw.to_pylist()
    for value in raw.to_pylist():
        assert value is None or (abs(value) < 2**31 - 1 and (RULES[column].signed or value >= 0))


@given(numbers, st.sampled_from([math.nan, 0, 5, -1, 2**63]), numbers)
def test_a_quote_is_good_alike_by_way_of_capture_and_straight_from_raw(bid: float, size: float, ask: float) -> None:
    macros = MACROS.module
    ticker = Ticker()
    ticker.bid, ticker.bidSize, ticker.ask = bid, size, ask
    quote = quote_of(ticker, "C")
    arrived = [  # by way of capture, and as a foreign writer stores it
        (quote.bid, quote.bid_size, quote.ask, quote.bid_seen),
        (bid, None if math.isnan(size) else min(int(size), 2**63 - 1), ask, not math.isnan(bid)),
    ]
    names = ("bid", "bid_size", "ask", "bid_seen")
    rows = {name: stored(name, values) for name, values in zip(names, zip(*arrived, strict=True), strict=True)}
    by_capture, from_raw = [
        bool(seller and seller > 0 and (buyer <= seller if buyer is not None else seen))
        for buyer, seller, seen in in_sql(rows, macros.known_bid(), macros.known_amount("ask"), macros.is_bid_seen())
    ]
    assert by_capture == from_raw == quote.has_market
