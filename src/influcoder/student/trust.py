"""How far to trust an answer: the agreement with the teacher that a query's ranking is expected to have.

On validation queries, which the student was not solved on while this was measured, the per-query Spearman ρ of student
and teacher is known. A query with a long vector is ranked better than one with a short vector, so ρ is regressed on the
logarithm of its length, where that predicts held-out queries better than their mean does. The band around it is made of
the residuals of held-out queries, the quantiles that conformal prediction takes (Vovk, Gammerman, Shafer 2005; left out
one by one, Barber et al. 2021): about `COVERED` of new queries of the same kind fall inside. Fewer than `LEAST_QUERIES`
have no such quantiles: then only the mean is given.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from influcoder.maths.arrays import Floats

COVERED = 0.8
LEAST_QUERIES = round(2 / (1 - COVERED)) - 1
"""of which one is left outside at each end"""


@dataclass(frozen=True, slots=True)
class Trust:
    """The expected agreement ρ of a query: level + slope · (ln length - centre), and the band around it.

    Attributes:
        low, high: added to the expectation for the ends of the band.

    >>> trust = Trust.fit(np.eye(9, dtype=np.float32), np.array([0.1, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.5]))
    >>> [f"{rho:.2f}" for rho in trust.expect(np.eye(1, 9, dtype=np.float32))[0]]
    ['0.30', '0.08', '0.52']
    """

    level: float
    slope: float
    centre: float
    low: float
    high: float

    @classmethod
    def fit(cls, vectors: Floats, agreements: NDArray[np.floating]) -> "Trust":
        """From validation queries' (n, dim) vectors and their (n,) agreements."""
        logs, n = _log_lengths(vectors), len(vectors)
        if n < LEAST_QUERIES:
            return cls(float(agreements.mean()), 0.0, float(logs.mean()), -2.0, 2.0)
        centred = logs - logs.mean()
        deviations = agreements - agreements.mean()
        spread = float((centred**2).sum())
        slope, residuals = 0.0, deviations * n / (n - 1)
        if spread > 1e-12:
            fitted_slope = float((centred * deviations).sum()) / spread
            leverage = 1 / n + centred**2 / spread
            fitted = (deviations - fitted_slope * centred) / np.maximum(1 - leverage, 1e-6)
            if (fitted**2).sum() < (residuals**2).sum():
                slope, residuals = fitted_slope, fitted
        low, high = _band(residuals)
        return cls(float(agreements.mean()), slope, float(logs.mean()), low, high)

    def expect(self, vectors: Floats) -> Floats:
        """(n, 3) expected agreement of each query, and the ends of its band; from -1 to 1."""
        middle = self.level + self.slope * (_log_lengths(vectors) - self.centre)
        return np.clip(np.stack([middle, middle + self.low, middle + self.high], axis=1), -1, 1).astype(np.float32)


def _log_lengths(vectors: Floats) -> NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(np.linalg.norm(vectors.astype(np.float64), axis=1), 1e-12)))


def _band(residuals: NDArray[np.floating]) -> tuple[float, float]:
    """The conformal quantiles of held-out residuals."""
    ordered, n = np.sort(residuals), len(residuals)
    outside = int(np.floor((1 - COVERED) / 2 * (n + 1) + 1e-9))
    return float(ordered[outside - 1]), float(ordered[n - outside])
