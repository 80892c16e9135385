"""Token ids of many texts in one array, and what can be added up over each text at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from influcoder.maths.arrays import Floats


@dataclass(frozen=True, slots=True)
class Ragged:
    """Token ids of many texts, end to end; text i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Ragged":
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        ids = np.fromiter(chain.from_iterable(rows), np.int64, int(offsets[-1]))
        return cls(ids, offsets)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def owner(self) -> NDArray[np.int64]:
        """The number of the text that each token belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)

    def mean(self, values: Floats) -> Floats:
        """(n, d) mean of (tokens, d) values over each text; zero for an empty one."""
        share = np.repeat(1 / np.maximum(self.lengths, 1), self.lengths).astype(np.float32)
        shape = (len(self.offsets) - 1, len(self.ids))
        weights = scipy.sparse.csr_matrix((share, np.arange(len(self.ids)), self.offsets), shape=shape)
        return np.asarray(weights @ values)

    def bag(self, vocabulary: int) -> scipy.sparse.csr_matrix:
        """(n, vocabulary) 1 where a text holds a token."""
        matrix = self.counts(vocabulary)
        matrix.data[:] = 1
        return matrix

    def counts(self, vocabulary: int) -> scipy.sparse.csr_matrix:
        """(n, vocabulary) how often a text holds a token."""
        ones = np.ones(len(self.ids), np.float32)
        # A copy: adding up duplicates sorts the ids in place.
        matrix = scipy.sparse.csr_matrix(
            (ones, self.ids.astype(np.int32), self.offsets), (len(self.offsets) - 1, vocabulary)
        )
        matrix.sum_duplicates()
        return matrix

    def bag_sum(self, table: Floats) -> Floats:
        """(n, d) sum of the rows of a (vocabulary, d) table over each text."""
        return np.asarray(self.counts(len(table)) @ table)

    def mean_of(self, table: Floats) -> Floats:
        """(n, d) mean of the rows of a (vocabulary, d) table over each text; zero for an empty one."""
        return np.asarray(self.bag_sum(table) / np.maximum(self.lengths, 1)[:, None], np.float32)

    def every_other(self, start: int) -> "Ragged":
        """Texts start, start + 2, ..."""
        chosen = np.arange(len(self.lengths)) % 2 == start
        kept = self.ids[np.repeat(chosen, self.lengths)]
        return Ragged(kept, np.concatenate([[0], np.cumsum(self.lengths[chosen])]))

    def with_contexts(self, before: "Ragged") -> tuple["Ragged", "Ragged"]:
        """(the token before, the token) of every token with a token before it; the last of `before` for a first."""
        ids = np.concatenate([[-1], self.ids[:-1]])[: len(self.ids)]
        filled = self.lengths > 0
        last = np.full(len(filled), -1)
        last[before.lengths > 0] = before.ids[before.offsets[1:][before.lengths > 0] - 1]
        ids[self.offsets[:-1][filled]] = last[filled]
        return Ragged(ids, self.offsets).filtered(ids >= 0), self.filtered(ids >= 0)

    def filtered(self, chosen: NDArray[np.bool_]) -> "Ragged":
        """The tokens that are chosen, (tokens,)."""
        return Ragged(self.ids[chosen], np.concatenate([[0], np.cumsum(chosen)])[self.offsets])

    def first(self, count: int) -> "Ragged":
        """The first `count` tokens of each text."""
        within = np.arange(len(self.ids)) - self.offsets[:-1][self.owner()]
        kept = np.minimum(self.lengths, count)
        return Ragged(self.ids[within < count], np.concatenate([[0], np.cumsum(kept)]))
