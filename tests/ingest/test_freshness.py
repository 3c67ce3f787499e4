"""Which session an observed open interest describes: contract by contract, by evidence, else by the clock."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.open_interest.freshness import Evidence, described_sessions, has_turned_over

DAY, BEFORE = date(2014, 6, 5), date(2014, 6, 4)
# Ten contracts that traded, whose open interest has turned over, or has not.
FRESH = [Evidence(100, 100 + k, 50) for k in range(10)]
STALE = [Evidence(100, 100, 50)] * 10
NONE_TRADED = [Evidence(5, 5, 0)] * 1000
COUNTS = st.integers(0, 99)
CHAINS = st.lists(
    st.builds(Evidence, st.none() | COUNTS, COUNTS, COUNTS, whole=st.booleans(), published=st.booleans()), max_size=30
)


def numbered(evidence: list[Evidence], first: int = 0) -> dict[int, Evidence]:
    return dict(enumerate(evidence, first))


def described(evidence: list[Evidence], *, late: bool = True, last: bool = True) -> list[date]:
    """What each contract of a chain shows, observed after the expected publication or before it."""
    seen = [replace(one, published=late) for one in evidence]
    return list(described_sessions(DAY, {"X": numbered(seen)}, last).values())


# -- whether a chain has turned over -----------------------------------------------------------------------------------


def test_without_evidence_the_clock_decides() -> None:
    new = [Evidence(None, 7, 0)]
    assert described(new, last=False) == [DAY]
    assert described(new, late=False) == [BEFORE]
    assert set(described(NONE_TRADED, last=False)) == {DAY}
    assert set(described(NONE_TRADED, late=False)) == {BEFORE}


@given(st.lists(st.builds(Evidence, st.just(7), st.just(7), st.integers(1, 99)), min_size=5), st.booleans())
def test_traded_contracts_without_any_change_say_that_it_has_not_turned_over(
    evidence: list[Evidence], last: bool
) -> None:
    assert set(described(evidence, last=last)) == {BEFORE}


@given(st.lists(st.builds(lambda b, v: Evidence(b, b + v, v), COUNTS, st.integers(1, 99)), min_size=5), st.booleans())
def test_changes_within_the_volume_say_that_it_has(evidence: list[Evidence], last: bool) -> None:
    assert set(described(evidence, late=False, last=last)) == {DAY}


def test_changes_that_the_volume_does_not_allow_are_of_another_session() -> None:
    assert set(described([Evidence(100, 900, 10)] * 50)) == {BEFORE}


def test_a_volume_that_was_seen_before_the_close_bounds_nothing_but_shows_what_traded() -> None:
    """A day whose afternoon was lost: the changes exceed the morning's volume, as they must."""
    morning = [Evidence(100, 900, 10, whole=False)] * 50
    assert set(described(morning, late=False, last=False)) == {DAY}
    assert set(described([Evidence(100, 100, 10, whole=False)] * 50)) == {BEFORE}


def test_a_chain_that_hardly_traded_is_judged_by_the_others_before_the_clock() -> None:
    quiet = [Evidence(3, 3, 0), Evidence(3, 3, 1)]
    early = [replace(one, published=False) for one in quiet]

    def judged(x: list[Evidence], q: list[Evidence]) -> set[date]:
        found = described_sessions(DAY, {"X": numbered(x), "Q": numbered(q, 100)}, last=True)
        return {found[100], found[101]}

    assert judged(STALE, quiet) == {BEFORE}
    assert judged(FRESH, early) == {DAY}
    # Too little of everything: the clock.
    assert judged(early, early) == {BEFORE}
    assert judged(quiet, quiet) == {DAY}


def test_each_chain_has_its_own_verdict() -> None:
    found = described_sessions(DAY, {"X": numbered(STALE), "Y": numbered(FRESH, 100)}, last=True)
    assert {found[conid] for conid in range(10)} == {BEFORE}
    assert {found[conid] for conid in range(100, 110)} == {DAY}


# -- which contracts show their new value ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "settled"),
    [
        (Evidence(5, 8, 10), True),
        (Evidence(5, 5, 10), False),  # traded: no change can be the new value, or the old one
        (Evidence(5, 5, 0), True),  # both are the same
        (Evidence(5, 5, 0, whole=False), False),  # it may have traded after its volume was seen
        (Evidence(5, 99, 10), False),  # more than the volume allows
        (Evidence(5, 99, 10, whole=False), True),
        (Evidence(None, 8, 10, published=True), True),
        (Evidence(None, 8, 10, published=False), False),
    ],
    ids=str,
)
def test_a_chain_that_turns_over_in_parts_settles_contract_by_contract(one: Evidence, settled: bool) -> None:
    # Enough that one contract does not sway the chain.
    assert described([*FRESH, one], late=one.published, last=False)[-1] == (DAY if settled else BEFORE)
    # The last attempt takes all of it as it stands.
    assert described([*FRESH, one], late=one.published, last=True)[-1] == DAY


