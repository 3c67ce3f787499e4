"""Both engines over all recorded days, with the actions of config/corporate_actions.csv."""

import csv
from pathlib import Path

import pytest

from tests.models.rows import LATER
from tests.second_engine.lakes import Bench
from tests.second_engine.recorded import recorded_tables

CONFIG = Path(__file__).resolve().parents[2] / "config"
# Contracts of each day, counted in the files.
LISTED = {"2014-06-05": 184, "2014-06-06": 184 + 2352, "2014-06-09": 2180, "2015-12-24": 2192}


@pytest.mark.long
def test_both_engines_agree_on_every_recorded_contract_and_slot(bench: Bench, shared_data: Path) -> None:
    with (CONFIG / "corporate_actions.csv").open() as file:
        actions = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    bench.fill(recorded_tables(shared_data / "replay"), ["AAPL", "GOOG", "TWX"], actions)
    days = sorted({row[0] for row in bench.small.rows("select distinct trade_date from raw.sessions")})

    assert bench.disagreements(days, LATER) == []

    counted = bench.small.rows(
        "select trade_date, count(distinct conid)"
        " from (select * from clean.daily_clean union all by name select * from clean.daily_unresolved) as everyone"
        " group by trade_date"
    )
    assert {str(day): count for day, count in counted} == LISTED
    restated = bench.small.rows(
        "select distinct trade_date, underlying, price_factor"
        " from clean.daily_adjusted where len(adjustment_events) > 0"
    )
    assert [(str(day), symbol, factor) for day, symbol, factor in restated] == [("2014-06-06", "AAPL", 1 / 7)]
