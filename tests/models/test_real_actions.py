"""Corporate actions as they were: AAPL's real chains around the 7:1 split, and twenty years of events of known names.

Built with the actions that ship in config/corporate_actions.csv, and the one of NWSA.
"""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from flows.models import BuildResult
from tests.models.conftest import SmallLake
from tests.models.rows import Row, contract

pytestmark = pytest.mark.long

REPOSITORY = Path(__file__).resolve().parents[2]
BEFORE, AFTER = date(2014, 6, 6), date(2014, 6, 9)
# News Corporation split in two on 2013-06-28, and a new company took the symbol: a spin-off, not a change of symbol.
NWSA = "NWSA,deliverable_change,2013-07-01,,,,,2013-06-12T04:00:00Z,News Corp: Form 8-K 2013-06-11\n"
# Sessions on both sides of AAPL's other splits, and some between.
AAPL_DATES = (
    *(date(2000, 6, 20), date(2000, 6, 21), date(2003, 3, 5), date(2005, 2, 25), date(2005, 2, 28)),
    *(date(2012, 8, 9), date(2016, 5, 5), date(2020, 8, 28), date(2020, 8, 31), date(2021, 3, 1)),
)
OTHERS = {
    "NWSA": (date(2013, 6, 28), date(2013, 7, 1)),
    "COST": (date(2020, 11, 30), date(2020, 12, 1)),
    "GE": (date(2021, 7, 30), date(2021, 8, 2), date(2023, 1, 4), date(2024, 4, 2)),
    "FB": (date(2022, 6, 8), date(2022, 6, 9)),
    "META": (date(2022, 6, 9),),
    "TSLA": (date(2020, 8, 28), date(2022, 8, 24)),
}


@dataclass(frozen=True)
class Real:
    """The lake, and what it said before the later history came in."""

    lake: SmallLake
    split: list[dict[str, Any]]
    later: BuildResult


def chain(shared_data: Path, trade_date: date) -> list[Row]:
    """AAPL's contracts on a date, with the quote, volume and open interest that stood at the close."""
    rows = duckdb.sql(
        f"""select expiry, "right", strike, arg_max(bid, ts) as bid, arg_max(ask, ts) as ask, arg_max(last, ts) as last,
            arg_max(bid_size, ts)::bigint as bid_size, arg_max(ask_size, ts)::bigint as ask_size,
            max(volume)::bigint as volume, max(open_interest)::bigint as open_interest,
            arg_max(underlying_price, ts) as underlying_price
        from '{shared_data}/replay/AAPL_{trade_date}.parquet' group by all order by all"""
    )
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]


def record_chain(lake: SmallLake, trade_date: date, rows: list[Row]) -> None:
    day = lake.day(trade_date)
    terms = [
        contract(10_000 * trade_date.day + number, row["strike"], row["right"], expiry=row["expiry"])
        for number, row in enumerate(rows)
    ]
    day.open(*terms)
    quoted = ("bid", "ask", "last", "bid_size", "ask_size", "volume", "underlying_price")
    day.write(
        "raw/option_quotes",
        [day.close_quote(term, **{name: row[name] for name in quoted}) for term, row in zip(terms, rows, strict=True)],
    )
    close = rows[0]["underlying_price"]
    day.write("raw/underlying_quotes", [day.underlying("AAPL", day.close_slot, view="close", last=close)])
    day.write(
        "raw/open_interest",
        [day.open_interest(term, row["open_interest"]) for term, row in zip(terms, rows, strict=True)],
    )


@pytest.fixture(scope="module")
def real(small_lake: Callable[[str], SmallLake], shared_data: Path) -> Real:
    lake = small_lake("real_actions")
    actions = lake.seeds / "corporate_actions.csv"
    shutil.copyfile(REPOSITORY / "config" / "corporate_actions.csv", actions)
    with actions.open("a") as file:
        file.write(NWSA)
    for trade_date in (BEFORE, AFTER):
        record_chain(lake, trade_date, chain(shared_data, trade_date))
    lake.build([BEFORE, AFTER])
    split = lake.rows("select to_json(d)::varchar from (select * from clean.daily_adjusted) as d")

    symbols_by_date: dict[date, list[str]] = {day: ["AAPL"] for day in AAPL_DATES}
    for symbol, days in OTHERS.items():
        for listed in days:
            symbols_by_date.setdefault(listed, []).append(symbol)
    for trade_date, symbols in sorted(symbols_by_date.items()):
        day = lake.day(trade_date)
        terms = [contract(number, 400.0, underlying=symbol) for number, symbol in enumerate(symbols, start=1)]
        day.open(*terms)
        day.write("raw/option_quotes", [day.close_quote(term) for term in terms])
    return Real(lake, [json.loads(text) for (text,) in split], lake.build(sorted(symbols_by_date)))


