"""Carries features from an earlier state of a model to a later one, of which only a few rows are known.

Both states project their gradients alike, so a row's features live in the same space before and after. What changed is
learnt from the rows that are known at both states and passed on to the rows like them: kernel ridge regression
(Saunders, Gammerman, Vovk 1998) of the change on the earlier features, whose inner products, the influences of before,
say which rows are alike.
"""

import numpy as np
from numpy.typing import NDArray

from influcoder.maths.arrays import Floats

PENALTY = 0.03
"""ten times less or three times more makes no difference that was measured (docs/runs/refresh.json)"""


def carried(earlier: Floats, places: NDArray[np.int64], now: Floats, *, unit: bool) -> Floats:
    """(n, width) features at the later state: `now`, (m, width), at `places`, and carried there for the other rows.

    Args:
        earlier: (n, width) features at the earlier state.
        unit: whether features are of length 1, as those of a cosine teacher.

    >>> earlier = np.eye(3, dtype=np.float32)
    >>> carried(earlier, np.array([0]), np.array([[0.0, 0.0, 1.0]], np.float32), unit=True).round(1).tolist()
    [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    lengths = np.maximum(np.linalg.norm(earlier, axis=1, keepdims=True), 1e-30)
    rows = earlier / lengths
    known = rows[places]
    kernel = known @ known.T + PENALTY * np.eye(len(places), dtype=np.float32)
    estimated = rows + (rows @ known.T) @ np.linalg.solve(kernel, now / lengths[places] - known)
    if unit:
        estimated /= np.maximum(np.linalg.norm(estimated, axis=1, keepdims=True), 1e-30)
    estimated = estimated * (1 if unit else lengths)
    estimated[places] = now
    return np.asarray(estimated, np.float32)
