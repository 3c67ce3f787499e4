"""AAPL 2014-06-06 and 09, two real days with the 7:1 split between them, through a gateway and every step.

The same days are adjusted from raw rows, every contract of them, in ``tests/models``: this run is a slow test.
"""

from pathlib import Path

import pytest

from lake.catalog.connection import open_catalog
from tests.replay.conftest import Demo
from tests.replay.recorded import recorded

pytestmark = pytest.mark.slow


def test_rows_before_the_split_are_restated_and_those_after_it_are_not(demo: Demo, shared_data: Path) -> None:
    """AAPL 7:1, effective 2014-06-09: one build of the later day restates the earlier one."""
    lake = open_catalog(demo("AAPL_2014-06-06.parquet", "AAPL_2014-06-09.parquet", moneyness="0.10"))
    before = lake.execute(
        """select expiry, "right", strike, strike_adj from clean.daily_adjusted where trade_date = date '2014-06-06'"""
    ).fetchall()
    adjusted = {strike: strike_adj for _, _, strike, strike_adj in before}
    assert (adjusted[645.0], adjusted[640.0]) == (92.14, 91.43)
    file = recorded(shared_data / "replay" / "AAPL_2014-06-09.parquet")
    listed = set(file.execute('select distinct expiry, "right", strike from q').fetchall())
    unlisted = {(expiry, right, strike_adj) for expiry, right, _, strike_adj in before} - listed
    assert len(before) > 150
    assert not unlisted, "a contract of the day before has no partner in the chain of the day after"
    after = lake.execute(
        """select count(*), count(*) filter (strike_adj <> strike or price_factor <> 1 or bid_adj is distinct from bid)
        from clean.daily_adjusted where trade_date = date '2014-06-09'"""
    ).fetchone()
    assert after is not None
    assert after[0] > 150
    assert after[1] == 0


def test_a_contracts_history_joins_over_the_split(demo: Demo) -> None:
    lake = open_catalog(demo("AAPL_2014-06-06.parquet", "AAPL_2014-06-09.parquet", moneyness="0.10"))
    joined = lake.execute(
        """select count(*), max(abs(b.strike_adj - a.strike)), bool_and(a.expiry = b.expiry and a."right" = b."right"),
            count(distinct b.adjusted_contract_key)
        from clean.daily_adjusted b join clean.daily_adjusted a using (adjusted_contract_key)
        where b.trade_date = date '2014-06-06' and a.trade_date = date '2014-06-09'"""
    ).fetchone()
    assert joined is not None
    assert joined[0] == joined[3] > 150
    assert joined[1:3] == (0.0, True)
