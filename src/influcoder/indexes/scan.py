"""Exact search by reading every stored vector once, at about the speed of memory.

Where the processor multiplies 8-bit integers by itself (VNNI), the numbers of an integer code are multiplied with a
query that is rounded to 8 bits as well; otherwise, and for float16, in single precision. That rounding is not part of
the answer: by Cauchy and Schwarz it moves a score by at most

    |⟨q - q̃, x⟩|  ≤  ‖q - q̃‖ · max ‖x‖,

so every row whose rounded score comes within that of the k-th best is scored again with the query itself. The
result is that of scoring every row in double precision, ties by row number. A block is read once for all queries, and
for both ends of their rankings.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from influcoder.errors import ConfigError
from influcoder.maths.arrays import Floats
from influcoder.store.scalar_code import ScalarCode

QUERIES = 64
"""queries that are multiplied with a block together"""
CACHED = 2**18
"""numbers that are converted to single precision together, few enough for the processor's cache"""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Rows in the order of their scores, best first: (n_queries, k) row numbers and scores."""

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


Loader = Callable[[], Block]


def top(code: ScalarCode, blocks: Sequence[Loader], queries: Floats, k: int) -> Ranked:
    """The `k` rows of highest inner product with each query, (n, dim); ties go to the lower row number.

    Args:
        blocks: what loads each part of the index; called in as many threads as torch uses.
    """
    return _ends(code, blocks, queries, k, (1,))[0]


def both_ends(code: ScalarCode, blocks: Sequence[Loader], queries: Floats, k: int) -> tuple[Ranked, Ranked]:
    """The `k` rows of highest inner product with each query, and the `k` of lowest, read once; see `top`."""
    highest, lowest = _ends(code, blocks, queries, k, (1, -1))
    return highest, Ranked(lowest.rows, -lowest.scores)


def _ends(code: ScalarCode, blocks: Sequence[Loader], queries: Floats, k: int, signs: Sequence[int]) -> list[Ranked]:
    """The `k` rows of highest inner product with each query times each sign."""
    batches = [_Queries(code, queries[start : start + QUERIES], signs) for start in range(0, len(queries), QUERIES)]
    floors = [np.full((len(signs), len(batch)), -np.inf) for batch in batches]
    threads = max(1, min(torch.get_num_threads(), len(blocks)))

    def scan(turn: int) -> list[list[_Best]]:
        best = [[_Best(k) for _ in queries] for _ in signs]
        for load in blocks[turn::threads]:
            block = load()
            if len(block.stored) == 0:
                continue
            numbers = torch.from_numpy(code.numbers(block.stored))
            for number, batch in enumerate(batches):
                # What any thread has found holds for all.
                for side, place, scores, rows in batch.strongest(numbers, block, k, floors[number]):
                    of_query = best[side][number * QUERIES + place]
                    of_query.add(scores, rows)
                    floors[number][side, place] = max(floors[number][side, place], of_query.floor)
        return best

    results = _in_threads(scan, threads)
    for first, *others in zip(*([best for side in sides for best in side] for sides in results), strict=True):
        for best in others:
            first.add(best.scores, best.rows)
    return [Ranked(np.stack([b.rows for b in side]), np.stack([b.scores for b in side])) for side in results[0]]


def scores(code: ScalarCode, stored: NDArray[Any], queries: Floats) -> Floats:
    """(n_queries, n) the score of every stored row, in single precision."""
    scaled = torch.from_numpy(np.asarray(queries, np.float32) * code.scale)
    return np.asarray(_products(scaled, torch.from_numpy(code.numbers(stored))), np.float32)


def _products(queries: torch.Tensor, numbers: torch.Tensor) -> NDArray[np.float32]:
    """(n_queries, n) inner products in single precision."""
    products = torch.empty((len(queries), len(numbers)))
    size = max(1, CACHED // max(1, numbers.shape[1]))
    for start in range(0, len(numbers), size):
        products[:, start : start + size] = queries @ numbers[start : start + size].float().T
    return np.asarray(products.numpy())


class _Queries:
    """Some queries, ready to be multiplied with stored numbers.

    Attributes:
        exact: (n, dim) what a stored number of each dimension is worth.
        rounded: the same, of `steps`, (n,), in 8 bits where that is quick.
        errors: (n,) how long the difference is.
    """

    def __init__(self, code: ScalarCode, vectors: Floats, signs: Sequence[int]) -> None:
        self.signs, self.exact = signs, vectors.astype(np.float64) * code.scale
        lengths = np.linalg.norm(self.exact, axis=1)
        # torch._int_mm gives noise for one dimension
        if code.name == "float16" or code.dim == 1 or not torch.cpu._is_vnni_supported():
            self.steps, self.rounded = np.ones(len(vectors)), torch.from_numpy(self.exact.astype(np.float32))
            self.errors = lengths * code.dim * 2.0**-22  # of adding up in single precision
        else:
            steps = np.abs(self.exact).max(axis=1, initial=0) / 127
            self.steps = np.where(steps > 0, steps, 1.0)
            levels = np.rint(self.exact / self.steps[:, None])
            self.rounded = torch.from_numpy(levels.astype(np.int8))
            self.errors = np.linalg.norm(self.exact - levels * self.steps[:, None], axis=1) + lengths * 1e-9

    def __len__(self) -> int:
        return len(self.exact)

    def strongest(
        self, numbers: torch.Tensor, block: Block, k: int, floors: NDArray[np.float64]
    ) -> Iterator[tuple[int, int, Floats, NDArray[np.int64]]]:
        """(side, query, scores, row numbers) of a block's rows: all that may be among the k best, and few more.

        Args:
            floors: (sides, n) what a row must reach.
        """
        whole = self.rounded.dtype == torch.int8
        products = torch._int_mm(self.rounded, numbers.t()).numpy() if whole else _products(self.rounded, numbers)
        slacks = self.errors * block.reach / self.steps
        for side, sign in enumerate(self.signs):
            ends = products.max(axis=1) if sign > 0 else products.min(axis=1)
            for place, product in enumerate(products):
                least = floors[side, place] / self.steps[place] - slacks[place]
                if floors[side, place] == -np.inf and k < len(product):
                    nth = len(product) - k if sign > 0 else k - 1
                    least = sign * float(np.partition(product, nth)[nth]) - 2 * slacks[place]
                if sign * float(ends[place]) < least:
                    continue
                # A number of the scores' own type: otherwise NumPy converts every score to a double.
                if whole:
                    limit = np.int32(sign * math.floor(max(least, -(2.0**30))))
                else:
                    limit = np.nextafter(np.float32(sign * least), np.float32(-sign * np.inf))
                places = np.flatnonzero(product >= limit if sign > 0 else product <= limit)
                exact = sign * (numbers[torch.from_numpy(places)].double().numpy() @ self.exact[place])
                rows = block.start + (places if block.places is None else block.places[places])
                yield side, place, exact.astype(np.float32), rows


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
