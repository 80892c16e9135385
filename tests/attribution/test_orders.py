"""The orders in which rows are chosen, against slow and plain versions of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from influcoder.attribution.orders import Order, diverse, round_robin
from influcoder.errors import ConfigError

matrices = st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(0, 2**32 - 1)).map(
    lambda drawn: np.random.default_rng(drawn[2]).integers(-2, 4, drawn[:2]).astype(float)
)


@given(scores=matrices)
def test_every_row_has_a_place(scores):
    for by in ("mean", "max", "round-robin", "diverse"):
        assert sorted(Order.of(scores, by).rows) == list(range(scores.shape[1]))


def test_known_orders():
    scores = np.array([[1.0, 0.6, 0.5, 0.0], [0.0, 0.6, 0.1, 0.9]])
    assert Order.of(scores, "mean").rows.tolist() == [1, 0, 3, 2]
    assert Order.of(scores, "max").rows.tolist() == [0, 3, 1, 2]
    assert Order.of(scores, "round-robin").rows.tolist() == [0, 3, 1, 2]
    # Once a query has its best row, another query's is worth more than its second best.
    assert Order.of(np.array([[1.0, 0.95, 0.0], [0.0, 0.0, 0.3]]), "diverse").rows.tolist() == [0, 2, 1]
    np.testing.assert_allclose(Order.of(scores, "mean").scores, [0.5, 0.6, 0.3, 0.45])
    np.testing.assert_allclose(Order.of(scores, "round-robin").scores, [1.0, 0.6, 0.5, 0.9])


@given(scores=matrices)
def test_round_robin_gives_each_turn_its_best_free_row(scores):
    free = list(range(scores.shape[1]))
    for turn, row in enumerate(round_robin(scores)):
        query = scores[turn % len(scores)]
        assert row == max(free, key=lambda one: (query[one], -one))
        free.remove(row)


@given(scores=matrices)
def test_diverse_takes_what_adds_most(scores):
    gains = np.maximum(scores, 0)
    gains = gains / np.maximum(gains.max(axis=1, keepdims=True), 1e-30)
    free, totals = list(range(scores.shape[1])), np.zeros(len(scores))
    for row in diverse(scores):
        added = {one: np.sqrt(totals + gains[:, one]).sum() - np.sqrt(totals).sum() for one in free}
        assert added[row] == pytest.approx(max(added.values()), abs=1e-9)
        totals += gains[:, row]
        free.remove(row)


def test_unknown_order():
    with pytest.raises(ConfigError, match="by is 'median', expected one of mean, max, round-robin, diverse"):
        Order.of(np.zeros((1, 2)), "median")
