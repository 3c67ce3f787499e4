"""Grouped sums, medians and ranks against numpy's, group by group."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from option_pricing.segments import medians, ranks, sizes, sums, weighted_medians

ROWS = st.lists(st.tuples(st.integers(0, 4), st.floats(-1e6, 1e6), st.integers(1, 5)), max_size=60)


def columns(rows: list[tuple[int, float, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=float),
        np.array([row[2] for row in rows], dtype=float),
    )


@given(ROWS)
def test_groups_are_summed_counted_and_ranked(rows: list[tuple[int, float, int]]) -> None:
    group, values, _ = columns(rows)
    np.testing.assert_allclose(sums(values, group, 6), [values[group == g].sum() for g in range(6)], atol=1e-6)
    assert sizes(group, 6).tolist() == [int((group == g).sum()) for g in range(6)]
    for g in range(6):
        np.testing.assert_array_equal(
            values[group == g][np.argsort(ranks(values, group, 6)[group == g])], np.sort(values[group == g])
        )


@given(ROWS)
def test_medians_are_those_of_each_group_alone(rows: list[tuple[int, float, int]]) -> None:
    group, values, weights = columns(rows)
    for g, (plain, weighted) in enumerate(
        zip(medians(values, group, 6), weighted_medians(values, weights, group, 6), strict=True)
    ):
        own = np.sort(values[group == g])
        if own.size == 0:
            assert np.isnan(plain)
            assert np.isnan(weighted)
            continue
        repeated = np.sort(np.repeat(values[group == g], weights[group == g].astype(int)))
        assert plain == own[(own.size - 1) // 2] or plain == own[own.size // 2]
        assert repeated[(repeated.size - 1) // 2] <= weighted <= repeated[repeated.size // 2]


def test_rows_without_value_or_weight_do_not_count() -> None:
    values, weights = np.array([1.0, np.nan, 9.0, np.inf]), np.array([1.0, 5.0, 0.0, 1.0])
    assert weighted_medians(values, weights, np.zeros(4, dtype=np.int64), 1).tolist() == [1.0]
