"""The two kinds of arrays that signatures name, docstrings say the shape; and rows made one long."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
"""single precision: vectors, features, scores as they are stored"""
Matrix = NDArray[np.floating[Any]]
"""any precision: what the mathematics takes"""


def unit_rows(vectors: Floats) -> Floats:
    """(n, dim) the rows of vectors divided by their lengths; rows of zeros stay.

    >>> unit_rows(np.float32([[3, 4], [0, 0]])).round(2).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    vectors = np.asarray(vectors, np.float32)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
