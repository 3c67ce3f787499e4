"""Flags of rows, from truths by column to names by row. Pure."""

import numpy as np

from option_pricing.segments import Bools


def flag_names(**flags: Bools) -> list[list[str]]:
    """The names of the flags that are true of each row, in the order in which they are given."""
    names = list(flags)
    raised = np.stack(list(flags.values()), axis=1)
    found: list[list[str]] = [[] for _ in range(raised.shape[0])]
    for row, column in zip(*np.nonzero(raised), strict=True):
        found[row].append(names[column])
    return found
