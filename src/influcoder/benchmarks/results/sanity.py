"""Sanity checks of score matrices, (n_queries, n_pool), after quanda's (Bareeva et al. 2024, arXiv 2410.07158).

| check | what is asked |
|---|---|
| randomised | does the exact teacher's ranking die with the decoder's weights? mean per-query ρ between the two |
| hubness | how many different rows fill all queries' top tens, as a share of what could; near 0: always the same few |
| length | mean per-query ρ of the score with the completion's length: is it length that is ranked? |
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
    """Different rows in the queries' top k, as a share of the most there could be: 1 when no row comes twice.

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
    lengths = np.array([len(one.completion) for one in problem.pool])
    return {
        "randomised_rho": float(spearman_rows(scored[EXACT].scores, scored[SHUFFLED].scores).mean()),
        "methods": {
            name: {"hubness": hubness(one.scores), "length_rho": length_dependence(one.scores, lengths)}
            for name, one in scored.items()
        },
    }


def mean_sanity(checks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Their means over seeds."""
    return {
        "randomised_rho": float(np.mean([check["randomised_rho"] for check in checks])),
        "methods": means([check["methods"] for check in checks]),
    }
