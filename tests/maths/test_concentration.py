"""Where influence lies: in how few rows, and in which groups."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from influcoder.maths.concentration import influence_of_groups, share_of_top


@given(arrays(np.float32, st.integers(1, 30), elements=st.floats(-8, 8, width=16)))
def test_the_curve_never_falls_and_ends_at_all(scores):
    found = share_of_top(scores, [0.01, 0.1, 0.5, 1])
    assert found == sorted(found)
    assert found[-1] == pytest.approx(1 if (scores > 0).any() else 0)


def test_groups_share_out_all_influence():
    rng = np.random.default_rng(0)
    groups, scores = rng.integers(0, 5, 200), rng.standard_normal(200).astype(np.float32)
    found = influence_of_groups(groups, scores, 5)
    assert sum(one.rows for one in found) == 200
    assert sum(one.positive for one in found) == pytest.approx(1)
    assert sum(one.negative for one in found) == pytest.approx(1)
    for number, one in enumerate(found):
        own = scores[groups == number].astype(np.float64)
        assert one.mean == pytest.approx(own.mean())
        assert one.positive == pytest.approx(own[own > 0].sum() / scores[scores > 0].sum(), rel=1e-5)


def test_rows_in_no_group_count_towards_the_whole_alone():
    (found,) = influence_of_groups(np.array([0, -1]), np.float32([1, 3]), 1)
    assert (found.rows, found.positive, found.negative) == (1, 0.25, 0)
