"""Comparisons between quotes: planted faults, markets without any, recorded days, and a second opinion on noise."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows.models import PROJECT, BuildResult
from tests.models import chains
from tests.models.conftest import SmallLake
from tests.models.faults import FLAT, LONG, NOISY, PLANTED, SHORT, Plant, noise, planted, rising, session, underlyings
from tests.models.quality_rules import Finding, findings
from tests.models.rows import contract

CLEAN = date(2014, 6, 10)
RULES = ("stale_quote", "below_intrinsic", "parity_violation", "strike_monotonicity", "butterfly_violation")


def record(lake: SmallLake, day: date, quotes: Iterable[pl.DataFrame]) -> None:
    rows, of_day = pl.concat(quotes, how="diagonal_relaxed"), session(day)
    chains.write(lake.lake, "raw/sessions", chains.sessions(of_day), day)
    chains.write(lake.lake, "raw/contracts", chains.frozen(rows, of_day), day)
    chains.write(lake.lake, "raw/option_quotes", rows, day)


def open_interest(lake: SmallLake, plant: Plant) -> dict[str, int]:
    """Two mornings of four contracts, of 100 contracts volume each; who stands for what."""
    held, burst, given_up, silent = (plant.at(LONG, strike, "C") for strike in (90.0, 92.0, 94.0, 96.0))
    before, day = lake.day(PLANTED), lake.day(NOISY)
    rows = {conid: {"conid": conid, "underlying": "PLANT"} for conid in (held, burst, given_up, silent)}
    before.write("raw/open_interest", [before.open_interest(row, 1000) for row in rows.values()])
    day.write(
        "raw/open_interest",
        [
            day.open_interest(rows[held], 1100),
            day.open_interest(rows[burst], 899),
            *(
                day.open_interest(rows[conid], None, oi_asof_date=None, method=method, snapshot_error=True)
                for conid, method in ((given_up, "next_session_snapshot"), (silent, "enrichment"))
            ),
        ],
    )
    return {"held": held, "burst": burst, "given_up": given_up, "silent": silent}


class Market:
    """All days of this file in one lake, built once."""

    def __init__(self, lake: SmallLake) -> None:
        self.lake = lake
        lake.reference(["PLANT"])
        plant, self.expected = planted()
        plant.change(plant.at(SHORT, 100.0, "C"), 3, market_data_type=None)
        self.reused = plant.at(SHORT, 90.0, "C")
        stale_set = pl.when(pl.col("conid") == self.reused).then(pl.lit(["discovery_stale"], pl.List(pl.String)))
        flagged = plant.quotes.with_columns(data_quality_flag=stale_set.otherwise(pl.col("data_quality_flag")))
        # Half a share for each: far below what a share's price would make of its strikes.
        halved = chains.made(
            session(PLANTED),
            "PLANT",
            rising(),
            lambda spot, strike, years, call: FLAT(spot / 2, strike, years, call),
            first_conid=1001,
            strikes=range(30, 71, 2),
        ).with_columns(trading_class=pl.lit("PLANT1"))
        before = chains.made(session(PLANTED), "MRNA", [62.96] * 14, FLAT, first_conid=2001, strikes=range(50, 76, 5))
        after = chains.made(session(NOISY), "MRNA", [174.38] * 14, FLAT, first_conid=2001, strikes=range(50, 76, 5))
        # The same contracts a day later.
        after = after.with_columns(
            pl.col("expiry") - pl.duration(days=1), pl.col("last_trade_date") - pl.duration(days=1)
        )
        record(lake, PLANTED, [flagged, halved, before])
        whole = chains.made(session(NOISY), "PLANT", rising(), FLAT, first_conid=1)
        self.noise = pl.concat([noise(10_001, "NOISE", 1), noise(20_001, "SOUND", 2)])
        record(lake, NOISY, [whole, after, self.noise])
        chains.write(lake.lake, "raw/underlying_quotes", underlyings("NOISE", NOISY), NOISY)
        self.interest = open_interest(lake, plant)
        record(
            lake,
            CLEAN,
            [
                chains.made(session(CLEAN), "FLAT", rising(), FLAT, first_conid=1, apart_s=0.7, drift=0.01),
                # European: worth less than its intrinsic value deep in the money, which is no fault.
                chains.made(session(CLEAN), "XSP", rising(), chains.black_scholes(), first_conid=1001),
                *(
                    chains.made(session(CLEAN), f"T{n}", [97.3, 101.9], chains.binomial(*terms), first_conid=n * 10_000)
                    for n, terms in enumerate([(0.15, 0.05, 0.0), (0.25, 0.04, 0.02), (0.2, 0.01, 0.05)], start=1)
                ),
            ],
        )
        self.result: BuildResult = lake.build([CLEAN, PLANTED, NOISY])

    def flagged(self, day: date, table: str = "clean.intraday") -> dict[str, set[tuple[Any, ...]]]:
        """Keys by flag of a comparison: (conid, slot) of intraday, conid of daily_clean."""
        key = "conid, slot_30m" if table == "clean.intraday" else "conid"
        rows = self.lake.rows(
            f"select flag, {key} from (select unnest(data_quality_flag) as flag, * from {table} "
            f"where trade_date = '{day}') as flags"
        )
        return {rule: {row[1:] for row in rows if row[0] == rule} for rule in RULES}

    def metrics(self, day: date) -> dict[str, tuple[Any, ...]]:
        rows = self.lake.rows(
            f"select metric, value, passed, detail from quality.daily_metrics where trade_date = '{day}'"
        )
        return {row[0]: row[1:] for row in rows}


@pytest.fixture(scope="module")
def market(small_lake: Callable[[str], SmallLake]) -> Market:
    return Market(small_lake("quality"))


def test_each_planted_fault_is_found_and_nothing_else(market: Market) -> None:
    for rule, keys in market.flagged(PLANTED).items():
        assert keys == {(conid, slot) for conid, slot, view in market.expected[rule] if view == "intraday"}, rule


def test_the_end_of_day_has_the_flags_of_the_row_it_came_from(market: Market) -> None:
    found = market.flagged(PLANTED, "clean.daily_clean")
    assert found.pop("strike_monotonicity") == {
        (conid,) for conid, _, view in market.expected["strike_monotonicity"] if view == "close"
    }
    assert not any(found.values())


@pytest.mark.parametrize("table", ["clean.intraday", "clean.daily_clean"])
def test_a_market_without_faults_has_no_flags(market: Market, table: str) -> None:
    """Black and Scholes, while the underlying drifts between quotes; European options; American ones of a tree."""
    assert not any(market.flagged(CLEAN, table).values())
    counted = market.lake.one(f"select count(*) from {table} where trade_date = '{CLEAN}' and is_good")
    assert counted == {"clean.intraday": 84 * 2 * 14 + 84 * 3 * 2, "clean.daily_clean": 84 * 5}[table]


def test_a_second_opinion_on_noise_is_the_same(market: Market) -> None:
    # Quotes whose own model had no underlying take the slot's, where there is one and it is near in time.
    mids = underlyings("NOISE", NOISY).select("underlying", "slot_30m", mid=(pl.col("bid") + pl.col("ask")) / 2)
    seconds = (pl.col("asof_ts") - pl.col("sample_time")).dt.total_microseconds() / 1e6
    near = pl.when((seconds - 30).abs() <= 60).then(pl.col("mid"))
    adjusted = pl.col("trading_class") == pl.col("underlying") + "1"
    quotes = (
        market.noise.join(mids, on=["underlying", "slot_30m"], how="left")
        .with_columns(
            asof_s=seconds, spot=pl.when(~adjusted).then(pl.coalesce("underlying_price", near)), delta=pl.col("delta")
        )
        .filter(pl.col("ask") > 0, pl.col("bid").is_null() | (pl.col("bid") <= pl.col("ask")))
    )
    expected: dict[str, set[tuple[int, ...]]] = {rule: set() for rule in RULES}
    for rule, *key in findings(quotes.iter_rows(named=True)):
        expected[rule].add(tuple(key))
    found = {
        rule: {(conid, slot) for conid, slot in keys if conid > 10_000} for rule, keys in market.flagged(NOISY).items()
    }
    assert found == expected
    assert min(len(keys) for keys in expected.values()) >= 20, {rule: len(keys) for rule, keys in expected.items()}


def test_flags_of_capture_travel_to_the_end_of_day(market: Market) -> None:
    for table in ("clean.intraday", "clean.daily_clean", "clean.daily_adjusted"):
        rows = market.lake.rows(
            f"select distinct conid from {table} where trade_date = '{PLANTED}' "
            "and list_contains(data_quality_flag, 'discovery_stale')"
        )
        assert rows == [(market.reused,)], table


def test_metrics_are_the_shares_of_the_rows(market: Market) -> None:
    for day in (PLANTED, NOISY):
        metrics = market.metrics(day)
        rows = market.lake.one(
            f"select count(*) from raw.option_quotes where trade_date = '{day}' and not snapshot_error"
        )
        for rule, keys in market.flagged(day).items():
            count = len(keys) + (2 if (day, rule) == (PLANTED, "strike_monotonicity") else 0)
            assert metrics[rule][0] == pytest.approx(count / rows), (day, rule)
            assert metrics[rule][1] == (count / rows <= (0.02 if rule == "stale_quote" else 0.01)), (day, rule)
    warned = {warning.name for warning in market.result.warnings}
    assert "parity_violation_holds" in warned
    assert "locked_market_holds" not in warned


def test_the_spot_check_finds_a_row_that_is_neither_live_nor_marked(market: Market) -> None:
    rows = market.lake.one(f"select count(*) from raw.option_quotes where trade_date = '{PLANTED}'")
    assert market.metrics(PLANTED)["spot_check"][:2] == (pytest.approx(1 - 1 / rows), False)
    assert market.metrics(CLEAN)["spot_check"][:2] == (1.0, True)
    assert "spot_check_holds" in {failure.name for failure in market.result.failures}


@pytest.mark.parametrize(("day", "listed"), [(CLEAN, "FLAT XSP T1 T2 T3"), (NOISY, "PLANT MRNA NOISE SOUND")])
def test_three_underlyings_are_drawn_by_the_date(market: Market, day: date, listed: str) -> None:
    drawn = sorted(listed.split(), key=lambda symbol: hashlib.md5(f"{day}{symbol}".encode()).hexdigest())[:3]
    assert market.metrics(day)["spot_check"][2] == ", ".join(drawn)


def test_open_interest_that_changed_by_more_than_the_volume_is_implausible(market: Market) -> None:
    # 1000 to 1100 with a volume of 100, and to 899.
    assert market.metrics(NOISY)["oi_plausibility"] == (0.5, False, "2 contracts compared")
    # Nothing is known of the session before.
    assert market.metrics(PLANTED)["oi_plausibility"] == (0.0, True, "0 contracts compared")
    # No open interest at all is no data, and never passes.
    assert market.metrics(CLEAN)["oi_plausibility"][:2] == (None, False)


def test_open_interest_is_given_up_only_after_the_last_resort(market: Market) -> None:
    rows = market.lake.rows(
        "select conid, list_filter(data_quality_flag, flag -> flag in ('missing_oi', 'oi_enrichment_failed')) "
        f"from clean.daily_clean where trade_date = '{NOISY}' and conid in {tuple(market.interest.values())}"
    )
    names = {conid: name for name, conid in market.interest.items()}
    assert {names[conid]: flags for conid, flags in rows} == {
        "held": [],
        "burst": [],
        "given_up": ["missing_oi", "oi_enrichment_failed"],
        "silent": ["missing_oi"],
    }
    (reconciled,) = (n for n in market.result.nodes if n.name == "open_interest_fills_what_was_missing")
    assert reconciled.status == "pass"


def test_a_jump_of_a_stock_is_no_split(market: Market) -> None:
    """MRNA went from 62.96 to 174.38 in a day, every contract unchanged."""
    rows = market.lake.rows(
        "select trade_date, count(*), count(distinct adjusted_contract_key), min(price_factor), max(price_factor), "
        "sum(abs(strike_adj - strike) + abs(bid_adj - bid) + abs(underlying_close_adj - underlying_close)) "
        "from clean.daily_adjusted where underlying = 'MRNA' group by trade_date order by trade_date"
    )
    assert rows == [(PLANTED, 24, 24, 1.0, 1.0, 0.0), (NOISY, 24, 24, 1.0, 1.0, 0.0)]
    joined = "select count(distinct adjusted_contract_key) from clean.daily_adjusted where underlying = 'MRNA'"
    assert market.lake.one(joined) == 24
    closes = "select distinct underlying_close from clean.daily_clean where underlying = 'MRNA' order by 1"
    assert market.lake.rows(closes) == [(62.96,), (174.38,)]
    flagged = "select count(*) from clean.intraday where underlying = 'MRNA'"
    assert market.lake.one(f"{flagged} and list_has_any(data_quality_flag, {list(RULES)})") == 0


@pytest.mark.long
def test_recorded_days_have_the_faults_that_a_second_opinion_finds(
    small_lake: Callable[[str], SmallLake], shared_data: Path
) -> None:
    lake = small_lake("recorded")
    lake.reference(["AAPL", "GOOG", "TWX"])
    days: dict[date, list[pl.DataFrame]] = {}
    for number, file in enumerate(sorted((shared_data / "replay").glob("*.parquet"))):
        day = date.fromisoformat(file.stem.split("_")[1])
        days.setdefault(day, []).append(chains.recorded(file, session(day), 1 + 100_000 * number))
    for day, quotes in days.items():
        record(lake, day, quotes)
    lake.build(sorted(days))
    counted: dict[tuple[str, str], int] = {}
    for day, quotes in days.items():
        rows = lake.rows(
            "select flag, conid, slot_30m from "
            f"(select unnest(data_quality_flag) as flag, * from clean.intraday where trade_date = '{day}') as flags"
        )
        found: set[Finding] = {row for row in rows if row[0] in RULES}
        standing = pl.concat(quotes).with_columns(asof_s=pl.lit(0.0), spot=pl.col("underlying_price"))
        good = standing.filter(pl.col("ask") > 0, pl.col("bid").is_null() | (pl.col("bid") <= pl.col("ask")))
        assert found == findings(good.iter_rows(named=True)), day
        for flag, *_ in found:
            counted[flag, str(day)] = counted.get((flag, str(day)), 0) + 1
    # As docs/quality.md states.
    assert counted == {
        ("strike_monotonicity", "2014-06-06"): 2,
        ("strike_monotonicity", "2014-06-09"): 4,
        ("butterfly_violation", "2014-06-06"): 3,
        ("butterfly_violation", "2014-06-09"): 6,
        ("below_intrinsic", "2015-12-24"): 11,
    }


@pytest.mark.slow
def test_open_interest_that_comes_from_nowhere_is_found(small_lake: Callable[[str], SmallLake]) -> None:
    lake = small_lake("reconciled")
    day = lake.day(PLANTED)
    filled, missing = contract(1), contract(2)
    day.open(filled, missing)
    day.write("raw/option_quotes", [day.quote(row, day.close_slot) for row in (filled, missing)])
    day.write("raw/open_interest", [day.open_interest(filled, 10)])
    lake.build([PLANTED])

    def test() -> subprocess.CompletedProcess[str]:
        environment = {
            "CHAINLAKE_LAKE__ROOT": str(lake.lake.root),
            "CHAINLAKE_SEEDS": str(lake.seeds),
            "CHAINLAKE_DBT_DATABASE": str(lake.folder / "state" / "dbt" / "chainlake.duckdb"),
        }
        command = [str(Path(sys.executable).parent / "dbt"), "test", "-s", "open_interest_fills_what_was_missing"]
        command += ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT.parent)]
        command += ["--target-path", str(lake.folder / "target"), "--log-path", str(lake.folder / "logs")]
        return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)

    assert test().returncode == 0
    table = lake.lake.table("clean/daily_clean")
    assert table is not None
    table.update(updates={"open_interest": "conid + 20"})
    another_value = test()
    assert another_value.returncode == 1
    assert " FAIL 2 " in another_value.stdout
    table.update(updates={"open_interest": "NULL"})
    lost = test()
    assert lost.returncode == 1
    assert " FAIL 1 " in lost.stdout
