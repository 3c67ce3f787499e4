"""Sums, medians and ranks of many groups of numbers at once. Pure.

A row's group is its `group` number, from 0 to `count` - 1; groups may have any length, also none, and rows any order.
Answers have one number a group: 0 for the sum, and NaN for the median, of no rows.
"""

import numpy as np
import numpy.typing as npt

from option_pricing.black_scholes import Floats

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def sums(values: Floats, group: Ints, count: int) -> Floats:
    """The sum of each group."""
    return np.bincount(group, weights=values, minlength=count).astype(np.float64)


def sizes(group: Ints, count: int) -> Ints:
    """The number of rows of each group."""
    return np.bincount(group, minlength=count).astype(np.int64)


def weighted_medians(values: Floats, weights: Floats, group: Ints, count: int) -> Floats:
    """The value of each group at which half of its weight is reached. Rows without weight or value do not count."""
    counted = (weights > 0) & np.isfinite(values)
    values, weights, group = values[counted], weights[counted], group[counted]
    answer = np.full(count, np.nan)
    if values.size == 0:
        return answer
    order = np.lexsort((values, group))
    values, weights, group = values[order], weights[order], group[order]
    # Shares of the group's own weight: one cumulative sum serves all groups, and a heavy one takes no digits of others.
    share = weights / sums(weights, group, count)[group]
    present, first = np.unique(group, return_index=True)
    reached = np.searchsorted(np.cumsum(share), np.arange(present.size) + 0.5)
    last = np.append(first[1:], values.size) - 1
    answer[present] = values[np.clip(reached, first, last)]
    return answer


def medians(values: Floats, group: Ints, count: int) -> Floats:
    """The (lower) median of each group."""
    return weighted_medians(values, np.ones(values.shape), group, count)


def ranks(values: Floats, group: Ints, count: int) -> Ints:
    """The place of each row among its group, from 0 for the smallest value; rows of no value come last."""
    order = np.lexsort((values, group))
    starts = np.concatenate(([0], np.cumsum(sizes(group, count))[:-1]))
    answer = np.empty(values.size, dtype=np.int64)
    answer[order] = np.arange(values.size) - starts[group[order]]
    return answer
