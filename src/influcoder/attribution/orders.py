"""In which order rows are chosen: turns the scores of several queries, (n_queries, n), into a score and place a row.

| by | rows come in the order of |
|---|---|
| mean | their mean over queries |
| max | their highest score of any query |
| round-robin | turns: each query takes its best free row (RDS+; Ivison et al. 2025) |
| diverse | what they add to Σ_q √(Σ_x s⁺(q, x)), greedily: the more a query has, the less it gains |

An order does not depend on how many rows are wanted: those for a smaller budget are the first of a larger one.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from influcoder.errors import ConfigError
from influcoder.maths.arrays import Matrix
from influcoder.maths.order import falling

By = Literal["mean", "max", "round-robin", "diverse"]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Order:
    """Rows with their scores, and in which order they are chosen.

    Attributes:
        scores: (n,) of each row.
        rows: (n,) row numbers, the best first.
    """

    scores: NDArray[np.float32]
    rows: Rows

    @classmethod
    def of(cls, scores: Matrix, by: By) -> "Order":
        """By the scores of several queries, (n_queries, n); ties go by the mean, then by row number.

        Raises:
            ConfigError: `by` is none of the four.
        """
        if by not in get_args(By):
            raise ConfigError(f"by is {by!r}, expected one of {', '.join(get_args(By))}.")
        mean = scores.mean(axis=0)
        best = mean if by in ("mean", "diverse") else scores.max(axis=0)
        return cls(best.astype(np.float32), _ORDERS[by](scores))

    @classmethod
    def by_score(cls, scores: NDArray[np.float32]) -> "Order":
        """By one score of each row, (n,); ties by row number."""
        return cls(scores, falling(scores))


def by_mean(scores: Matrix) -> Rows:
    """The highest mean first."""
    return falling(scores.mean(axis=0))


def by_max(scores: Matrix) -> Rows:
    """The highest score of any query first."""
    return falling(scores.max(axis=0))


def round_robin(scores: Matrix) -> Rows:
    """Queries take turns in their order; each takes its best free row.

    >>> round_robin(np.array([[0.9, 0.8, 0.1], [0.9, 0.2, 0.3]])).tolist()
    [0, 2, 1]
    """
    favourites = [iter(row) for row in np.argsort(-scores, axis=1, kind="stable")]
    taken = np.zeros(scores.shape[1], bool)
    rows = []
    for turn in range(scores.shape[1]):
        row = next(row for row in favourites[turn % len(favourites)] if not taken[row])
        taken[row] = True
        rows.append(row)
    return np.array(rows, np.int64)


def diverse(scores: Matrix) -> Rows:
    """Greedy maximum of Σ_q √(Σ_x s⁺(q, x)), each query's scores scaled to a highest of 1; ties by the mean.

    A row adds less as others are taken, so a row whose last known gain is too small need not be computed again
    (Minoux 1978).
    """
    gains = np.maximum(scores, 0).astype(np.float64)
    gains /= np.maximum(gains.max(axis=1, keepdims=True), 1e-30)
    places = np.argsort(by_mean(scores))
    totals = np.zeros(len(gains))
    waiting = [(-gain, int(places[row]), row) for row, gain in enumerate(np.sqrt(gains).sum(axis=0).tolist())]
    heapq.heapify(waiting)
    rows = []
    while waiting:
        _, place, row = heapq.heappop(waiting)
        gain = float((np.sqrt(totals + gains[:, row]) - np.sqrt(totals)).sum())
        if waiting and (-gain, place, row) > waiting[0]:
            heapq.heappush(waiting, (-gain, place, row))
            continue
        totals += gains[:, row]
        rows.append(row)
    return np.array(rows, np.int64)


_ORDERS: dict[str, Callable[[Matrix], Rows]] = {
    "mean": by_mean,
    "max": by_max,
    "round-robin": round_robin,
    "diverse": diverse,
}