def on(real: Real, trade_date: date) -> list[dict[str, Any]]:
    return [row for row in real.split if row["trade_date"] == str(trade_date)]


def later(real: Real, symbol: str, trade_date: date, columns: str) -> tuple[Any, ...]:
    (row,) = real.lake.rows(
        f"select {columns} from clean.daily_adjusted "
        f"where underlying = '{symbol}' and trade_date = '{trade_date}' and conid < 10"
    )
    return row


# -- the 7:1 split ---------------------------------------------------------------------------------------------------


def test_the_unexpired_contracts_of_the_day_before_are_those_of_the_day_after_one_to_one(real: Real) -> None:
    before = [row for row in on(real, BEFORE) if row["expiry"] > str(BEFORE)]
    after = on(real, AFTER)
    assert len(on(real, BEFORE)) == 2352
    assert len(before) == len(after) == 2180
    keys = {row["adjusted_contract_key"]: row for row in after}
    assert len(keys) == 2180
    assert {row["adjusted_contract_key"] for row in before} == keys.keys()
    for row in before:
        partner = keys[row["adjusted_contract_key"]]
        assert (row["expiry"], row["right"], row["strike_adj"]) == (
            partner["expiry"], partner["right"], partner["strike"],
        )  # fmt: skip
    assert all(row["strike_adj"] == row["strike"] and row["adjustment_events"] == [] for row in after)


def test_177_strikes_become_177_strikes_by_occs_rule(real: Real) -> None:
    """The strike divided by seven, to the nearest cent: computed in decimals, not by the models."""
    before = {row["strike"]: row["strike_adj"] for row in on(real, BEFORE) if row["expiry"] > str(BEFORE)}
    listed = {row["strike"] for row in on(real, AFTER)}
    by_rule = {strike: float((Decimal(str(strike)) / 7).quantize(Decimal("0.01"), ROUND_HALF_UP)) for strike in before}
    assert before == by_rule
    assert len(before) == len(set(before.values())) == len(listed) == 177
    assert set(before.values()) == listed


def test_contracts_times_multiplier_times_price_is_preserved(real: Real) -> None:
    for contracts, price in (("open_interest", "mid"), ("volume", "last"), ("bid_size", "bid"), ("ask_size", "ask")):
        known = [row for row in on(real, BEFORE) if row[contracts] and row[price]]
        assert len(known) > 400
        for row in known:
            value = row[contracts] * row["multiplier"] * row[price]
            assert row[f"{contracts}_adj"] * row["multiplier"] * row[f"{price}_adj"] == pytest.approx(value, rel=1e-12)
            assert row[f"{contracts}_adj"] == 7 * row[contracts]


def test_moneyness_survives_the_split_up_to_the_rounding_of_strikes(real: Real) -> None:
    for row in on(real, BEFORE):
        rounding = 0.005 / row["strike_adj"] * (1 + row["moneyness_pct"]) * 1.01
        assert row["moneyness_pct_adj"] == pytest.approx(row["moneyness_pct"], abs=rounding)


# -- the later history -----------------------------------------------------------------------------------------------


def test_price_factors_are_the_split_factors_of_the_factor_file(real: Real, shared_data: Path) -> None:
    """An independent vendor's file over AAPL's whole history; a factor holds through its date."""
    with (shared_data / "reference" / "factor_files" / "aapl.csv").open(newline="") as lines:
        factors = [(f"{day[:4]}-{day[4:6]}-{day[6:]}", float(split)) for day, _, split, _ in csv.reader(lines)]
    found = real.lake.rows(
        "select distinct trade_date::varchar, price_factor from clean.daily_adjusted where underlying = 'AAPL'"
    )
    expected = {day: next(split for through, split in factors if through >= day) for day, _ in found}
    assert len(expected) == len(AAPL_DATES) + 2
    assert dict(found) == pytest.approx(expected, rel=1e-5)
    assert sorted({round(1 / factor) for _, factor in found}) == [1, 4, 28, 56, 112]


