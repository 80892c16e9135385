"""Many questions together: the rows that act on the whole set, and what a budget of rows covers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from influcoder.data.examples import Example
from influcoder.indexes.index import Index
from influcoder.maths.arrays import Floats, unit_rows
from influcoder.maths.order import falling
from influcoder.serve.view.pool import PoolPicture

MOST_QUESTIONS = 200
FIRST = 10
"""best rows of each question that a budget should cover"""


@dataclass
class QuestionSet:
    """Scores of a pool for several questions, summed up over them; all questions count the same.

    Attributes:
        mean, highest: (n,) of every row, the scores of each question divided by the length of its vector.
        first_rows: (questions, m) the best rows of each.
    """

    questions: list[Example]
    vectors: Floats
    mean: Floats
    highest: Floats
    first_rows: NDArray[np.int64]

    @classmethod
    def of(cls, index: Index, questions: Sequence[Example]) -> "QuestionSet":
        """Score every row for every question, a shard at a time. In the worker."""
        chosen = list(questions)[:MOST_QUESTIONS]
        vectors = unit_rows(index.encoder.encode_query(chosen))
        shards = [scores for _, scores in index.iter_scores(vectors)]
        mean = np.concatenate([shard.mean(axis=0) for shard in shards])
        highest = np.concatenate([shard.max(axis=0) for shard in shards])
        first_rows = index.search(vectors, min(FIRST, len(index))).rows
        return cls(chosen, vectors, mean.astype(np.float32), highest.astype(np.float32), first_rows)

    def scores(self, by: str) -> Floats:
        """(n,) by "mean" or "max"."""
        return self.highest if by == "max" else self.mean

    @cached_property
    def orders(self) -> dict[str, NDArray[np.int64]]:
        """Row numbers, best first, by "mean" and by "max"."""
        return {by: falling(self.scores(by)) for by in ("mean", "max")}

    def of_rows(self, index: Index, rows: NDArray[np.int64]) -> Floats:
        """(questions, rows) the scores of some rows for each question."""
        ranked = index.best_of(self.vectors, np.tile(rows, (len(self.vectors), 1)), len(rows))
        order = np.argsort(ranked.rows, axis=1)
        scores = np.take_along_axis(ranked.scores, order, axis=1)
        return scores[:, np.argsort(np.argsort(rows))]


@dataclass(frozen=True, slots=True)
class Budget:
    """What the best share of rows by summed score covers.

    Attributes:
        rows: how many.
        threshold: the score of the last.
        covered: how many questions have at least one of their first ten rows among them.
        first_ten: the share of all questions' first ten rows among them.
        regions: how many regions they come from, of how many; None until these are known.
        twins: how many of them repeat another row of the pool.
    """

    rows: int
    threshold: float
    covered: int
    first_ten: float
    regions: tuple[int, int] | None
    twins: int


def budget_of(question_set: QuestionSet, by: str, share: float, pool: PoolPicture) -> Budget:
    """What the top `share` of rows covers; nothing is scored again."""
    order = question_set.orders[by]
    count = min(len(order), max(1, round(share * len(order))))
    chosen = np.zeros(len(order), bool)
    chosen[order[:count]] = True
    inside = chosen[question_set.first_rows]
    regions = None
    if pool.regions is not None:
        regions = len(np.unique(pool.regions.of_row[chosen])), len(pool.regions.names)
    twins = pool.columns.twins
    return Budget(
        rows=count,
        threshold=float(question_set.scores(by)[order[count - 1]]),
        covered=int(inside.any(axis=1).sum()),
        first_ten=float(inside.mean()),
        regions=regions,
        twins=int((chosen & (twins != np.arange(len(twins)))).sum()),
    )
