"""Which session an observed open interest describes: by evidence, else by the clock."""

from datetime import date, time, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.open_interest import Evidence, described_session, due_at
from ingest.sessions import new_york
from ingest.settings import load

DAY, BEFORE = date(2014, 6, 5), date(2014, 6, 4)
PUBLISHED = new_york(date(2014, 6, 6), time(4))


def described(evidence: list[Evidence], minutes_after: float = 0) -> date:
    return described_session(DAY, evidence, PUBLISHED + timedelta(minutes=minutes_after), PUBLISHED)


def test_without_evidence_the_clock_decides() -> None:
    assert described([], 0) == DAY
    assert described([], -1) == BEFORE
    assert described([Evidence(5, 5, 0)] * 1000, 0) == DAY


@given(st.lists(st.builds(Evidence, st.just(7), st.just(7), st.integers(1, 99)), min_size=5))
def test_traded_contracts_without_any_change_say_that_it_has_not_turned_over(evidence: list[Evidence]) -> None:
    assert described(evidence, 180) == BEFORE


@given(st.lists(st.builds(lambda b, v: Evidence(b, b + v, v), st.integers(0, 99), st.integers(1, 99)), min_size=5))
def test_changes_within_the_volume_say_that_it_has(evidence: list[Evidence]) -> None:
    assert described(evidence, -180) == DAY


def test_changes_that_the_volume_does_not_allow_are_of_another_session() -> None:
    assert described([Evidence(100, 900, 10)] * 50) == BEFORE


def test_real_chains_are_dated_right(shared_data: Path) -> None:
    """TWX: the stamp of 06-06 describes 06-05, that of 06-05 the session before it."""
    days = [shared_data / "replay" / f"TWX_2014-06-0{k}.parquet" for k in (5, 6)]
    rows = duckdb.execute(
        """
        with a as (
                select expiry, strike, "right", max(open_interest) as oi, max(volume) as volume
                from read_parquet($a) group by all
             ),
             b as (select expiry, strike, "right", max(open_interest) as oi from read_parquet($b) group by all)
        select a.oi, b.oi, a.volume from a join b using (expiry, strike, "right")
        """,
        {"a": str(days[0]), "b": str(days[1])},
    ).fetchall()
    assert len(rows) == 184
    assert described([Evidence(before, now, volume) for before, now, volume in rows]) == DAY
    assert described([Evidence(before, before, volume) for before, _, volume in rows]) == BEFORE


@pytest.mark.parametrize(
    ("on", "due"),
    [("next_session", new_york(date(2014, 6, 9), time(4))), ("next_day", new_york(date(2014, 6, 7), time(4)))],
)
def test_a_friday_is_due_on_monday_or_on_saturday(on: str, due: object) -> None:
    assert due_at(date(2014, 6, 6), load(enrichment={"on": on})) == due
