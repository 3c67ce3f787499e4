"""GOOG 2015-12-24, a real day that closed at 13:00, held against the recorded file."""

from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from flows.steps import PipelineContext, connect_broker
from ingest.calendar.sessions import session_on
from ingest.contracts import Underlying
from ingest.settings import load
from lake.catalog.connection import open_catalog
from tests.replay.conftest import Demo
from tests.replay.recorded import recorded
from tws_simulator import GatewayOptions, SimulatedGateway

pytestmark = pytest.mark.long

FILE = "GOOG_2015-12-24.parquet"

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


Quotes = dict[tuple[Any, ...], tuple[Any, ...]]


def standing_quotes(connection: duckdb.DuckDBPyConnection, slots: list[tuple[int, object]]) -> Quotes:
    connection.execute("create or replace table slot_times (slot_30m int, sample_time timestamptz)")
    connection.executemany("insert into slot_times values (?, ?)", slots)
    return {row[:4]: row[4:] for row in connection.execute(STANDING).fetchall()}


def stored_quotes(lake: Path, day: str) -> Quotes:
    rows = open_catalog(lake).execute(
        f"""select slot_30m, expiry, strike, "right", bid, ask from clean.intraday where trade_date = date '{day}'"""
    )
    return {row[:4]: row[4:] for row in rows.fetchall()}


@pytest.fixture
def goog(demo: Demo) -> Path:
    """The lake of the whole chain of the day."""
    return demo(FILE, all_contracts=True)


def test_every_contract_of_the_early_close_day_is_accounted_for_once(goog: Path, shared_data: Path) -> None:
    """GOOG 2015-12-24: all 2,192 contracts of the file, with filters off."""
    lake, file = open_catalog(goog), recorded(shared_data / "replay" / FILE)
    (expected,) = file.execute('select count(distinct (expiry, strike, "right")) from q').fetchone()
    assert expected == 2192
    for table in (
        "raw.contracts",
        "(select conid from clean.daily_clean union all select conid from clean.daily_unresolved)",
    ):
        assert lake.execute(f"select count(*), count(distinct conid) from {table}").fetchone() == (expected, expected)


async def test_the_default_filters_freeze_what_a_count_on_the_file_gives(shared_data: Path, tmp_path: Path) -> None:
    """The monthly expiries up to a year ahead and the quarterly one, strikes within 30 % of the first price."""
    path = shared_data / "replay" / FILE
    file = recorded(path)
    (expected,) = file.execute(
        """select count(distinct (expiry, strike, "right")) from q
        where expiry in (date '2015-12-31', date '2016-01-15', date '2016-02-19', date '2016-03-18', date '2016-06-17')
        and strike between 0.7 * (select arg_min(underlying_price, ts) from q)
        and 1.3 * (select arg_min(underlying_price, ts) from q)"""
    ).fetchone()
    session = session_on(date(2015, 12, 24))
    assert session is not None
    options = GatewayOptions(
        port=0, control_port=0, world="replay", replay=(path,), at=session.open, speed=0, messages_per_second=5000
    )
    async with SimulatedGateway(options) as gateway:
        settings = load(
            ib={"port": gateway.port, "messages_per_second": 5000},
            lake={"root": str(tmp_path / "lake")},
            state={"dir": str(tmp_path / "state")},
        )
        async with connect_broker(PipelineContext(settings, (Underlying("GOOG"),), "manual", chosen=True)) as broker:
            run = await broker.discover(session)
    assert (run.captured, run.failed) == (expected, 0) == (896, 0)


def test_every_stored_quote_is_the_one_that_stood_at_its_slot(goog: Path, shared_data: Path) -> None:
    slots = open_catalog(goog).execute("select slot_30m, sample_time from raw.sessions").fetchall()
    standing = standing_quotes(recorded(shared_data / "replay" / FILE), slots)
    stored = stored_quotes(goog, "2015-12-24")
    assert len(stored) == 8 * 2192
    wrong = {
        key: (quote, standing.get(key)) for key, quote in stored.items() if quote != standing.get(key, (None, None))
    }
    assert not wrong, f"{len(wrong)} of {len(stored)} differ, such as {list(wrong.items())[:3]}"


def test_the_early_close_has_eight_slots_and_nothing_later(goog: Path) -> None:
    lake = open_catalog(goog)
    ((slots, last),) = lake.execute("select count(*), max(sample_time)::varchar from raw.sessions").fetchall()
    assert (slots, last) == (8, "2015-12-24 18:00:00+00")
    (latest,) = lake.execute("select max(rollup_source_time)::varchar from clean.daily_clean").fetchone()
    assert latest == "2015-12-24 18:00:00+00"
    strategies = dict(lake.execute("select rollup_strategy, count(*) from clean.daily_clean group by all").fetchall())
    assert strategies["close"] > 0.9 * sum(strategies.values())


def test_a_single_recorded_morning_does_not_pretend_to_know_the_next_ones_open_interest(goog: Path) -> None:
    """The file holds the stamp of 12-24's own morning: kept as an observation of 12-23, it does not fill the day."""
    lake = open_catalog(goog)
    assert lake.execute("select distinct oi_asof_date from raw.open_interest where not snapshot_error").fetchall() == [
        (date(2015, 12, 23),)
    ]
    assert lake.execute("select count(open_interest) from clean.daily_clean").fetchone() == (0,)
