"""Which session an observed open interest describes: by evidence, else by the clock."""

from datetime import date, time, timedelta
from pathlib import Path

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from ingest.calendar.sessions import new_york
from ingest.open_interest.freshness import Evidence, described_sessions

DAY, BEFORE = date(2014, 6, 5), date(2014, 6, 4)
PUBLISHED = new_york(date(2014, 6, 6), time(4))
# Ten contracts that traded, whose open interest has turned over, or has not.
FRESH = [Evidence(100, 100 + k, 50) for k in range(10)]
STALE = [Evidence(100, 100, 50)] * 10
NONE_TRADED = [Evidence(5, 5, 0)] * 1000


def described(evidence: list[Evidence], minutes_after: float = 0) -> date:
    return described_sessions(DAY, {"X": evidence}, PUBLISHED + timedelta(minutes=minutes_after), PUBLISHED)["X"]


def test_without_evidence_the_clock_decides() -> None:
    assert described([], 0) == DAY
    assert described([], -1) == BEFORE
    assert described(NONE_TRADED, 0) == DAY


@given(st.lists(st.builds(Evidence, st.just(7), st.just(7), st.integers(1, 99)), min_size=5))
def test_traded_contracts_without_any_change_say_that_it_has_not_turned_over(evidence: list[Evidence]) -> None:
    assert described(evidence, 180) == BEFORE


@given(st.lists(st.builds(lambda b, v: Evidence(b, b + v, v), st.integers(0, 99), st.integers(1, 99)), min_size=5))
def test_changes_within_the_volume_say_that_it_has(evidence: list[Evidence]) -> None:
    assert described(evidence, -180) == DAY


def test_changes_that_the_volume_does_not_allow_are_of_another_session() -> None:
    assert described([Evidence(100, 900, 10)] * 50) == BEFORE


def test_a_volume_that_was_seen_before_the_close_bounds_nothing_but_shows_what_traded() -> None:
    """A day whose afternoon was lost: the changes exceed the morning's volume, as they must."""
    morning = [Evidence(100, 900, 10, whole=False)] * 50
    assert described(morning, -180) == DAY
    assert described([Evidence(100, 100, 10, whole=False)] * 50, 180) == BEFORE


def test_a_chain_that_hardly_traded_is_judged_by_the_others_before_the_clock() -> None:
    quiet = [Evidence(3, 3, 0), Evidence(3, 3, 1)]
    late, early = PUBLISHED + timedelta(hours=3), PUBLISHED - timedelta(hours=3)
    assert described_sessions(DAY, {"X": STALE, "Q": quiet}, late, PUBLISHED) == {"X": BEFORE, "Q": BEFORE}
    assert described_sessions(DAY, {"X": FRESH, "Q": quiet}, early, PUBLISHED) == {"X": DAY, "Q": DAY}
    # Too little of everything: the clock.
    assert described_sessions(DAY, {"Q": quiet, "R": quiet}, early, PUBLISHED) == {"Q": BEFORE, "R": BEFORE}


def test_each_chain_has_its_own_verdict() -> None:
    assert described_sessions(DAY, {"X": STALE, "Y": FRESH}, PUBLISHED, PUBLISHED) == {"X": BEFORE, "Y": DAY}


def of_real_days(first: Path, second: Path) -> dict[date, list[Evidence]]:
    rows = duckdb.execute(
        """
        with a as (
                select expiry, strike, "right", max(open_interest) as oi, max(volume) as volume
                from read_parquet($a) group by all
             ),
             b as (select expiry, strike, "right", max(open_interest) as oi from read_parquet($b) group by all)
        select expiry, a.oi, b.oi, a.volume from a join b using (expiry, strike, "right")
        """,
        {"a": str(first), "b": str(second)},
    ).fetchall()
    chains: dict[date, list[Evidence]] = {}
    for expiry, before, now, volume in rows:
        chains.setdefault(expiry, []).append(Evidence(before, now, volume))
    return chains


def test_real_chains_are_dated_right(shared_data: Path) -> None:
    """TWX: the stamp of 06-06 describes 06-05, that of 06-05 the session before it."""
    chains = of_real_days(*(shared_data / "replay" / f"TWX_2014-06-0{k}.parquet" for k in (5, 6)))
    evidence = [one for chain in chains.values() for one in chain]
    assert len(evidence) == 184
    assert described(evidence) == DAY
    assert described([Evidence(one.before, one.before, one.volume) for one in evidence]) == BEFORE


def test_single_expiries_of_a_real_chain_are_dated_right_when_enough_of_them_traded(shared_data: Path) -> None:
    chains = of_real_days(*(shared_data / "replay" / f"TWX_2014-06-0{k}.parquet" for k in (5, 6)))
    busy = {expiry: chain for expiry, chain in chains.items() if sum(one.volume > 0 for one in chain) >= 5}
    assert len(busy) == 3
    for chain in busy.values():
        assert described(chain, -180) == DAY
        assert described([Evidence(one.before, one.before, one.volume) for one in chain], 180) == BEFORE
