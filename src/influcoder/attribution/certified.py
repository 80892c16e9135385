"""What a re-check proves of the rows that it left out, from the exact scores of a random sample of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from influcoder.maths.arrays import Floats
from influcoder.maths.bounds import CONFIDENCE, share_at_most


@dataclass(frozen=True, slots=True)
class Certified:
    """How many rows that were not re-checked can act on a query more strongly than the last row shown.

    Attributes:
        sampled: random rows among them that the teacher scored.
        above: how many of these score above the last row shown; below it, where opponents were asked for.
        others: how many rows were not re-checked, the sampled ones included.
        at_most: with the confidence given, no more than this share of the others scores above it.
        confidence: of the bound; 1 where the sample is all of the others.
    """

    sampled: int
    above: int
    others: int
    at_most: float
    confidence: float

    @classmethod
    def of(cls, scores: Floats, last: float, others: int, *, opponents: bool = False) -> "Certified":
        """Bound the others by the exact scores of a random sample of them.

        Args:
            scores: (sampled,) of the sample.
            last: the exact score of the last row shown, found without the sample.

        >>> Certified.of(np.zeros(200), 0.5, 2940).at_most < 0.015
        True
        """
        sampled, above = len(scores), int(np.sum(scores < last if opponents else scores > last))
        if sampled == others:
            return cls(sampled, above, others, above / max(others, 1), 1.0)
        return cls(sampled, above, others, share_at_most(above, sampled), CONFIDENCE)


def draw_others(
    rows: NDArray[np.int64], shortlists: Sequence[NDArray[np.int64]], size: int, *, seed: int = 0
) -> list[NDArray[np.int64]]:
    """A random sample of the rows outside each shortlist, `size` of them or all there are.

    All samples come from one random order of the rows: those of several queries are nearly the same rows, whose
    gradients are computed once.
    """
    longest = max(map(len, shortlists), default=0)
    order = np.random.default_rng(seed).choice(rows, min(len(rows), size + longest), replace=False)
    return [order[~np.isin(order, shortlist)][:size] for shortlist in shortlists]
