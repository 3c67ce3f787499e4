"""Every query of docs/cookbook.md, on a lake that dbt built, against answers computed from the raw rows in Python."""

import math
import re
import statistics
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from flows.publication import BuildOutcome, publish
from lake.catalog.as_of import query_as_of
from lake.catalog.connection import CATALOG_FILE, Limits, open_catalog, read
from lake.duck import connect, load_delta
from lake.store import Lake
from tests.models.chains import black_scholes
from tests.models.conftest import SmallLake
from tests.models.rows import Row, contract

PAGE = Path(__file__).resolve().parents[2] / "docs/cookbook.md"
QUESTIONS = {
    int(number): sql for number, sql in re.findall(r"^## (\d+)\. .*?```sql\n(.*?)```", PAGE.read_text(), re.S | re.M)
}
AS_OF = re.findall(r'^chainlake sql --as-of "(.*?)" "(.*?)"$', PAGE.read_text(), re.M)
SMALL = Limits(memory="500MB", threads=1, seconds=60)

DAYS = (date(2014, 6, 5), date(2014, 6, 6), date(2014, 6, 9))
BEFORE, DAY, AFTER = DAYS
NEAR, FAR = date(2014, 6, 21), date(2014, 7, 19)
# AAPL splits 7 for 1 before AFTER: strikes are divided, and the contracts have new ids.
OPENING = {
    BEFORE: {"AAPL": 640.0, "MSFT": 40.0},
    DAY: {"AAPL": 643.0, "MSFT": 40.0},
    AFTER: {"AAPL": 93.0, "MSFT": 40.0},
}
STRIKES = {"AAPL": (630.0, 637.0, 644.0, 651.0, 658.0), "MSFT": (38.0, 39.0, 40.0, 41.0, 42.0)}
SPLIT = {"symbol": "AAPL", "event_type": "split", "effective_date": str(AFTER), "ratio_new": 7, "ratio_old": 1}
SLOTS = 14
TIMES = [f"{9 + (30 + 30 * slot) // 60:02d}:{(30 + 30 * slot) % 60:02d}" for slot in range(SLOTS)]
CROSSED, DELAYED, FAILED = ("AAPL", 5), ("MSFT", 3), ("MSFT", 7)
price = black_scholes()


def chain(day: date, underlying: str) -> list[Row]:
    """The contracts of a day, first those of the nearer expiry; `number` counts them."""
    split = day == AFTER and underlying == "AAPL"
    first = {"AAPL": 3000 if split else 1000, "MSFT": 2000}[underlying]
    listed = [(expiry, strike, right) for expiry in (NEAR, FAR) for strike in STRIKES[underlying] for right in "CP"]
    return [
        contract(
            first + number,
            strike / 7 if split else strike,
            right,
            underlying,
            expiry=expiry,
            last_trade_date=expiry - timedelta(days=1),
        )
        for number, (expiry, strike, right) in enumerate(listed)
    ]


def spot(day: date, underlying: str, slot: int) -> float:
    return OPENING[day][underlying] * (1 + slot / 1000)


def quote(day: date, of: Row, slot: int) -> dict[str, Any]:
    """Five cents around the value by Black and Scholes; a smile, and a term structure that rises."""
    at, years = spot(day, of["underlying"], slot), (of["expiry"] - day).days / 365
    (value,) = price(np.array([at]), np.array([of["strike"]]), np.array([years]), np.array([of["right"] == "C"]))
    bid = math.floor(100 * value) / 100 + 0.02
    number = of["conid"] % 1000
    return {
        "bid": bid,
        "ask": bid + 0.05,
        "iv": round(0.2 + abs(of["strike"] / at - 1) + (0.03 if of["expiry"] == FAR else 0), 4),
        "delta": 0.5 if of["right"] == "C" else -0.5,
        "underlying_price": at,
        "volume": slot * (number + 1),
    }


def mid(day: date, of: Row, slot: int) -> float:
    found = quote(day, of, slot)
    return float(found["bid"] + found["ask"]) / 2


def open_interest(day: date, of: Row) -> int:
    """Differs by contract and day; puts have more of it."""
    number = of["conid"] % 1000
    return (10 + 7 * number % 50 + (5 if of["right"] == "P" else 0)) * (1 + DAYS.index(day))