@given(CHAINS)
def test_the_last_attempt_only_adds_to_what_an_earlier_one_settles(evidence: list[Evidence]) -> None:
    chain = {"X": numbered(evidence)}
    earlier, last = (described_sessions(DAY, chain, is_last) for is_last in (False, True))
    assert earlier.keys() == last.keys() == set(range(len(evidence)))
    assert all(last[conid] == DAY for conid, session in earlier.items() if session == DAY)


@given(CHAINS)
def test_what_traded_and_shows_no_change_is_never_settled_while_an_attempt_is_left(evidence: list[Evidence]) -> None:
    found = described_sessions(DAY, {"X": numbered(evidence)}, last=False)
    assert all(found[conid] == BEFORE for conid, one in enumerate(evidence) if one.traded and one.now == one.before)


@given(
    st.lists(st.tuples(COUNTS, COUNTS, st.integers(-99, 99), st.booleans()), min_size=20, max_size=60), st.booleans()
)
def test_a_session_turning_over_in_parts_is_dated_without_one_mistake(
    contracts: list[tuple[int, int, int, bool]], late: bool
) -> None:
    """Contract by contract: interest before, volume, a change that the volume allows, and whether it is shown yet."""
    truth = [max(0, before + max(-volume, min(volume, change))) for before, volume, change, _ in contracts]
    seen = [
        Evidence(before, new if shown else before, volume, published=late)
        for (before, volume, _, shown), new in zip(contracts, truth, strict=True)
    ]
    first = described_sessions(DAY, {"X": numbered(seen)}, last=False)
    settled = {conid for conid, session in first.items() if session == DAY}
    if has_turned_over(seen) is not None:
        assert all(seen[conid].now == truth[conid] for conid in settled)
    # Later all is shown: what is asked again is judged with what was settled before.
    again = {conid: replace(one, now=truth[conid]) for conid, one in enumerate(seen) if conid not in settled}
    second = described_sessions(DAY, {"X": again}, True, {"X": [seen[conid] for conid in settled]})
    if has_turned_over([*(seen[conid] for conid in settled), *again.values()]):
        assert settled | {conid for conid, session in second.items() if session == DAY} == set(range(len(seen)))


def test_what_did_not_change_is_judged_with_what_an_earlier_attempt_settled() -> None:
    """Asked again is what shows no change: by itself it would look as if nothing had turned over."""
    unchanged = {"X": numbered(STALE)}
    assert set(described_sessions(DAY, unchanged, last=True).values()) == {BEFORE}
    assert set(described_sessions(DAY, unchanged, True, {"X": FRESH}).values()) == {DAY}


# -- real days ---------------------------------------------------------------------------------------------------------


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


def unchanged(chain: list[Evidence]) -> list[Evidence]:
    return [replace(one, now=one.before or 0) for one in chain]


def test_real_chains_are_dated_right(shared_data: Path) -> None:
    """TWX: the stamp of 06-06 describes 06-05, that of 06-05 the session before it."""
    chains = of_real_days(*(shared_data / "replay" / f"TWX_2014-06-0{k}.parquet" for k in (5, 6)))
    evidence = [one for chain in chains.values() for one in chain]
    assert len(evidence) == 184
    assert set(described(evidence)) == {DAY}
    assert set(described(unchanged(evidence))) == {BEFORE}
    # Before the last attempt the bulk of it: all but what traded without a change, or beyond the recorded volume.
    early = described(evidence, late=False, last=False)
    assert early.count(DAY) > 140


def test_single_expiries_of_a_real_chain_are_dated_right_when_enough_of_them_traded(shared_data: Path) -> None:
    chains = of_real_days(*(shared_data / "replay" / f"TWX_2014-06-0{k}.parquet" for k in (5, 6)))
    busy = {expiry: chain for expiry, chain in chains.items() if sum(one.volume > 0 for one in chain) >= 5}
    assert len(busy) == 3
    for chain in busy.values():
        assert set(described(chain, late=False)) == {DAY}
        assert set(described(unchanged(chain))) == {BEFORE}
