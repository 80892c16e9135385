"""The cumulative curve: how much of the positive influence the top rows carry."""

import math
from dataclasses import dataclass

from influcoder.maths.arrays import Floats
from influcoder.maths.concentration import share_of_top

CURVE = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""shares of rows at which the curve is drawn, as far as they are a row or more"""
WIDTH, HEIGHT = 300, 90
"""of the figures of scores"""


@dataclass(frozen=True, slots=True)
class Curve:
    """How much of the positive influence the top rows carry.

    Attributes:
        points: (share of rows, share of influence).
        line: the same in the units of the figure, the share of rows by its logarithm.
        one_percent: the share of the top 1 % of rows, at least one row.
        ticks: (place, text) of some shares of rows.
    """

    points: list[tuple[float, float]]
    line: str
    one_percent: float
    ticks: list[tuple[float, str]]


def curve(scores: Floats) -> Curve:
    """The cumulative curve of positive scores."""
    first = 1 / max(len(scores), 1)
    shares = sorted({share for share in CURVE if share >= first} | {min(first, 1.0)})
    carried = share_of_top(scores, shares)
    least = math.log(min(first, 0.1))

    def place(share: float) -> float:
        return round((1 - math.log(share) / least) * WIDTH, 2)

    points = list(zip(shares, carried, strict=True))
    line = " ".join(f"{place(share)},{round((1 - influence) * HEIGHT, 2)}" for share, influence in points)
    ticks = [(place(share), f"{100 * share:g} %") for share in (0.0001, 0.001, 0.01, 0.1, 1.0) if share >= first]
    return Curve(points, line, share_of_top(scores, [0.01])[0], ticks)
