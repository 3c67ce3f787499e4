"""What a group answers does not depend on the groups beside it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from option_pricing.segments import medians

numbers = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=8)


@given(st.lists(numbers, min_size=1, max_size=60))
def test_the_median_of_a_group_is_that_of_the_group_alone_ties_included(groups: list[list[float]]) -> None:
    values = np.concatenate([np.array(one) for one in groups])
    group = np.repeat(np.arange(len(groups)), [len(one) for one in groups])
    together = medians(values, group, len(groups))
    for number, one in enumerate(groups):
        (alone,) = medians(np.array(one), np.zeros(len(one), dtype=np.int64), 1)
        assert together[number] == alone == sorted(one)[(len(one) - 1) // 2]
