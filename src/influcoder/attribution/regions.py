"""Regions of a pool: rows whose vectors lie close together, named by their words, with their part in an influence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.words import telling_words
from influcoder.indexes.index import Index
from influcoder.maths.arrays import Floats, unit_rows
from influcoder.maths.clusters import cluster_centres, nearest_centre
from influcoder.maths.concentration import GroupInfluence, influence_of_groups

MOST, LEAST_ROWS = 24, 50
"""regions of a pool at most, and rows of a region on average at least"""
FITTED = 50_000
"""rows that the centres are fitted to, at most"""
NAMED_BY = 200
"""rows of a region that are read for its name, at most"""
RUN = 20
"""how many of them are neighbours in the region"""


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of an index, largest first.

    Attributes:
        of_row: (n,) the number of each row's region.
        names: of each region, a few words that its rows have and others lack.
        sizes: rows of each.
    """

    of_row: NDArray[np.int32]
    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def influence(self, scores: Floats) -> list[GroupInfluence]:
        """The part of each region in the influence on a question, from the scores of all rows, (n,)."""
        return influence_of_groups(self.of_row, scores, len(self.names))


def find_regions(index: Index, count: int | None = None, *, seed: int = 0) -> Regions:
    """Cluster the rows of an index by k-means on unit vectors: rows that act on the same questions come together.

    Args:
        count: how many regions; about one for each 50 rows when omitted, from 2 to 24.
        seed: of the clustering and of the rows that name a region.
    """
    rows = len(index)
    if rows == 0:
        return Regions(np.empty(0, np.int32), (), ())
    count = min(rows, count or min(MOST, max(2, rows // LEAST_ROWS)))
    rng = np.random.default_rng(seed)
    centres = cluster_centres(unit_rows(sample_vectors(index, FITTED, rng)), count, seed=seed)
    labels = np.concatenate([nearest_centre(unit_rows(part), centres) for part in index.parts() if len(part)])
    sizes = np.bincount(labels, minlength=count)
    order = [number for number in np.argsort(-sizes, kind="stable") if sizes[number]]
    renumbered = np.zeros(count, np.int32)
    renumbered[order] = np.arange(len(order))
    labels = renumbered[labels]
    names = _names(
        [some_texts(index, np.flatnonzero(labels == number), NAMED_BY, RUN, rng) for number in range(len(order))]
    )
    return Regions(labels, tuple(names), tuple(int(sizes[number]) for number in order))


def sample_vectors(index: Index, most: int, rng: np.random.Generator) -> Floats:
    """(m, dim) the vectors of all rows, or of `most` random ones, in index order."""
    share = min(1.0, most / max(len(index), 1))
    parts = []
    for part in index.parts():
        count = round(share * len(part))
        parts.append(part if share == 1 else part[np.sort(rng.choice(len(part), count, replace=False))])
    return np.concatenate(parts)


def some_texts(index: Index, rows: NDArray[np.int64], count: int, run: int, rng: np.random.Generator) -> list[str]:
    """The texts of about `count` of some rows, in runs of `run` neighbours, which are read together."""
    starts = rng.choice(-(-len(rows) // run), min(-(-len(rows) // run), -(-count // run)), replace=False)
    chosen = np.concatenate([rows[start * run : (start + 1) * run] for start in np.sort(starts)])
    return [f"{example.prompt} {example.completion}" for example in index.examples_at(chosen)]


def _names(texts: Sequence[Sequence[str]]) -> list[str]:
    words_of_regions = telling_words(texts)
    return [", ".join(words) or f"region {number}" for number, words in enumerate(words_of_regions, 1)]
