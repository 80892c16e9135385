"""Groups of vectors that lie close to each other, by k-means (Lloyd, 1982; FAISS)."""

import faiss
import numpy as np
from numpy.typing import NDArray

from influcoder.maths.arrays import Floats

ITERATIONS = 20


def cluster_centres(vectors: Floats, count: int, *, seed: int = 0) -> Floats:
    """(count, dim) centres of vectors, (n, dim); the same seed gives the same centres.

    Raises:
        ValueError: fewer vectors than centres.
    """
    if len(vectors) < count:
        raise ValueError(f"{len(vectors)} vectors, expected at least {count}: one a centre.")
    means = faiss.Kmeans(vectors.shape[1], count, niter=ITERATIONS, seed=seed, min_points_per_centroid=1)
    means.train(np.ascontiguousarray(vectors, np.float32))
    return np.asarray(means.centroids, np.float32)


def nearest_centre(vectors: Floats, centres: Floats) -> NDArray[np.int32]:
    """(n,) the number of the centre that each vector lies closest to, by Euclidean distance; ties to the lower one.

    >>> nearest_centre(np.float32([[0, 1], [5, 5]]), np.float32([[0, 0], [4, 4]])).tolist()
    [0, 1]
    """
    # |x - c|² = |x|² - 2⟨x, c⟩ + |c|², of which |x|² is the same for all centres.
    distances = (centres**2).sum(axis=1) - 2 * (vectors @ centres.T)
    return np.asarray(distances.argmin(axis=1), np.int32)