def test_strikes_are_rounded_at_each_of_several_splits(real: Real) -> None:
    # 400 / 2 / 2 / 7 = 14.2857.. -> 14.29, / 4 = 3.5725 -> 3.57.
    events = ["split:2000-06-21", "split:2005-02-28", "split:2014-06-09", "split:2020-08-31"]
    columns = "strike_adj, adjustment_events, open_interest_adj, bid_size_adj"
    assert later(real, "AAPL", date(2000, 6, 20), columns) == (3.57, events, None, 1120)
    assert later(real, "TSLA", date(2020, 8, 28), "strike_adj, adjustment_events") == (
        26.67, ["split:2020-08-31", "split:2022-08-25"],
    )  # fmt: skip
    # The second split alone: 400 / 3.
    assert later(real, "TSLA", date(2022, 8, 24), "strike_adj") == (133.33,)


def test_later_splits_restate_the_real_chain_once_more(real: Real) -> None:
    """The 4:1 split of 2020 came into force with the later dates, and reaches both days of 2014."""
    assert real.later.restatements == {BEFORE: ("AAPL",), AFTER: ("AAPL",)}
    assert real.lake.rows(
        "select distinct trade_date, price_factor from clean.daily_adjusted where conid >= 10000 order by 1"
    ) == [(BEFORE, 1 / 28), (AFTER, 1 / 4)]


def test_fb_and_meta_are_one_history_and_the_next_fb_is_another(real: Real) -> None:
    key = "META|META|100|2014-07-17|C|400.00"
    assert later(real, "FB", date(2022, 6, 8), "adjusted_contract_key") == (key,)
    assert later(real, "META", date(2022, 6, 9), "adjusted_contract_key") == (key,)
    assert later(real, "FB", date(2022, 6, 9), "adjusted_contract_key") == ("FB|FB|100|2014-07-17|C|400.00",)


def test_nwsa_of_2013_is_a_new_company_under_an_old_symbol(real: Real) -> None:
    columns = "adjusted_contract_key, strike_adj, price_factor"
    assert later(real, "NWSA", date(2013, 6, 28), columns) == ("NWSA|NWSA@2013-07-01|100|2014-07-17|C|400.00", 400, 1)
    assert later(real, "NWSA", date(2013, 7, 1), columns) == ("NWSA|NWSA|100|2014-07-17|C|400.00", 400, 1)


def test_special_dividends_lower_strikes_and_underlying_by_their_cash(real: Real) -> None:
    # 10 dollars in 2020, and 15 more in 2023.
    columns = "strike_adj, strike_shift, underlying_close_adj, bid_adj"
    (close,) = later(real, "COST", date(2020, 11, 30), "underlying_close")
    assert later(real, "COST", date(2020, 11, 30), columns) == (375, 25, close - 25, 1)
    assert later(real, "COST", date(2020, 12, 1), columns) == (385, 15, close - 15, 1)


def test_each_new_deliverable_of_ge_ends_the_series_before_it(real: Real) -> None:
    columns = "adjusted_contract_key, adjustment_events"
    events = ["deliverable_change:2021-08-02", "deliverable_change:2023-01-04", "deliverable_change:2024-04-02"]
    # Four instruments: the first change after a row ends the series that it belongs to.
    assert later(real, "GE", date(2021, 7, 30), columns) == ("GE|GE@2021-08-02|100|2014-07-17|C|400.00", events)
    assert later(real, "GE", date(2021, 8, 2), columns) == ("GE|GE@2023-01-04|100|2014-07-17|C|400.00", events[1:])
    assert later(real, "GE", date(2023, 1, 4), columns) == ("GE|GE@2024-04-02|100|2014-07-17|C|400.00", events[2:])
    assert later(real, "GE", date(2024, 4, 2), columns) == ("GE|GE|100|2014-07-17|C|400.00", [])
