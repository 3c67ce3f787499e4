"""Flags by row."""

import numpy as np

from option_pricing.flags import flag_names


def test_each_row_has_the_names_that_are_true_of_it_in_the_order_given() -> None:
    found = flag_names(first=np.array([True, False, True]), second=np.array([False, False, True]))
    assert found == [["first"], [], ["first", "second"]]


def test_no_rows_have_no_flags() -> None:
    assert flag_names(first=np.zeros(0, dtype=bool)) == []
