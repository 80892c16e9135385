"""Where the influence on a question lies: in how few rows, and in which groups of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from influcoder.maths.arrays import Floats


def share_of_top(scores: Floats, shares: Sequence[float]) -> list[float]:
    """Of all positive influence, the part that the top `shares` (0 to 1) of rows carry; at least one row.

    Zero where no score is positive.

    >>> share_of_top(np.float32([6, 3, 1, 0, -5]), [0.2, 0.4, 1.0])
    [0.6, 0.9, 1.0]
    """
    positive = np.sort(np.maximum(scores, 0).astype(np.float64))[::-1]
    carried, total = np.cumsum(positive), float(positive.sum())
    if total == 0:
        return [0.0 for _ in shares]
    places = [max(1, round(share * len(scores))) for share in shares]
    return [float(carried[min(place, len(scores)) - 1] / total) for place in places]


@dataclass(frozen=True, slots=True)
class GroupInfluence:
    """The part that a group of rows has in the influence on a question.

    Attributes:
        rows: how many rows it has.
        positive, negative: its shares (0 to 1) of all influence above zero, and of all below.
        mean: its mean score.
    """

    rows: int
    positive: float
    negative: float
    mean: float


def influence_of_groups(groups: NDArray[np.integer], scores: Floats, count: int) -> list[GroupInfluence]:
    """The influence of each of `count` groups of rows.

    Args:
        groups: (n,) the number of each row's group; rows of -1 are in none, and count towards the whole alone.
        scores: (n,) of the rows.

    >>> first, second = influence_of_groups(np.array([0, 0, 1]), np.float32([3, -1, 1]), 2)
    >>> first.positive, first.negative, second.rows
    (0.75, 1.0, 1)
    """
    inside = groups >= 0
    known, exact = groups[inside], scores.astype(np.float64)
    rows = np.bincount(known, minlength=count)

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(known, weights=values[inside], minlength=count), np.float64)

    above, below = np.maximum(exact, 0), np.maximum(-exact, 0)
    positive, negative = summed(above) / (above.sum() or 1), summed(below) / (below.sum() or 1)
    means = summed(exact) / np.maximum(rows, 1)
    columns = zip(rows.tolist(), positive.tolist(), negative.tolist(), means.tolist(), strict=True)
    return [GroupInfluence(*group) for group in columns]
