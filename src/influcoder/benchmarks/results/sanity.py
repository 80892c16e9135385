"""Sanity checks of score matrices, (n_queries, n_pool), after quanda's (Bareeva et al. 2024, arXiv 2410.07158).

| check | question |
|---|---|
| randomised | does the exact teacher's ranking change when the weights are shuffled? mean per-query ρ between the two |
| hubness | how many different rows are in the queries' top tens? a share of the most possible; near 0: the same few |
| length | does the method rank by length? mean per-query ρ of the score with the completion's length |
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from influcoder.benchmarks.corpora.problem import Problem
from influcoder.benchmarks.methods.registry import SHUFFLED
from influcoder.benchmarks.results.estimates import means
from influcoder.benchmarks.settings import EXACT
from influcoder.evaluation.evaluate import Scored
from influcoder.maths.arrays import Matrix
from influcoder.maths.metrics import spearman_rows

TOP = 10


def hubness(scores: Matrix, k: int = TOP) -> float:
    """Different rows in the queries' top k, as a share of the most possible: 1 when no row comes twice.

    >>> hubness(np.array([[0.9, 0.1, 0.2], [0.8, 0.3, 0.1]]), k=1)
    0.5
    """
    k = min(k, scores.shape[1])
    tops = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float(len(np.unique(tops)) / min(tops.size, scores.shape[1]))


def length_dependence(scores: Matrix, lengths: Matrix) -> float:
    """Mean per-query ρ of the score with the (n_pool,) lengths."""
    return float(spearman_rows(np.broadcast_to(lengths, scores.shape), scores).mean())


def sanity_of(scored: Mapping[str, Scored], problem: Problem) -> dict[str, Any]:
    """Every check of every method's scores of one seed."""
    lengths = np.array([len(row.completion) for row in problem.pool])
    return {
        "randomised_rho": float(spearman_rows(scored[EXACT].scores, scored[SHUFFLED].scores).mean()),
        "methods": {
            name: {"hubness": hubness(method.scores), "length_rho": length_dependence(method.scores, lengths)}
            for name, method in scored.items()
        },
    }


def mean_sanity(checks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The means of checks over seeds."""
    return {
        "randomised_rho": float(np.mean([check["randomised_rho"] for check in checks])),
        "methods": means([check["methods"] for check in checks]),
    }
