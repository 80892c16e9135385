"""Draw some rows of a pool; which ones may change while they are drawn."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from influcoder.errors import ConfigError


class KeptRows(Sampler[int]):
    """Row numbers for a trainer: every kept row once, in random order, then again. An epoch has as many as the pool.

    When other rows are kept, those that were drawn least so far come first.

    Args:
        rows: how many the pool has; all are kept until `keep` is called.
        seed: of the order.

    Attributes:
        kept: the row numbers.
    """

    def __init__(self, rows: int, seed: int = 0) -> None:
        self.kept: NDArray[np.integer] = np.arange(rows)
        self._draws = np.zeros(rows, np.int64)
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self._draws)

    def __iter__(self) -> Iterator[int]:
        drawn = 0
        while drawn < len(self):
            kept = self.kept
            order = self._rng.permutation(kept)
            for row in order[np.argsort(self._draws[order], kind="stable")][: len(self) - drawn]:
                drawn += 1
                self._draws[row] += 1
                yield int(row)
                if self.kept is not kept:  # other rows, from the very next on
                    break

    def keep(self, rows: NDArray[np.integer]) -> None:
        """Draw these rows from now on.

        Raises:
            ConfigError: there are none, or one that the pool does not have.
        """
        if len(rows) == 0 or rows.min() < 0 or rows.max() >= len(self):
            raise ConfigError(f"rows {rows.tolist()[:5]}, expected some of the {len(self)} rows, numbered from 0.")
        self.kept = rows
