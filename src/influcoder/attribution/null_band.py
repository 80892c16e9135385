"""What scores an unrelated question would give: the band within which a score says nothing."""

from collections.abc import Callable

import numpy as np

from influcoder.attribution.search import asked_vectors
from influcoder.data.examples import Example
from influcoder.indexes.index import Index
from influcoder.maths.arrays import Floats, unit_rows
from influcoder.teachers.teacher import Teacher

REFERENCES = 32
"""random pool rows that stand for unrelated questions"""
TOGETHER = 4
"""how many of them are read at once"""
COVERED = 0.95
SCORED = 20_000
"""rows whose scores make the band, at most"""


def reference_directions(
    index: Index, teacher: Teacher | None = None, *, seed: int = 0, pause: Callable[[], None] = lambda: None
) -> Floats:
    """(m, dim) unit vectors of random pool rows, read as questions are; made once for an index.

    Args:
        teacher: takes the gradients of these questions too, where it takes those of the user's.
        pause: called between a few rows and the next.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(index), min(REFERENCES, len(index)), replace=False))
    vectors = []
    for start in range(0, len(rows), TOGETHER):
        examples = [_as_question(row) for row in index.examples_at(rows[start : start + TOGETHER])]
        vectors.append(asked_vectors(index, examples, teacher))
        pause()
    return unit_rows(np.concatenate(vectors))


def null_band(pool: Floats, vector: Floats, references: Floats) -> tuple[float, float]:
    """The ends of the middle 95 % of scores that unrelated questions as strong as this one give.

    Args:
        pool: (n, dim) vectors of pool rows, all or a sample.
        vector: (dim,) of the question.
        references: (m, dim) unit vectors, as of `reference_directions`.

    >>> pool = np.float32([[1, 0], [0, 1], [-1, 0], [0, -1]])
    >>> low, high = null_band(pool, np.float32([3, 4]), np.float32([[1, 0]]))
    >>> round(low, 3), round(high, 3)
    (-4.625, 4.625)
    """
    scores = float(np.linalg.norm(vector)) * (references @ pool.T)
    low, high = np.quantile(scores, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return float(low), float(high)


def _as_question(example: Example) -> Example:
    return Example("", example.prompt, example.completion, example.turns)
