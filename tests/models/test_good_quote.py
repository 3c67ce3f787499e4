"""The rule of a good quote says the same in capture, in what capture reads of raw, and in the models."""

import math
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.broker.codes import DELAYED_TYPES
from ingest.broker.library import Ticker
from ingest.broker.quotes import quote_of
from ingest.calendar.sessions import session_on
from ingest.capture.slot import window_of
from ingest.settings import load
from lake.reads import GOOD_QUOTE
from lake.sentinels import known
from lake.tables import OPTION_QUOTES
from tests.models.test_sentinels import CONNECTION, EDGES, MACROS

DAY = date(2014, 6, 5)
SESSION = session_on(DAY)
assert SESSION is not None
WINDOWS = {
    view: window_of(SESSION, SESSION.close_slot, view, load(close={"deadline": "22:00"}))
    for view in ("intraday", "close")
}
COLUMNS = ("view", "bid", "bid_size", "ask", "bid_seen", "snapshot_error", "asof_ts")
TYPES = {column.name: column.type for column in OPTION_QUOTES.columns}
# Few prices, so that bid and ask are often equal, and always near an edge.
prices = st.one_of(st.sampled_from([0.0, 0.05, 0.1, 1.0, -0.05, -1.0, math.nan]), st.sampled_from(EDGES))
sizes = st.sampled_from([0, 5, -1, 2**31 - 1, 2**63 - 1])


@st.composite
def arrivals(draw: st.DrawFn, view: str) -> datetime | None:
    """Instants about the edges of a view's window, or none."""
    edge = draw(st.sampled_from(WINDOWS[view]))
    near = draw(st.sampled_from([-1, 0, 1, -3_600_000_000, 3_600_000_000, None]))
    return None if near is None else edge + timedelta(microseconds=near)


@st.composite
def raw_rows(draw: st.DrawFn) -> dict[str, Any]:
    """A row as anybody may have written it: sentinels, contradictions and all."""
    view = draw(st.sampled_from(sorted(WINDOWS)))
    return {
        "view": view,
        "bid": draw(st.none() | prices),
        "bid_size": draw(st.none() | sizes),
        "ask": draw(st.none() | prices),
        "bid_seen": draw(st.booleans()),
        "snapshot_error": draw(st.booleans()),
        "asof_ts": draw(arrivals(view)),
    }


def verdicts(row: dict[str, Any]) -> tuple[bool, bool]:
    """Whether a raw row is good for capture, and for the models."""
    macros = MACROS.module
    # The variable's name is what DuckDB finds the rows by.
    rows = pa.table({name: pa.array([row[name]], TYPES[name], from_pandas=False) for name in COLUMNS})
    opens, closes = WINDOWS[row["view"]]
    window = {"window_start": opens, "window_end": closes}
    relation = CONNECTION.cursor()
    relation.execute("set timezone = 'UTC'")
    relation.register("raw_rows", rows)
    for_capture = relation.execute(f"select coalesce({GOOD_QUOTE}, false) from raw_rows", window).fetchone()
    staged = f"""
        select {macros.is_good_quote("$window_start", "$window_end")} from (
            select {macros.known_bid()} as bid, {macros.known_amount("ask")} as ask, {macros.is_bid_seen()} as bid_seen,
                coalesce(snapshot_error, false) as snapshot_error, asof_ts
            from raw_rows
        )
    """
    for_models = relation.execute(staged, window).fetchone()
    assert for_capture is not None
    assert for_models is not None
    return bool(for_capture[0]), bool(for_models[0])


@given(raw_rows())
def test_raw_and_the_models_agree_on_every_row(row: dict[str, Any]) -> None:
    for_capture, for_models = verdicts(row)
    assert for_capture == for_models


@given(st.sampled_from(sorted(WINDOWS)), prices, sizes, prices, st.data())
def test_what_capture_takes_for_a_market_is_good_when_it_came_in_time(
    view: str, bid: float, size: int, ask: float, data: st.DataObject
) -> None:
    ticker = Ticker()
    ticker.bid, ticker.bidSize, ticker.ask = bid, size, ask
    quote, asof, failed = quote_of(ticker, "C"), data.draw(arrivals(view)), data.draw(st.booleans())
    row = {
        "view": view,
        "bid": quote.bid,
        "bid_size": quote.bid_size,
        "ask": quote.ask,
        "bid_seen": quote.bid_seen,
        "snapshot_error": failed,
        "asof_ts": asof,
    }
    opens, closes = WINDOWS[view]
    in_time = asof is not None and opens <= asof < closes
    assert verdicts(row) == (quote.has_market and in_time and not failed,) * 2


@pytest.mark.parametrize(
    ("changed", "good"),
    [
        ({}, True),
        ({"bid": None}, True),
        ({"bid": -1.0, "bid_seen": False}, True),
        ({"bid": None, "bid_seen": False}, False),
        ({"bid": -0.05}, False),
        ({"bid": 1.1}, True),
        ({"bid": 1.15}, False),
        ({"ask": 0.0}, False),
        ({"ask": 2.0**31}, False),
        ({"snapshot_error": True}, False),
        ({"asof_ts": WINDOWS["close"][0]}, True),
        ({"asof_ts": WINDOWS["close"][0] - timedelta(microseconds=1)}, False),
        ({"asof_ts": WINDOWS["close"][1] - timedelta(microseconds=1)}, True),
        ({"asof_ts": WINDOWS["close"][1]}, False),
        ({"asof_ts": None}, False),
    ],
)
def test_the_rule(changed: dict[str, Any], good: bool) -> None:
    arrived = WINDOWS["close"][0] + timedelta(hours=1)
    row = {"view": "close", "bid": 1.0, "bid_size": 5, "ask": 1.1, "bid_seen": True, "snapshot_error": False}
    assert verdicts({**row, "asof_ts": arrived, **changed}) == (good, good)


@pytest.mark.parametrize("kind", [None, *range(-2, 7), 2**31 - 1])
def test_delayed_is_the_same_for_capture_and_the_models(kind: int | None) -> None:
    column = pa.table({"market_data_type": pa.array([kind], TYPES["market_data_type"])})
    in_sql = CONNECTION.from_arrow(column).project(MACROS.module.is_delayed()).fetchone()
    assert in_sql == (known("market_data_type", kind) in DELAYED_TYPES,)
