"""Real market days through the whole pipeline, held against the recorded files read on their own."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import pytest

from lake.catalog import open_catalog

Demo = Callable[..., Path]
# Each lake is made once: tests of one lake run in one worker.
GOOG = [
    pytest.param(False, marks=pytest.mark.xdist_group("goog")),
    pytest.param(True, marks=pytest.mark.xdist_group("goog-all")),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Demo:
    """Runs `chainlake demo` over replay files as a user would; gives the root of the lake, once for each choice."""
    lakes: dict[tuple[str, ...], Path] = {}

    def run(*names: str, all_contracts: bool = False) -> Path:
        key = (*names, str(all_contracts))
        if key not in lakes:
            place = tmp_path_factory.mktemp("demo")
            files = [argument for name in names for argument in ("--replay", str(shared_data / "replay" / name))]
            more = ["--all-contracts"] if all_contracts else []
            done = subprocess.run(
                [sys.executable, "-m", "flows.cli", "demo", "--json", "--lake", str(place / "lake"), *files, *more],
                cwd=place,
                capture_output=True,
                text=True,
                timeout=280,
            )
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)
            lakes[key] = place / "lake"
        return lakes[key]

    return run


def recorded(file: Path) -> duckdb.DuckDBPyConnection:
    """A recorded day on its own, as the table ``q``: neither the gateway nor the lake has a part in it."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    connection.execute(f"create view q as from read_parquet('{file}')")
    return connection


# What the file's quote is at each slot: the last row of the contract at or before the market clock, which stands at the
# slot's instant, and one minute after it at the opening.
STANDING = """
    with slots as (
        select slot_30m, sample_time + case when slot_30m = 0 then interval 1 minute else interval 0 minute end as clock
        from slot_times
    ),
    ranked as (
        select s.slot_30m, q.*, row_number() over (
            partition by s.slot_30m, expiry, strike, "right", multiplier order by ts desc) as newest
        from slots s join q on q.ts <= s.clock
    )
    select slot_30m, expiry, strike, "right", bid, ask from ranked where newest = 1
"""


def standing_quotes(connection: duckdb.DuckDBPyConnection, slots: list[tuple[int, object]]) -> dict[tuple, tuple]:
    connection.execute("create or replace table slot_times (slot_30m int, sample_time timestamptz)")
    connection.executemany("insert into slot_times values (?, ?)", slots)
    return {row[:4]: row[4:] for row in connection.execute(STANDING).fetchall()}


def stored_quotes(lake: Path, day: str) -> dict[tuple, tuple]:
    rows = open_catalog(lake).execute(
        f"""select slot_30m, expiry, strike, "right", bid, ask from clean.intraday where trade_date = date '{day}'"""
    )
    return {row[:4]: row[4:] for row in rows.fetchall()}


@pytest.mark.parametrize("all_contracts", GOOG)
def test_every_contract_of_the_early_close_day_is_accounted_for_once(
    demo: Demo, shared_data: Path, all_contracts: bool
) -> None:
    """GOOG 2015-12-24: all 2,192 contracts with filters off, else those that a count on the file gives."""
    lake = open_catalog(demo("GOOG_2015-12-24.parquet", all_contracts=all_contracts))
    file = recorded(shared_data / "replay" / "GOOG_2015-12-24.parquet")
    wanted = (
        "true"
        if all_contracts
        # The monthly expiries up to a year ahead and the quarterly one, strikes within 30 % of the first price.
        else (
            "expiry in (date '2015-12-31', date '2016-01-15', date '2016-02-19', date '2016-03-18', date '2016-06-17') "
            "and strike between 0.7 * (select arg_min(underlying_price, ts) from q) "
            "and 1.3 * (select arg_min(underlying_price, ts) from q)"
        )
    )
    (expected,) = file.execute(f'select count(distinct (expiry, strike, "right")) from q where {wanted}').fetchone()
    assert expected == (2192 if all_contracts else 896)
    for table in (
        "raw.contracts",
        "(select conid from clean.daily_clean union all select conid from clean.daily_unresolved)",
    ):
        assert lake.execute(f"select count(*), count(distinct conid) from {table}").fetchone() == (expected, expected)


@pytest.mark.parametrize("all_contracts", GOOG)
def test_every_stored_quote_is_the_one_that_stood_at_its_slot(
    demo: Demo, shared_data: Path, all_contracts: bool
) -> None:
    root = demo("GOOG_2015-12-24.parquet", all_contracts=all_contracts)
    slots = open_catalog(root).execute("select slot_30m, sample_time from raw.sessions").fetchall()
    file = recorded(shared_data / "replay" / "GOOG_2015-12-24.parquet")
    standing, stored = standing_quotes(file, slots), stored_quotes(root, "2015-12-24")
    assert len(stored) == 8 * (2192 if all_contracts else 896)
    wrong = {
        key: (quote, standing.get(key)) for key, quote in stored.items() if quote != standing.get(key, (None, None))
    }
    assert not wrong, f"{len(wrong)} of {len(stored)} differ, such as {list(wrong.items())[:3]}"


