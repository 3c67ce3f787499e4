"""Forwards, volatilities and surfaces of a day whose market is known, through dbt and Delta as a rollup makes them."""

import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
import pytest

from flows.models import left_out
from ingest.calendar.sessions import new_york
from lake.dbt import pricing_functions
from option_pricing import american, black_scholes
from tests.models.conftest import SmallLake
from tests.models.rows import Day, Row, contract

DAY = date(2021, 4, 26)
SPOT, RATE_DAYS = {"AAPL": 134.0, "SPX": 4187.0}, 365.0
CARRY = {"AAPL": 0.006, "SPX": 0.014}
# Third Fridays, and the last session of a quarter; SPX settles at the open, SPXW at the close.
EXPIRIES = (date(2021, 5, 21), date(2021, 6, 18), date(2021, 9, 17))
EXPIRED = DAY
HALF_SPREAD = 0.01
SLOT = 3
TABLES = (
    *("derived.forwards", "derived.vols", "derived.surfaces"),
    *("derived.surface_grid", "derived.constant_maturities"),
)


def years_to(expiry: date, clock: time, at: datetime) -> float:
    return (new_york(expiry, clock) - at).total_seconds() / (RATE_DAYS * 86_400)


def smile_vol(log_moneyness: float, years: float) -> float:
    return 0.22 - 0.10 * log_moneyness / math.sqrt(years) * 0.4 + 0.05 * log_moneyness**2


class Known:
    """Quotes of AAPL (American) and SPX (European) in one slot and in the close view, by their own model."""

    def __init__(self, lake: SmallLake) -> None:
        self.lake = lake
        lake.reference(["AAPL", "SPX"])
        day = lake.day(DAY)
        self.contracts: list[Row] = []
        for number, symbol in enumerate(SPOT):
            for expiry in (*EXPIRIES, EXPIRED):
                for step in range(-10, 11):
                    strike = round(SPOT[symbol] * (1 + 0.02 * step), 0)
                    for right in "CP":
                        conid = 1_000_000 * (number + 1) + len(self.contracts)
                        last = expiry - timedelta(days=1) if symbol == "SPX" else expiry
                        self.contracts.append(
                            contract(conid, strike, right, symbol, expiry=expiry, last_trade_date=max(last, DAY))
                        )
        day.open(*self.contracts)
        rows = [self.quoted(day, each, SLOT) for each in self.contracts]
        rows += [self.quoted(day, each, day.close_slot, view="close") for each in self.contracts]
        # One quote of the smile is stale, one has no bid, one is below what exercise brings.
        self.stale = self._spoil(rows, "AAPL", EXPIRIES[1], 134.0, "C", bid=0.5, ask=0.52)
        self.no_bid = self._spoil(rows, "AAPL", EXPIRIES[0], 161.0, "C", bid=None, bid_size=0)
        self.too_low = self._spoil(rows, "AAPL", EXPIRIES[0], 153.0, "P", bid=15.0, ask=15.02)
        day.write("raw/option_quotes", rows)
        self.result = lake.build([DAY], without=())

    def rate(self, years: float) -> float:
        """Of every tenor."""
        return 0.0005

    def truth(self, day: Day, one: Row, slot: int, view: str) -> tuple[float, float, float]:
        """Years, forward and volatility of a contract."""
        symbol, expiry = one["underlying"], one["expiry"]
        clock = time(9, 30) if symbol == "SPX" else time(16, 0)
        at = day.session.close if view == "close" else day.slot(slot).sample_time + timedelta(seconds=20)
        years = years_to(expiry, clock, at)
        forward = SPOT[symbol] * math.exp((self.rate(years) - CARRY[symbol]) * years)
        return years, forward, smile_vol(math.log(one["strike"] / forward), years) if years > 0 else math.nan

    def quoted(self, day: Day, one: Row, slot: int, view: str = "intraday") -> Row:
        years, _, vol = self.truth(day, one, slot, view)
        symbol, call = one["underlying"], one["right"] == "C"
        terms = (SPOT[symbol], one["strike"], years, vol)
        if years <= 0:
            value = max(0.05, (1 if call else -1) * (SPOT[symbol] - one["strike"]))
        elif symbol == "SPX":
            value = float(black_scholes.price(*terms, call, self.rate(years), CARRY[symbol]))
        else:
            value = float(american.price(call, *terms, self.rate(years), CARRY[symbol]))
        half = min(HALF_SPREAD * SPOT[symbol] / 134.0, 0.4 * value)
        quote = {
            "bid": value - half,
            "ask": value + half,
            "underlying_price": SPOT[symbol],
            "iv": vol if years > 0 else None,
        }
        return day.quote(one, slot, view=view, **quote)

    def _spoil(self, rows: list[Row], symbol: str, expiry: date, strike: float, right: str, **values: Any) -> int:
        wanted = (symbol, expiry, strike, right, "intraday")
        (row,) = [
            row
            for row in rows
            if (row["underlying"], row["expiry"], row["strike"], row["right"], row["view"]) == wanted
        ]
        row |= values
        return int(row["conid"])


