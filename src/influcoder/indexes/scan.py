"""Exact search by reading every stored vector once, at about the speed of memory.

The numbers of an integer code are multiplied as 8-bit integers with a query that is rounded to 8 bits as well.
That rounding does not change the result: by Cauchy and Schwarz it moves a score by at most

    |⟨q - q̃, x⟩|  ≤  ‖q - q̃‖ · max ‖x‖,

so every row whose rounded score comes within that of the k-th best is scored again with the query itself. The
result is that of scoring every row in double precision, ties by row number.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from influcoder.errors import ConfigError
from influcoder.maths.arrays import Floats
from influcoder.store.scalar_code import ScalarCode

_NO_SCORES = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class Found:
    """The rows a search found, best first: (n_queries, k) row numbers and scores."""

    rows: NDArray[np.int64]
    scores: Floats


@dataclass(frozen=True, slots=True)
class Block:
    """Some stored vectors.

    Attributes:
        start: the row number in the index of the first.
        stored: (n, width) as their code stores them.
        reach: the largest length of a row of `ScalarCode.numbers(stored)`.
        places: (n,) the offset of each from the first, if some rows are left out.
    """

    start: int
    stored: NDArray[Any]
    reach: float
    places: NDArray[np.int64] | None = None


def top(code: ScalarCode, blocks: Sequence[Callable[[], Block]], queries: Floats, k: int) -> Found:
    """The `k` rows of highest inner product with each query, (n, dim); ties go to the lower row number.

    Args:
        blocks: what loads each part of the index; called in as many threads as torch uses.
    """
    prepared = [_Query(code, query) for query in queries]
    floors = [-np.inf] * len(prepared)
    threads = max(1, min(torch.get_num_threads(), len(blocks)))

    def scan(thread: int) -> list[_Best]:
        by_query = [_Best(k) for _ in prepared]
        for load in blocks[thread::threads]:
            block = load()
            if len(block.stored) == 0:
                continue
            numbers = torch.from_numpy(code.numbers(block.stored))
            for number, (query, best) in enumerate(zip(prepared, by_query, strict=True)):
                best.add(*query.strongest(numbers, block, k, floors[number]))
                floors[number] = max(floors[number], best.floor)  # the floor of any thread holds for all
        return by_query

    merged, *rest = _in_threads(scan, threads)
    for by_query in rest:
        for best, other in zip(merged, by_query, strict=True):
            best.add(other.scores, other.rows)
    return Found(np.stack([best.rows for best in merged]), np.stack([best.scores for best in merged]))


def scores(code: ScalarCode, stored: NDArray[Any], queries: Floats) -> Floats:
    """(n_queries, n) the score of every stored row, in single precision."""
    scaled = torch.from_numpy(np.asarray(queries, np.float32) * code.scale)
    return np.asarray((scaled @ torch.from_numpy(code.numbers(stored)).float().T).numpy(), np.float32)


class _Query:
    """A query, prepared for the product with stored numbers."""

    def __init__(self, code: ScalarCode, vector: Floats) -> None:
        self.exact = vector.astype(np.float64) * code.scale
        length = float(np.linalg.norm(self.exact))
        if code.name == "float16" or code.dim == 1:  # torch._int_mm gives noise for one dimension
            self.step, self.rounded = 1.0, torch.from_numpy(self.exact.astype(np.float32))
            self.error = length * len(vector) * 2.0**-22  # of adding up in single precision
        else:
            self.step = float(np.abs(self.exact).max(initial=0)) / 127 or 1.0
            levels = np.rint(self.exact / self.step)
            self.rounded = torch.from_numpy(levels.astype(np.int8))[None]
            self.error = float(np.linalg.norm(self.exact - levels * self.step)) + length * 1e-9

    def strongest(self, numbers: torch.Tensor, block: Block, k: int, floor: float) -> tuple[Floats, NDArray[np.int64]]:
        """Scores and row numbers of a block's rows: all those that may be among the k best, and few more."""
        if self.rounded.dtype == torch.int8:
            approximate = torch._int_mm(self.rounded, numbers.t())[0].numpy()
        else:
            approximate = (numbers.float() @ self.rounded).numpy()
        slack = self.error * block.reach / self.step
        least = floor / self.step - slack
        if floor == -np.inf and k < len(approximate):
            least = float(np.partition(approximate, len(approximate) - k)[len(approximate) - k]) - 2 * slack
        least = max(least, -(2.0**30))
        # Of the scores' own type: NumPy would otherwise convert every score to float64.
        integers = approximate.dtype == np.int32
        limit = np.int32(math.floor(least)) if integers else np.nextafter(np.float32(least), np.float32(-np.inf))
        places = np.flatnonzero(approximate >= limit)
        if len(places) == 0:
            return _NO_SCORES, places
        exact = numbers[torch.from_numpy(places)].double().numpy() @ self.exact
        return exact.astype(np.float32), block.start + (places if block.places is None else block.places[places])


class _Best:
    """The k best of the scores that were added."""

    def __init__(self, k: int) -> None:
        self._k = k
        self.scores, self.rows = np.empty(0, np.float32), np.empty(0, np.int64)

    @property
    def floor(self) -> float:
        """The score that a row must reach to be among them."""
        return float(self.scores[-1]) if len(self.scores) == self._k else -np.inf

    def add(self, scores: Floats, rows: NDArray[np.int64]) -> None:
        if len(rows) == 0:
            return
        scores, rows = np.concatenate([self.scores, scores]), np.concatenate([self.rows, rows])
        order = np.lexsort((rows, -scores))[: self._k]
        self.scores, self.rows = scores[order], rows[order]


def _in_threads(work: Callable[[int], Any], threads: int) -> list[Any]:
    """The results of every thread, in each of which torch uses one thread."""
    if threads == 1:
        return [work(0)]
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, range(threads)))
    finally:
        torch.set_num_threads(before)


def checked_queries(queries: Floats, dim: int, k: int = 1) -> Floats:
    """Queries as they are searched with, (n, dim), after checking them and the number of rows that are asked for.

    Raises:
        ConfigError: the queries have another width or are not finite, or k is below 1.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise ConfigError(f"queries are {queries.shape}, expected (n, {dim}).")
    if not np.isfinite(queries).all():
        raise ConfigError("a query vector is not finite.")
    if k < 1:
        raise ConfigError(f"k is {k}, expected at least 1.")
    return queries
