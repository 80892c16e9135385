"""Judge every method by the same harness: agreement with the truth, time and bytes, side by side.

Methods that must be fitted are fitted on the training split; everything is measured on queries and pool
examples of the test split, whose overlap with the others is counted and refused.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.data.examples import Example, normalised
from influcoder.errors import DataError
from influcoder.evaluation.scorers import Scorer, Scores
from influcoder.maths.metrics import agreement


def evaluate(
    scorers: Sequence[Scorer],
    truth: Scores,
    queries: Sequence[Example],
    pool: Sequence[Example],
    *,
    rows: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> tuple[dict[str, dict[str, Any]], dict[str, Scores]]:
    """(metrics by method, score matrices by method); the contract of `metrics.json`.

    `ms_per_example` is the time to score, over queries and pool examples together.

    Args:
        truth: (n_queries, n_pool) the teacher's influences.
        rows: the queries that agreement is measured on; all of them when omitted.
    """
    rows = np.arange(len(queries)) if rows is None else rows
    lengths = np.array([len(example.completion) for example in pool])
    methods: dict[str, dict[str, Any]] = {}
    matrices: dict[str, Scores] = {}
    for scorer in scorers:
        began = time.perf_counter()
        matrices[scorer.name] = scorer.score(queries, pool)
        elapsed = time.perf_counter() - began
        methods[scorer.name] = agreement(truth[rows], matrices[scorer.name][rows], lengths, seed=seed) | {
            "ms_per_example": 1000 * elapsed / (len(queries) + len(pool)),
            "bytes_per_example": scorer.bytes_per_example,
        }
    return methods, matrices


def count_overlap(*splits: Sequence[Example]) -> int:
    """How many examples of one split stand in another, by id or by text.

    Raises:
        DataError: any do; the message names one.
    """
    seen: dict[str, str] = {}
    for split in splits:
        mine: dict[str, str] = {}
        for example in split:
            for key in (f"id {example.id}", f"text {normalised(example)}"):
                if key in seen:
                    raise DataError(
                        f"{example.id!r} stands in two splits (also as {seen[key]!r}); "
                        "a number measured on a training example means nothing. Take it out of one."
                    )
                mine[key] = example.id
        seen |= mine
    return 0