@pytest.fixture(scope="module")
def known(small_lake: Callable[[str], SmallLake]) -> Known:
    rates = "date,tenor_days,rate,source\n2021-04-20,30,0.0005,test\n2021-04-20,730,0.0005,test\n"
    lake = small_lake("derived")
    file = lake.folder / "rates.csv"
    file.write_text(rates)
    lake.rates = file
    return Known(lake)


def test_the_build_passes_and_publishes_what_it_made(known: Known) -> None:
    names = {failure.name for failure in known.result.failures}
    # A day of one slot lacks the others; nothing of what is derived is wrong.
    assert not [name for name in names if not name.endswith("_holds")], names
    made = {name for name in known.result.versions if name.startswith("derived/")}
    assert made == {table.replace(".", "/") for table in TABLES}


def test_forwards_are_those_of_the_market(known: Known) -> None:
    day = known.lake.day(DAY)
    rows = known.lake.rows(
        "select view, slot_30m, underlying, expiry, tte, forward, confidence, is_american, data_quality_flag "
        "from derived.forwards"
    )
    # Of today's expiry only AAPL's has time left, and only in the slot.
    assert len(rows) == 2 * 2 * len(EXPIRIES) + 1
    for view, slot, symbol, expiry, tte, forward, confidence, is_american, flags in rows:
        years, true, _ = known.truth(day, {"underlying": symbol, "expiry": expiry, "strike": 1.0}, slot, view)
        assert tte == pytest.approx(years, abs=1e-9)
        assert is_american == (symbol == "AAPL")
        if expiry == EXPIRED:
            continue
        assert forward == pytest.approx(true, rel=2e-4), (view, symbol, expiry, flags)
        assert confidence > 0.5
    outliers = [row for row in rows if "outliers" in row[-1]]
    assert [(row[0], row[2], row[3]) for row in outliers] == [("intraday", "AAPL", EXPIRIES[1])]


def test_what_expires_at_the_open_has_expired_by_noon(known: Known) -> None:
    """SPX of today settled at 09:30; AAPL's trade until the close, and are worth what exercise brings after it."""
    found = known.lake.rows(
        f"select view, underlying, count(*), count(iv_mid), min(reason), max(reason) from derived.vols "
        f"where expiry = date '{EXPIRED}' group by all order by all"
    )
    assert [row[:3] for row in found] == [
        ("close", "AAPL", 42), ("close", "SPX", 42), ("intraday", "AAPL", 42), ("intraday", "SPX", 42),
    ]  # fmt: skip
    for view, symbol, _, with_vol, *_ in found:
        if (view, symbol) != ("intraday", "AAPL"):
            assert with_vol == 0, (view, symbol)


def test_volatilities_are_those_that_made_the_quotes(known: Known) -> None:
    day = known.lake.day(DAY)
    by_conid = {one["conid"]: one for one in known.contracts}
    rows = known.lake.rows(
        "select view, slot_30m, conid, iv_bid, iv_mid, iv_ask, vega, reason, model, log_moneyness, forward "
        f"from derived.vols where expiry <> date '{EXPIRED}' and conid not in "
        f"({known.stale}, {known.no_bid}, {known.too_low})"
    )
    assert len(rows) == 2 * 2 * 3 * 42 - 3 * 2
    inside = sure = 0
    for view, slot, conid, iv_bid, iv_mid, iv_ask, vega, reason, model, log_moneyness, forward in rows:
        one = by_conid[conid]
        _, _, vol = known.truth(day, one, slot, view)
        assert (iv_mid is None) == (reason is not None)
        assert model == ("european" if one["underlying"] == "SPX" else "american")
        assert log_moneyness == pytest.approx(math.log(one["strike"] / forward))
        if iv_mid is not None and vega * 100 > 0.02 * SPOT[one["underlying"]]:
            sure += 1
            inside += (iv_bid or 0.0) <= vol <= iv_ask
            assert iv_mid == pytest.approx(vol, abs=0.01)
    assert sure > 300
    assert inside >= 0.99 * sure


