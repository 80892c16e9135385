"""How strongly every row of the pool acts on a question."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from influcoder.indexes.index import Index
from influcoder.indexes.lance import LanceIndex
from influcoder.maths.arrays import Floats
from influcoder.maths.order import falling
from influcoder.verbs.opening import open_whole_index

KEPT_RANKINGS = 8
"""rankings, each of 24 bytes a row at most"""


class Ranking:
    """The scores of all rows for a question; scores and orders are computed once, at their first use."""

    def __init__(self, index: Index | LanceIndex, vector: Floats) -> None:
        self._index, self._vector = index, vector

    @property
    def is_known(self) -> bool:
        """Whether the rows have been scored."""
        return "scores" in vars(self)

    @cached_property
    def scores(self) -> Floats:
        """(n,) of every row.

        Raises:
            ConfigError: the rows are in LanceDB.
        """
        scores: Floats = open_whole_index(self._index).scores(self._vector[None])[0]
        return scores

    @cached_property
    def ranked(self) -> Floats:
        """(n,) the scores, lowest first."""
        return np.sort(self.scores)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """(n,) row numbers, highest score first; ties by row number."""
        return falling(self.scores)

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """(n,) 1 for the highest score."""
        ranks = np.empty(len(self.order), np.int64)
        ranks[self.order] = np.arange(1, len(self.order) + 1)
        return ranks
