"""What a search needs of an index, wherever its vectors and texts lie."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from influcoder.data.examples import Example
from influcoder.indexes.scan import Ranked
from influcoder.maths.arrays import Floats
from influcoder.student.encoder import InfluenceEncoder


class Searchable(Protocol):
    """A pool that can be asked: an `Index`, or a `LanceIndex`."""

    def __len__(self) -> int:
        """How many rows it has."""
        ...

    @property
    def encoder(self) -> InfluenceEncoder:
        """What made it, for queries."""
        ...

    def search(self, queries: Floats, k: int, *, opponents: bool = ..., where: str | None = ...) -> Ranked:
        """The `k` best rows of each query, (n, dim)."""
        ...

    def search_both_sides(self, queries: Floats, k: int, *, where: str | None = ...) -> tuple[Ranked, Ranked]:
        """The `k` best and the `k` worst rows of each query."""
        ...

    def search_approximately(self, queries: Floats, k: int, *, opponents: bool = ...) -> Ranked:
        """The same, faster; it may miss rows."""
        ...

    def examples_at(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Example]:
        """The pool examples of some rows."""
        ...
