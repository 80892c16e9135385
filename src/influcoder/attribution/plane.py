"""Where the rows of an index lie on a map."""

import numpy as np

from influcoder.attribution.regions import FITTED, sample_vectors
from influcoder.indexes.index import Index
from influcoder.maths.arrays import Floats
from influcoder.maths.projection import principal_plane, umap_places

UMAP_ROWS = 20_000
"""rows that UMAP places in minutes; larger pools lie along their principal directions"""


def places(index: Index, *, seed: int = 0) -> Floats:
    """(n, 2) places of the rows: rows that act on the same questions lie close together.

    By UMAP where it is installed and the pool has at most 20,000 rows, otherwise along the two directions in which the
    vectors vary most.
    """
    if len(index) == 0:
        return np.empty((0, 2), np.float32)
    vectors = sample_vectors(index, FITTED, np.random.default_rng(seed))
    if len(index) <= UMAP_ROWS and (positions := umap_places(vectors, seed=seed)) is not None:
        return positions
    place = principal_plane(vectors)
    return np.concatenate([place(part) for part in index.parts() if len(part)])
