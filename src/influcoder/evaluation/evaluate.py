"""Evaluate every method in the same way: agreement with the truth, time and bytes, side by side.

Methods that must be fitted are fitted on the training split; everything is measured on queries and pool
examples of the test split, whose overlap with the others is refused.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.data.examples import Example, normalised
from influcoder.errors import DataError
from influcoder.evaluation.scorers import Scorer, Scores
from influcoder.maths.metrics import agreement


@dataclass(frozen=True, slots=True)
class Scored:
    """A method's scores, (n_queries, n_pool), and their cost.

    Attributes:
        seconds: time to score all queries and pool examples.
        bytes_per_example: size of a pool example on disk.
        learning_seconds: time for everything that was learnt beforehand.
        memory_mb: how much memory the process gained while scoring.
    """

    scores: Scores
    seconds: float
    bytes_per_example: int
    learning_seconds: float = 0.0
    memory_mb: float = 0.0

    def fidelity(
        self, truth: Scores, pool: Sequence[Example], rows: NDArray[np.int64] | slice = slice(None), *, seed: int = 0
    ) -> dict[str, Any]:
        """Agreement with the truth on some queries, all by default, and the cost; as written to `metrics.json`."""
        lengths = np.array([len(example.completion) for example in pool])
        return agreement(truth[rows], self.scores[rows], lengths, seed=seed) | {
            "ms_per_example": 1000 * self.seconds / sum(self.scores.shape),
            "bytes_per_example": self.bytes_per_example,
        }


def score(scorer: Scorer, queries: Sequence[Example], pool: Sequence[Example]) -> Scored:
    """A scorer's scores, and the time they took."""
    began = time.perf_counter()
    scores = np.asarray(scorer.score(queries, pool))
    return Scored(scores, time.perf_counter() - began, scorer.bytes_per_example)


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
    scored = {scorer.name: score(scorer, queries, pool) for scorer in scorers}
    measured = slice(None) if rows is None else rows
    methods = {name: method.fidelity(truth, pool, measured, seed=seed) for name, method in scored.items()}
    return methods, {name: method.scores for name, method in scored.items()}


def count_overlap(*splits: Sequence[Example], group: Callable[[Example], str] | None = None) -> int:
    """How many examples of a split are also in another, by id, by text, or by group: always 0, as any is refused.

    Args:
        group: what else two splits must not share: a request, a subject.

    Raises:
        DataError: some are; the message names one.
    """
    seen: dict[tuple[str, str], str] = {}
    for split in splits:
        of_split: dict[tuple[str, str], str] = {}
        for example in split:
            keys = {"id": example.id, "text": normalised(example)} | ({"group": group(example)} if group else {})
            for key in keys.items():
                if key in seen:
                    raise DataError(
                        f"{example.id!r} has the same {key[0]} as {seen[key]!r} of another split; "
                        "a number measured on a training example means nothing. Take one of them out."
                    )
                of_split[key] = example.id
        seen |= of_split
    return 0