@pytest.mark.xdist_group("goog")
def test_the_early_close_has_eight_slots_and_nothing_later(demo: Demo) -> None:
    lake = open_catalog(demo("GOOG_2015-12-24.parquet"))
    ((slots, last),) = lake.execute("select count(*), max(sample_time)::varchar from raw.sessions").fetchall()
    assert (slots, last) == (8, "2015-12-24 18:00:00+00")
    (latest,) = lake.execute("select max(rollup_source_time)::varchar from clean.daily_clean").fetchone()
    assert latest == "2015-12-24 18:00:00+00"
    strategies = dict(lake.execute("select rollup_strategy, count(*) from clean.daily_clean group by all").fetchall())
    assert strategies["close"] > 0.9 * sum(strategies.values())


@pytest.mark.xdist_group("goog")
def test_a_single_recorded_morning_does_not_pretend_to_know_the_next_ones_open_interest(demo: Demo) -> None:
    """The file holds the stamp of 12-24's own morning: kept as an observation of 12-23, it does not fill the day."""
    lake = open_catalog(demo("GOOG_2015-12-24.parquet"))
    assert lake.execute("select distinct oi_asof_date from raw.open_interest where not snapshot_error").fetchall() == [
        (date(2015, 12, 23),)
    ]
    assert lake.execute("select count(open_interest) from clean.daily_clean").fetchone() == (0,)


@pytest.mark.xdist_group("twx")
def test_open_interest_of_a_day_is_the_stamp_of_the_next_morning(demo: Demo, shared_data: Path) -> None:
    root = demo("TWX_2014-06-05.parquet", "TWX_2014-06-06.parquet", all_contracts=True)
    stored = (
        open_catalog(root)
        .execute(
            """select expiry, strike, "right", open_interest from clean.daily_clean
        where trade_date = date '2014-06-05' and open_interest is not null"""
        )
        .fetchall()
    )
    file = recorded(shared_data / "replay" / "TWX_2014-06-06.parquet")
    stamps = {
        row[:3]: row[3]
        for row in file.execute('select expiry, strike, "right", max(open_interest) from q group by all').fetchall()
    }
    assert len(stored) > 150
    assert {row[:3]: row[3] for row in stored} == {key: stamps[key] for key in (row[:3] for row in stored)}


@pytest.mark.xdist_group("aapl")
def test_rows_before_the_split_are_restated_and_those_after_it_are_not(demo: Demo, shared_data: Path) -> None:
    """AAPL 7:1, effective 2014-06-09: one build of the later day restates the earlier one."""
    lake = open_catalog(demo("AAPL_2014-06-06.parquet", "AAPL_2014-06-09.parquet"))
    before = lake.execute(
        """select expiry, "right", strike, strike_adj from clean.daily_adjusted where trade_date = date '2014-06-06'"""
    ).fetchall()
    adjusted = {strike: strike_adj for _, _, strike, strike_adj in before}
    assert (adjusted[645.0], adjusted[640.0]) == (92.14, 91.43)
    file = recorded(shared_data / "replay" / "AAPL_2014-06-09.parquet")
    listed = set(file.execute('select distinct expiry, "right", strike from q').fetchall())
    unlisted = {(expiry, right, strike_adj) for expiry, right, _, strike_adj in before} - listed
    assert len(before) > 500
    assert not unlisted, "a contract of the day before has no partner in the chain of the day after"
    after = lake.execute(
        """select count(*), count(*) filter (strike_adj <> strike or price_factor <> 1 or bid_adj is distinct from bid)
        from clean.daily_adjusted where trade_date = date '2014-06-09'"""
    ).fetchone()
    assert after is not None
    assert after[0] > 500
    assert after[1] == 0


@pytest.mark.xdist_group("aapl")
def test_a_contracts_history_joins_over_the_split(demo: Demo) -> None:
    lake = open_catalog(demo("AAPL_2014-06-06.parquet", "AAPL_2014-06-09.parquet"))
    joined = lake.execute(
        """select count(*), max(abs(b.strike_adj - a.strike)), bool_and(a.expiry = b.expiry and a."right" = b."right"),
            count(distinct b.adjusted_contract_key)
        from clean.daily_adjusted b join clean.daily_adjusted a using (adjusted_contract_key)
        where b.trade_date = date '2014-06-06' and a.trade_date = date '2014-06-09'"""
    ).fetchone()
    assert joined is not None
    assert joined[0] == joined[3] > 500
    assert joined[1:3] == (0.0, True)
