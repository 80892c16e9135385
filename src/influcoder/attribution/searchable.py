"""What can be asked: a pool's vectors and texts, wherever they lie."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from influcoder.data.examples import Example
from influcoder.indexes.scan import Found
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

    def search(self, queries: Floats, k: int, *, opponents: bool = ..., where: str | None = ...) -> Found:
        """The `k` best rows of each query, (n, dim)."""
        ...

    def search_both_sides(self, queries: Floats, k: int, *, where: str | None = ...) -> tuple[Found, Found]:
        """The `k` best and the `k` worst rows of each query."""
        ...

    def search_approximately(self, queries: Floats, k: int, *, opponents: bool = ...) -> Found:
        """The same, faster and not always alike."""
        ...

    def examples_at(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Example]:
        """The pool examples of some rows."""
        ...
