"""Has a model moved away from its encoder? A sequential test on a probe that grows until it can tell.

The agreement is the mean over queries of Spearman's ρ between the teacher's scores of the pool rows and the student's.
Queries and pool rows are both samples, so its standard error is a jackknife over both: the variances of leaving out one
query and one pool row at a time add up (Owen 2007, "The pigeonhole bootstrap", shows that such a sum errs on the safe
side).

The test is group-sequential: after each of the planned looks it may stop. Each look spends an equal share of the error
that is allowed (Lan & DeMets 1983), and shares add up by the union bound, which holds however the looks depend on each
other. The interval is of the level of one look, so that it holds at all of them (Jennison & Turnbull 1989, "repeated
confidence intervals").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from influcoder.maths.arrays import Matrix
from influcoder.maths.metrics import ranks, row_correlations

Verdict = Literal["stale", "fine"]
LEAST_QUERIES, LEAST_POOL = 4, 8
"""of a probe: fewer show no error to speak of"""
MOST_LEFT_OUT = 256
"""pool rows that are left out for the standard error, evenly spaced where there are more"""
AT_ONCE = 2**20
"""ranks that are held together while rows are left out"""
GROWTH = 1.6
"""how many times larger a probe is at the next look"""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a student ranks as its teacher does, and how surely that is known.

    Attributes:
        mean: over queries, of Spearman's ρ over the pool rows.
        error: its standard error.
        queries, pool: how many were compared.
    """

    mean: float
    error: float
    queries: int
    pool: int

    @classmethod
    def of(cls, truth: Matrix, scores: Matrix) -> "Agreement":
        """From (n_queries, n_pool) influences and estimates; at least `LEAST_QUERIES` and `LEAST_POOL`.

        >>> truth = np.random.default_rng(0).normal(size=(8, 16))
        >>> round(Agreement.of(truth, truth).mean, 6)
        1.0
        """
        both = ranks(truth), ranks(scores)
        each, (queries, pool) = row_correlations(*both), truth.shape
        places = np.unique(np.linspace(0, pool - 1, min(pool, MOST_LEFT_OUT)).astype(int))
        parts = np.array_split(places, -(-len(places) * truth.size // AT_ONCE))
        without = np.concatenate([_without(*both, part).mean(axis=0) for part in parts])
        variance = each.var(ddof=1) / queries + (pool - 1) * without.var()
        return cls(float(each.mean()), float(np.sqrt(variance)), queries, pool)

    def interval(self, error: float) -> tuple[float, float]:
        """A two-sided interval that misses with probability `error`; from -1 to 1."""
        reach = self._quantile(error / 2) * self.error
        return max(-1.0, self.mean - reach), min(1.0, self.mean + reach)

    def less(self, share: float, earlier: "Agreement", error: float) -> tuple[float, float]:
        """One-sided limits of mean - share · the earlier mean: each fails with probability `error`."""
        reach = self._quantile(error) * float(np.hypot(self.error, share * earlier.error))
        difference = self.mean - share * earlier.mean
        return difference - reach, difference + reach

    def _quantile(self, error: float) -> float:
        return float(stdtrit(min(self.queries, self.pool) - 1, 1 - error))


def _without(truth: Matrix, scores: Matrix, places: NDArray[np.int64]) -> Matrix:
    """(n_queries, places) correlations of two matrices of ranks in rows, each with one column left out.

    A rank falls by 1 where the column that leaves was lower, by a half where it was equal; their mean is known.
    """

    def centred(ranks: Matrix) -> Matrix:
        fallen = ranks[:, None] - 0.5 * np.sign(ranks[:, None] - ranks[:, places, None]) - (ranks.shape[1] + 1) / 2
        fallen[:, np.arange(len(places)), places] = 0
        return np.asarray(fallen)

    a, b = centred(truth), centred(scores)
    products, *norms = (np.einsum("qji,qji->qj", x, y) for x, y in ((a, b), (a, a), (b, b)))
    scale = np.sqrt(norms[0] * norms[1])
    return np.asarray(np.divide(products, scale, out=np.zeros_like(scale), where=scale > 1e-12))


@dataclass(frozen=True, slots=True)
class DriftTest:
    """When a probe says that an encoder is stale, and when that it is fine.

    Attributes:
        earlier: the agreement at distillation time.
        looks: how often the probe may be judged.
        tolerance: the share of that agreement that may be lost.
        false_alarm: probability of "stale" where nothing was lost.
        miss: probability of "fine" where the tolerance, or more, was lost.

    >>> test = DriftTest(Agreement(0.5, 0.01, 30, 90), looks=1)
    >>> test.judge(Agreement(0.1, 0.02, 30, 90)), test.judge(Agreement(0.5, 0.02, 30, 90))
    ('stale', 'fine')
    """

    earlier: Agreement
    looks: int
    tolerance: float = 0.25
    false_alarm: float = 0.05
    miss: float = 0.05

    @property
    def least(self) -> float:
        """The agreement below which an encoder is stale."""
        return (1 - self.tolerance) * self.earlier.mean

    def judge(self, now: Agreement) -> Verdict | None:
        """What one look says; None where it cannot tell yet.

        Stale: less than before beyond doubt, and below the tolerance by the best estimate. Fine: above the tolerance
        beyond doubt.
        """
        if now.less(1, self.earlier, self.false_alarm / self.looks)[1] < 0 and now.mean < self.least:
            return "stale"
        if now.less(1 - self.tolerance, self.earlier, self.miss / self.looks)[0] > 0:
            return "fine"
        return None

    def interval(self, now: Agreement) -> tuple[float, float]:
        """Of the agreement now: it holds at every look together with probability 95 %."""
        return now.interval(0.05 / self.looks)


def probe_sizes(queries: int, pool: int, budget: int) -> Sequence[tuple[int, int]]:
    """(queries, pool rows) of each look: from a few to all there are, or as many as the budget pays.

    A query's noise is smaller than a pool row's, so there are two pool rows to a query.

    >>> probe_sizes(100, 200, budget=120)
    [(12, 24), (19, 38), (31, 62), (40, 80)]
    """
    sizes, size = [], 12.0
    while True:
        asked = min(round(size), queries, max(LEAST_QUERIES, budget // 3))
        sizes.append((asked, min(2 * round(size), pool, budget - asked)))
        if round(size) >= max(queries, pool / 2) or 3 * round(size) >= budget:
            return sizes
        size *= GROWTH
