"""TWX 2014-06-05 and 06, two real days in a row: open interest of the first is known on the second."""

from pathlib import Path

import pytest

from lake.catalog.connection import open_catalog
from tests.replay.conftest import Demo
from tests.replay.recorded import recorded

pytestmark = pytest.mark.long


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