def record(small: SmallLake) -> None:
    for trade_date in DAYS:
        day = small.day(trade_date)
        contracts = chain(trade_date, "AAPL") + chain(trade_date, "MSFT")
        close = day.close_slot
        day.open(*contracts)
        rows = [day.quote(of, slot, **quote(trade_date, of, slot)) for slot in range(SLOTS) for of in contracts]
        for row in rows if trade_date == DAY else ():
            place = (row["underlying"], row["slot_30m"])
            if place == DELAYED:
                row |= {"market_data_type": 3, "data_quality_flag": ["delayed_fallback"]}
            if place == CROSSED and row["conid"] == 1000:
                row["bid"] = row["ask"] + 1
            if place == FAILED and row["conid"] == 2000:
                row |= day.failure(contracts[20], FAILED[1])
        rows += [day.close_quote(of, **quote(trade_date, of, close)) for of in contracts]
        day.write("raw/option_quotes", rows)
        underlyings = [
            day.underlying(name, slot, view=view, last=spot(trade_date, name, slot))
            for name in STRIKES
            for slot, view in [*((slot, "intraday") for slot in range(SLOTS)), (close, "close")]
        ]
        day.write("raw/underlying_quotes", underlyings)
        day.write("raw/open_interest", [day.open_interest(of, open_interest(trade_date, of)) for of in contracts])


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Published twice: the first two days on the morning of the last, which follows the next morning."""
    with connect(threads=1) as connection:
        small = SmallLake(tmp_path_factory.mktemp("cookbook"), connection)
    small.reference(["AAPL", "MSFT"], [SPLIT])
    record(small)
    versions = small.build(DAYS).versions
    actions = small.seeds / "corporate_actions.csv"
    for days, morning in ((DAYS[:2], AFTER), (DAYS[2:], AFTER + timedelta(days=1))):
        publish(small.lake, days, BuildOutcome(versions), actions, datetime.combine(morning, time(12), UTC))
    return small.lake


@pytest.fixture(scope="module")
def catalog(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_catalog(lake.root, SMALL) as opened:
        yield opened


def answer(catalog: duckdb.DuckDBPyConnection, number: int) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in read(catalog, QUESTIONS[number]).to_pylist()]


def test_the_page_has_its_questions() -> None:
    assert list(QUESTIONS) == list(range(1, 17))


@pytest.mark.parametrize("number", QUESTIONS)
def test_every_query_answers(catalog: duckdb.DuckDBPyConnection, number: int) -> None:
    assert answer(catalog, number)


def test_a_publication_wrote_the_catalog_file_and_the_page_runs_in_it(
    lake: Lake, catalog: duckdb.DuckDBPyConnection
) -> None:
    with duckdb.connect(lake.uri(CATALOG_FILE), read_only=True) as connection:
        load_delta(connection)
        for number, sql in QUESTIONS.items():
            assert len(connection.execute(sql).fetchall()) == len(answer(catalog, number))


# -- answers -----------------------------------------------------------------------------------------------------------

CLOSE = SLOTS - 1
AAPL = chain(DAY, "AAPL")


def nearest(day: date, contracts: list[Row], slot: int) -> float:
    return min({row["strike"] for row in contracts}, key=lambda strike: abs(strike - spot(day, "AAPL", slot)))


def test_chain_at_half_past_ten(catalog: duckdb.DuckDBPyConnection) -> None:
    found = answer(catalog, 1)
    assert [row[:4] for row in found] == [(of["expiry"], "AAPL", of["strike"], of["right"]) for of in AAPL]
    assert [row[4] for row in found] == pytest.approx([quote(DAY, of, 2)["bid"] for of in AAPL])


def test_straddles_through_the_day(catalog: duckdb.DuckDBPyConnection) -> None:
    expected = [
        (TIMES[slot], expiry, strike, sum(mid(DAY, of, slot) for of in AAPL if (of["expiry"], of["strike"]) == pair))
        for slot in range(SLOTS)
        for expiry in (NEAR, FAR)
        for strike in [nearest(DAY, AAPL, slot)]
        for pair in [(expiry, strike)]
    ]
    found = answer(catalog, 2)
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    assert [row[3] for row in found] == pytest.approx([row[3] for row in expected])


def test_smile_and_term_structure_at_the_close(catalog: duckdb.DuckDBPyConnection) -> None:
    smile = {of["strike"]: quote(DAY, of, CLOSE)["iv"] for of in AAPL if of["expiry"] == NEAR}
    found = answer(catalog, 3)
    assert [row[0] for row in found] == sorted(smile)
    assert [row[4] for row in found] == pytest.approx([smile[strike] for strike in sorted(smile)], rel=1e-6)
    strike = nearest(DAY, AAPL, CLOSE)
    terms = answer(catalog, 4)
    assert [row[:3] for row in terms] == [(NEAR, 15, strike), (FAR, 43, strike)]
    assert [row[3] for row in terms] == pytest.approx([smile[strike], smile[strike] + 0.03], rel=1e-6)


def total(expiry: date, right: str) -> int:
    return sum(open_interest(DAY, of) for of in AAPL if (of["expiry"], of["right"]) == (expiry, right))


def test_put_call_ratio(catalog: duckdb.DuckDBPyConnection) -> None:
    assert answer(catalog, 5) == [
        (expiry, total(expiry, "P"), total(expiry, "C"), total(expiry, "P") / total(expiry, "C"))
        for expiry in (NEAR, FAR)
    ]


def payout(expiry: date, at: float) -> float:
    signs = {"C": 1, "P": -1}
    held = [of for of in AAPL if of["expiry"] == expiry]
    return sum(100 * open_interest(DAY, of) * max(signs[of["right"]] * (at - of["strike"]), 0) for of in held)


def test_max_pain_pays_least(catalog: duckdb.DuckDBPyConnection) -> None:
    expected = {expiry: min(STRIKES["AAPL"], key=lambda at: payout(expiry, at)) for expiry in (NEAR, FAR)}
    assert answer(catalog, 6) == [(expiry, at, payout(expiry, at)) for expiry, at in expected.items()]


def test_changes_of_open_interest_and_what_was_traded_against_it(catalog: duckdb.DuckDBPyConnection) -> None:
    changes = {row[:3]: row[3] for row in answer(catalog, 7)}
    assert changes == {
        (of["expiry"], of["strike"], of["right"]): open_interest(DAY, of) - open_interest(BEFORE, of) for of in AAPL
    }
    turned = {row[:3]: row[5] for row in answer(catalog, 8)}
    traded = {
        (of["expiry"], of["strike"], of["right"]): CLOSE * (of["conid"] - 999) / open_interest(BEFORE, of)
        for of in AAPL
    }
    assert turned == pytest.approx({key: ratio for key, ratio in traded.items() if ratio > 1})


def test_a_contract_over_the_split(catalog: duckdb.DuckDBPyConnection) -> None:
    """644 became 92; the price of the days before is a seventh, the open interest seven times as much."""
    (old,) = [of for of in AAPL if (of["expiry"], of["strike"], of["right"]) == (FAR, 644, "C")]
    (new,) = [of for of in chain(AFTER, "AAPL") if (of["expiry"], of["strike"], of["right"]) == (FAR, 92, "C")]
    found = answer(catalog, 9)
    assert [row[:4] for row in found] == [
        (BEFORE, old["conid"], 644, 92),
        (DAY, old["conid"], 644, 92),
        (AFTER, new["conid"], 92, 92),
    ]
    adjusted = [mid(BEFORE, old, CLOSE) / 7, mid(DAY, old, CLOSE) / 7, mid(AFTER, new, CLOSE)]
    assert [row[5] for row in found] == pytest.approx(adjusted)
    assert [row[6] for row in found] == [
        7 * open_interest(BEFORE, old),
        7 * open_interest(DAY, old),
        open_interest(AFTER, new),
    ]


def test_realised_against_implied(catalog: duckdb.DuckDBPyConnection) -> None:
    closes = [spot(BEFORE, "AAPL", CLOSE) / 7, spot(DAY, "AAPL", CLOSE) / 7, spot(AFTER, "AAPL", CLOSE)]
    atm = [
        quote(day, of, CLOSE)["iv"]
        for day in (BEFORE, DAY)
        for of in chain(day, "AAPL")
        if (of["expiry"], of["strike"], of["right"]) == (NEAR, nearest(day, AAPL, CLOSE), "C")
    ]
    found = answer(catalog, 10)
    assert [row[0] for row in found] == [DAY, AFTER]
    assert [row[1] for row in found] == pytest.approx([math.log(b / a) for a, b in pairwise(closes)])
    assert [row[2] for row in found] == pytest.approx([iv / math.sqrt(252) for iv in atm], rel=1e-6)


def test_spread_by_moneyness(catalog: duckdb.DuckDBPyConnection) -> None:
    close = spot(DAY, "AAPL", CLOSE)
    shares: dict[float, list[float]] = {}
    for of in AAPL:
        shares.setdefault(round(of["strike"] / close - 1, 2), []).append(0.05 / mid(DAY, of, CLOSE))
    found = answer(catalog, 11)
    assert [row[0] for row in found] == sorted(shares)
    assert [row[1] for row in found] == [len(shares[key]) for key in sorted(shares)]
    assert [row[3] for row in found] == pytest.approx([statistics.median(shares[key]) for key in sorted(shares)])


def test_crossed_delayed_and_missing_rows_are_found(catalog: duckdb.DuckDBPyConnection) -> None:
    assert ("AAPL", "crossed_market", 1, 1) in answer(catalog, 12)
    assert answer(catalog, 13) == [("MSFT", (20 * SLOTS - 1) / (20 * SLOTS), 0), ("AAPL", 1.0, 0)]
    assert answer(catalog, 15) == [("MSFT", TIMES[DELAYED[1]], 20, 20)]


def test_what_was_not_yet_known_is_left_out(lake: Lake, catalog: duckdb.DuckDBPyConnection) -> None:
    """June 9 was published, and its open interest seen, on the 10th."""
    ((at, sql),) = AS_OF
    assert query_as_of(lake.root, sql, at, limits=SMALL).to_pydict() == {
        "trade_date": [BEFORE, DAY],
        "count_star()": [40, 40],
    }
    assert answer(catalog, 14) == [
        (day, 20, sum(open_interest(day, of) for of in chain(day, "AAPL"))) for day in (BEFORE, DAY)
    ]


def test_a_calendar_spread(catalog: duckdb.DuckDBPyConnection) -> None:
    near, far = (of for of in AAPL if (of["strike"], of["right"]) == (644, "C"))
    found = answer(catalog, 16)
    assert [row[0] for row in found] == TIMES
    assert [row[1] for row in found] == pytest.approx(
        [mid(DAY, far, slot) - mid(DAY, near, slot) for slot in range(SLOTS)]
    )
