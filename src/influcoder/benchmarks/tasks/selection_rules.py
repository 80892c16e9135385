"""Selection rules: from a score matrix, (n_queries, n_pool), to rows within a budget.

| rule | chooses rows |
|---|---|
| top | by the mean over queries |
| max | by the best query of each row |
| round-robin | queries take turns, each takes its best free row (RDS+; Ivison et al. 2025) |
| diverse | greedily, that add most to Σ_q √(Σ_x s⁺(q, x)): the more a query has, the less it gains |
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from influcoder.maths.arrays import Matrix

Rows = NDArray[np.int64]


def top(scores: Matrix, budget: int) -> Rows:
    """The rows with the highest mean."""
    return np.sort(np.argsort(-scores.mean(axis=0), kind="stable")[:budget])


def highest(scores: Matrix, budget: int) -> Rows:
    """The rows with the highest score of any query."""
    return np.sort(np.argsort(-scores.max(axis=0), kind="stable")[:budget])


def round_robin(scores: Matrix, budget: int) -> Rows:
    """Queries take turns in order; each takes its best free row.

    >>> round_robin(np.array([[0.9, 0.8, 0.1], [0.9, 0.2, 0.3]]), 2)
    array([0, 2])
    """
    orders = [list(row) for row in np.argsort(-scores, axis=1, kind="stable")]
    chosen: set[int] = set()
    while len(chosen) < min(budget, scores.shape[1]):
        order = orders[len(chosen) % len(orders)]
        chosen.add(next(int(row) for row in order if int(row) not in chosen))
    return np.array(sorted(chosen))


def diverse(scores: Matrix, budget: int) -> Rows:
    """Greedy maximum of Σ_q √(Σ_x s⁺(q, x)), each query's scores scaled to a highest of 1; ties by mean score."""
    gains = np.maximum(scores, 0)
    gains = gains / np.maximum(gains.max(axis=1, keepdims=True), 1e-30)
    totals = np.zeros(len(gains))
    free = np.ones(scores.shape[1], bool)
    order = np.argsort(-scores.mean(axis=0), kind="stable")
    for _ in range(min(budget, scores.shape[1])):
        added = np.sqrt(totals[:, None] + gains).sum(axis=0) - np.sqrt(totals).sum()
        best = int(order[np.argmax(np.where(free, added, -np.inf)[order])])
        free[best] = False
        totals += gains[:, best]
    return np.flatnonzero(~free)


RULES: dict[str, Callable[[Matrix, int], Rows]] = {
    "top": top,
    "max": highest,
    "round-robin": round_robin,
    "diverse": diverse,
}
