"""Pool rows that the teacher has scored again with real gradients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.searchable import Searchable
from influcoder.data.examples import Example
from influcoder.maths.arrays import Floats
from influcoder.teachers.memorised import memorised
from influcoder.teachers.teacher import Teacher

Advance = Callable[[int, int], None]
"""(rows re-checked, rows there are)"""
SLICE = 16
"""rows that are re-checked between two calls of `advance`"""


@dataclass(frozen=True, slots=True)
class Rechecked:
    """Pool rows with the teacher's features of each; a row that several queries share costs one gradient.

    Attributes:
        rows: (m,) in order, each once.
        examples: of each row.
        features: (m, dim).
        memorised: (m,) whether the model has memorised a row, compared with the others here.
    """

    rows: NDArray[np.int64]
    examples: Mapping[int, Example]
    features: Floats
    memorised: NDArray[np.bool_]

    @classmethod
    def of(
        cls, index: Searchable, teacher: Teacher, rows: NDArray[np.int64], advance: Advance | None = None
    ) -> "Rechecked":
        """Re-check some rows of an index, in any order, each once even if it is named several times.

        Args:
            advance: called between slices of the rows, when the teacher is at rest.
        """
        distinct = np.unique(rows)
        examples = index.examples_at(distinct)
        size = SLICE if advance else max(1, len(examples))
        features = []
        for start in range(0, len(examples), size):
            if advance:
                advance(start, len(examples))
            batch = examples[start : start + size]
            features.append(teacher.features(batch, "pool").refuse_rejected(batch))
        if advance:
            advance(len(examples), len(examples))
        vectors, losses, norms = (
            np.concatenate([getattr(batch, name) for batch in features]) for name in ("vectors", "losses", "norms")
        )
        return cls(distinct, dict(zip(distinct.tolist(), examples, strict=True)), vectors, memorised(losses, norms))

    def is_memorised(self, row: int) -> bool:
        return bool(self.memorised[np.searchsorted(self.rows, row)])

    def features_of(self, rows: NDArray[np.int64] | Sequence[int]) -> Floats:
        """(n, dim) of some of them."""
        return self.features[np.searchsorted(self.rows, rows)]

    def scores(self, query: Floats, rows: NDArray[np.int64]) -> Floats:
        """(n,) the teacher's influence of some of them on a query, from its features, (dim,)."""
        return self.features_of(rows) @ query
