"""How the scores of all rows are spread: histogram, and slices of the pool."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from influcoder.attribution.pool_columns import Groups
from influcoder.attribution.regions import Regions
from influcoder.maths.arrays import Floats
from influcoder.maths.concentration import influence_of_groups
from influcoder.report.numbers import sign_of
from influcoder.serve.view.answers import Answer
from influcoder.serve.view.concentration import HEIGHT, WIDTH
from influcoder.serve.view.pool import length_filters

BINS = 48
MOST_SLICES = 8
"""groups of a slicing that are named; the others are added up"""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the histogram, in the units of the figure."""

    x: float
    width: float
    y: float
    height: float
    sign: str
    label: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """The scores of all rows, and where the rows shown stand among them; places in the units of the figure.

    Attributes:
        bars: heights are logarithms of how many rows.
        zero: where zero is.
        band: where the band of unrelated questions begins and ends.
        marks: (place, sign) of the rows shown.
        low, high: the lowest and highest score.
        most: rows of the highest bar.
        outside: how many rows score outside the band, and their share.
    """

    bars: list[Bar]
    zero: float
    band: tuple[float, float] | None
    marks: list[tuple[float, str]]
    low: float
    high: float
    most: int
    outside: tuple[int, float] | None

    def marked(self, shown: Sequence[float]) -> "Histogram":
        """The same with marks at some scores."""
        return replace(self, marks=[(_place(score, self.low, self.high), sign_of(score)) for score in shown])


def histogram(scores: Floats, band: tuple[float, float] | None) -> Histogram:
    """The histogram of scores, (n,), zero always in it.

    >>> drawn = histogram(np.float32([-1, 0.5, 1, 1]), (-0.1, 0.7)).marked([1.0])
    >>> drawn.zero, drawn.marks, drawn.most, drawn.outside
    (150.0, [(300.0, 'up')], 2, (3, 0.75))
    """
    low, high = min(float(scores.min(initial=0)), 0.0), max(float(scores.max(initial=0)), 0.0)
    wide = (high - low) or 1.0

    def place(score: float) -> float:
        return _place(score, low, high)

    counts, edges = np.histogram(scores, bins=BINS, range=(low, low + wide))
    top = math.log1p(max(int(counts.max()), 1))
    bars = []
    for count, start, stop in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if count:
            height = round(math.log1p(count) / top * HEIGHT, 2)
            sign = "up" if start >= 0 else "down" if stop <= 0 else "zero"
            width = round(WIDTH / BINS - 0.6, 2)
            label = f"{count:,} {'row' if count == 1 else 'rows'} from {start:.3g} to {stop:.3g}"
            bars.append(Bar(place(start), width, round(HEIGHT - height, 2), height, sign, label))
    outside = None
    if band is not None:
        beyond = int(((scores < band[0]) | (scores > band[1])).sum())
        outside = (beyond, beyond / max(len(scores), 1))
    ends = None if band is None else (place(band[0]), place(band[1]))
    return Histogram(bars, place(0), ends, [], low, high, int(counts.max()), outside)


def _place(score: float, low: float, high: float) -> float:
    return round(min(max((score - low) / ((high - low) or 1.0), 0.0), 1.0) * WIDTH, 2)


@dataclass(frozen=True, slots=True)
class Slice:
    """A group of rows: its share of the rows, of the positive and of the negative influence.

    Attributes:
        filters: those that only its rows pass; none for the group of all others.
    """

    name: str
    rows: int
    share: float
    positive: float
    negative: float
    filters: list[str]


def slices(named: dict[str, Groups], scores: Floats) -> dict[str, list[Slice]]:
    """The groups of each slicing, those with most positive influence first."""
    sliced = {}
    for name, groups in named.items():
        influences = influence_of_groups(groups.of_row, scores, len(groups.names))
        ordered = [
            Slice(text, part.rows, part.rows / len(scores), part.positive, part.negative, _filters(name, number, text))
            for number, (text, part) in enumerate(zip(groups.names, influences, strict=True))
            if part.rows
        ]
        ordered.sort(key=lambda group: -group.positive)
        shown, others = ordered[:MOST_SLICES], ordered[MOST_SLICES:]
        if others:
            rows, share, positive, negative = (
                sum(getattr(group, field) for group in others) for field in ("rows", "share", "positive", "negative")
            )
            shown.append(Slice(f"{len(others)} others", rows, share, positive, negative, []))
        sliced[name] = shown
    return sliced


@dataclass(frozen=True, slots=True)
class RegionRow:
    """A region in the list beside the map; shares are None without a question."""

    number: int
    name: str
    rows: int
    positive: float | None
    negative: float | None


def region_rows(regions: Regions, answer: Answer | None) -> list[RegionRow]:
    """The regions, those with most positive influence on a question first, largest first without one."""
    if answer is None:
        sized = zip(regions.names, regions.sizes, strict=True)
        return [RegionRow(number, name, size, None, None) for number, (name, size) in enumerate(sized)]
    influences = regions.influence(answer.scores)
    rows = [
        RegionRow(number, name, influence.rows, influence.positive, influence.negative)
        for number, (name, influence) in enumerate(zip(regions.names, influences, strict=True))
    ]
    return sorted(rows, key=lambda row: -(row.positive or 0))


def _filters(name: str, number: int, text: str) -> list[str]:
    if name == "region":
        return [f"region={number + 1}"]
    if name == "length":
        return length_filters()[number]
    is_reserved = name in ("text", "score", "percentile", "rank", "duplicate", "mark", "map")
    return [f"{'meta.' if is_reserved else ''}{name}={text}"]
