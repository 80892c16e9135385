"""Draw rows by weights that may change while they are drawn."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from influcoder.errors import ConfigError

FLOOR = 0.1
"""share of the draws that goes to all rows alike, so that none is left out for good"""


def weights_of(scores: NDArray[np.floating], strength: float) -> NDArray[np.float64]:
    """(n,) shares of the draws, from scores: a softmax of their standard scores, and a floor.

    Args:
        strength: 0 for all alike; at 1 a row of one standard deviation more is drawn e times as often.

    >>> import numpy as np
    >>> weights_of(np.array([-1.0, 0.0, 1.0]), 1.0).round(2).tolist()
    [0.09, 0.22, 0.69]
    """
    standard = (scores - scores.mean()) / max(float(scores.std()), 1e-12)
    raised = np.exp(strength * (standard - standard.max()))
    return np.asarray((1 - FLOOR) * raised / raised.sum() + FLOOR / len(scores))


class WeightedRows(Sampler[int]):
    """Row numbers for a trainer, drawn with replacement by the current weights, as many an epoch as there are rows.

    Args:
        rows: how many there are; all are drawn alike until `weights` is set.
        seed: of the draws.
    """

    def __init__(self, rows: int, seed: int = 0) -> None:
        self.weights = np.full(rows, 1 / rows)
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.weights)

    def __iter__(self) -> Iterator[int]:
        for _ in range(len(self)):  # one at a time: the weights may change before the next
            yield int(np.searchsorted(np.cumsum(self.weights), self._rng.random() * self.weights.sum(), side="right"))

    def set(self, weights: NDArray[np.float64]) -> None:
        """Draw by other weights from now on.

        Raises:
            ConfigError: they are of another number of rows.
        """
        if len(weights) != len(self):
            raise ConfigError(f"{len(weights)} weights were given for {len(self)} rows.")
        self.weights = weights