def test_what_is_not_told_has_its_reason(known: Known) -> None:
    found = dict(
        known.lake.rows(
            "select conid, reason from derived.vols where view = 'intraday' "
            f"and conid in ({known.no_bid}, {known.too_low})"
        )
    )
    assert found == {known.no_bid: "no_bid", known.too_low: "below_intrinsic"}
    iv_ask, delta = known.lake.rows(
        f"select iv_ask, delta from derived.vols where view = 'intraday' and conid = {known.no_bid}"
    )[0]
    assert iv_ask > 0.1
    assert 0 < delta < 0.2


def test_every_contract_of_clean_and_of_the_close_view_has_a_row(known: Known) -> None:
    ours = known.lake.rows("select conid, slot_30m from derived.vols where view = 'intraday' order by all")
    assert ours == known.lake.rows("select conid, slot_30m from clean.intraday order by all")
    close = known.lake.rows("select conid from derived.vols where view = 'close' order by all")
    assert close == [(conid,) for conid in sorted(one["conid"] for one in known.contracts)]


def test_surfaces_are_fitted_and_read_at_standard_deltas(known: Known) -> None:
    rows = known.lake.rows(
        "select underlying, expiry, view, atm_iv, inside_share, arbitrage_free, confidence, tte from derived.surfaces "
        f"where expiry <> date '{EXPIRED}'"
    )
    assert len(rows) == 2 * 2 * 3
    for symbol, expiry, view, atm_iv, inside_share, arbitrage_free, confidence, tte in rows:
        assert atm_iv == pytest.approx(smile_vol(0.0, tte), abs=0.005), (symbol, expiry, view)
        assert inside_share > 0.8
        assert arbitrage_free
        assert confidence > 0.5
    grid = known.lake.rows(
        "select underlying, days, delta, iv, strike, confidence from derived.surface_grid where \"right\" = 'C'"
    )
    assert {row[1] for row in grid} >= {30, 60, 91, 122}
    for symbol, days, _, iv, strike, confidence in grid:
        if confidence >= 0.8:
            forward = SPOT[symbol] * math.exp((0.0005 - CARRY[symbol]) * days / 365)
            assert iv == pytest.approx(smile_vol(math.log(strike / forward), days / 365), abs=0.006)
    assert sum(row[-1] >= 0.8 for row in grid) > 60
    atm = known.lake.rows("select days, atm_iv from derived.constant_maturities where days in (30, 91)")
    assert len(atm) == 8
    for days, atm_iv in atm:
        assert atm_iv == pytest.approx(smile_vol(0.0, days / 365), abs=0.005)


def test_a_day_that_is_built_again_comes_out_the_same(known: Known) -> None:
    before = {table: known.lake.content(table) for table in TABLES}
    known.lake.build([DAY], without=())
    assert {table: known.lake.content(table) for table in TABLES} == before


def test_they_can_be_left_out(small_lake: Callable[[str], SmallLake]) -> None:
    lake = small_lake("plain")
    lake.reference()
    day = lake.day(DAY)
    day.open(contract(1, expiry=EXPIRIES[0]))
    day.write("raw/option_quotes", [day.quote(contract(1, expiry=EXPIRIES[0]), SLOT)])
    result = lake.build([DAY], without=left_out(derived=False))
    assert not [name for name in result.versions if name.startswith("derived/")]
    assert lake.one("select count(*) from clean.intraday") == 1


def test_a_derived_table_that_cannot_be_made_fails_the_day_and_keeps_its_clean_tables(
    small_lake: Callable[[str], SmallLake], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("this cannot be computed")

    monkeypatch.setattr(pricing_functions, "imply_forwards", broken)
    lake = small_lake("broken")
    lake.reference()
    day = lake.day(DAY)
    dates = {"expiry": EXPIRIES[0], "last_trade_date": EXPIRIES[0]}
    pair = [contract(1, **dates), contract(2, right="P", **dates)]
    day.open(*pair)
    day.write("raw/option_quotes", [day.quote(one, SLOT) for one in pair])
    result = lake.build([DAY], without=())
    assert result.status == "failed"
    assert "int_forwards" in {failure.name for failure in result.failures}
    assert lake.one("select count(*) from clean.intraday") == 2


def test_numbers_that_are_not_finite_are_null() -> None:
    made = pricing_functions.structs({"number": np.array([1.0, np.nan, np.inf]), "count": np.array([1, 2, 3])})
    assert made.to_pylist() == [{"number": 1.0, "count": 1}, {"number": None, "count": 2}, {"number": None, "count": 3}]
