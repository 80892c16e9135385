"""Rows in the order of their scores; ties go by row number."""

import numpy as np
from numpy.typing import NDArray

from influcoder.maths.arrays import Floats

Rows = NDArray[np.int64]


def falling(scores: NDArray[np.floating]) -> Rows:
    """(n,) row numbers, the highest score first.

    >>> falling(np.float32([0.5, 2, -1, 2])).tolist()
    [1, 3, 0, 2]
    """
    if scores.dtype != np.float32:
        return np.argsort(-scores, kind="stable")
    # A score's bits and its row number in one whole number: these are sorted several times as fast.
    bits = (scores + np.float32(0)).view(np.int32)
    keys = np.where(bits >= 0, ~bits, bits & 0x7FFFFFFF).astype(np.int64) << 32
    keys |= np.arange(len(scores))
    keys.sort()
    return keys & 0xFFFFFFFF


def first(scores: Floats, count: int) -> Rows:
    """The first `count` of `falling`, without sorting the others.

    >>> first(np.float32([0.5, 2, -1, 2, 2]), 2).tolist()
    [1, 3]
    """
    if count >= len(scores):
        return falling(scores)
    if count < 1:
        return np.empty(0, np.int64)
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    rows = np.flatnonzero(scores >= least)
    return rows[falling(scores[rows])[:count]]
