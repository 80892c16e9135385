"""The mathematics of influence matrices: spectral targets and the projector for exact queries.

The influence of every training query on every training pool example is M = Φ_Q Φ_Pᵀ, features in
rows. It is nearly of low rank, so its truncated singular value decomposition M ≈ U S Vᵀ gives

    query targets U √S        pool targets V √S

whose inner products are the influences again: what a student has to predict from text, each text
supervised by *all* examples of the other side (the low rank of query gradients is that of GIST,
arXiv 2602.18584). A query whose real features φ are at hand needs no prediction:

    φ Φ_Pᵀ V / √S

are its coordinates among the pool targets; so are φ Φ_Qᵀ U / √S a pool example's among the query targets.
"""

from dataclasses import dataclass

import numpy as np

from influcoder.maths.arrays import Matrix


def cross_influence(queries: Matrix, pool: Matrix) -> Matrix:
    """M = Φ_Q Φ_Pᵀ, (n_queries, n_pool): higher pushes towards the query's completion, negative away."""
    return queries @ pool.T


@dataclass(frozen=True, slots=True)
class SpectralTargets:
    """Low-dimensional coordinates of a training sample whose inner products are its influences.

    Attributes:
        queries: (n_queries, dim) U √S.
        pool: (n_pool, dim) V √S.
        query_projector: (width, dim) Φ_Pᵀ V / √S; a query's features times this are its coordinates.
        pool_projector: (width, dim) Φ_Qᵀ U / √S; the same for a pool example's.

    >>> import numpy as np
    >>> features = np.eye(3, 8)
    >>> targets = SpectralTargets.of(features, features[:2], dim=2)
    >>> bool(np.allclose(targets.queries @ targets.pool.T, np.eye(3, 2)))
    True
    """

    queries: Matrix
    pool: Matrix
    query_projector: Matrix
    pool_projector: Matrix

    @classmethod
    def of(cls, queries: Matrix, pool: Matrix, dim: int) -> "SpectralTargets":
        """The targets of two sets of features, (n, width) each, in at most `dim` dimensions."""
        u, s, vt = np.linalg.svd(cross_influence(queries, pool), full_matrices=False)
        kept = min(dim, int((s > 1e-6 * s[0]).sum()))
        root = np.sqrt(s[:kept])
        left, right = u[:, :kept], vt[:kept].T
        return cls(left * root, right * root, pool.T @ (right / root), queries.T @ (left / root))
