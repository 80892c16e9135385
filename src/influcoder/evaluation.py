"""Judge every method by the same harness: agreement with the truth, time and bytes, side by side.

Methods that must be fitted are fitted on the training split; everything is measured on queries and pool
examples of the test split, whose overlap with the others is counted and refused.
"""

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgWarning

from influcoder.baselines import Scorer, Scores
from influcoder.distill import Sample
from influcoder.encoder import Floats, InfluenceEncoder
from influcoder.errors import DataError
from influcoder.examples import Example, content_id
from influcoder.influence import SpectralTargets, cross_influence
from influcoder.metrics import agreement, agreement_with
from influcoder.teachers import Teacher


class EncoderScorer:
    """An encoder, both sides from text."""

    def __init__(self, name: str, encoder: InfluenceEncoder) -> None:
        self.name = name
        self.encoder = encoder
        self.bytes_per_example = 2 * encoder.dim

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        return self.encoder.encode_query(queries) @ self.encoder.encode_pool(pool).T


class ExactQueryScorer:
    """An encoder whose queries come from their real gradients."""

    def __init__(self, encoder: InfluenceEncoder, teacher: Teacher, name: str = "influcoder-exact-query") -> None:
        self.name = name
        self.encoder = encoder
        self.teacher = teacher
        self.bytes_per_example = 2 * encoder.dim

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        vectors = self.encoder.project_query(
            queries, self.teacher.features(queries, "query").refuse_rejected(queries).vectors
        )
        return vectors @ self.encoder.encode_pool(pool).T


class TeacherScorer:
    """A teacher itself; with another seed than the truth's it is the ceiling that noise sets."""

    def __init__(self, teacher: Teacher, name: str = "exact") -> None:
        self.name = name
        self.teacher = teacher
        self.bytes_per_example = teacher.bytes_per_example

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        return cross_influence(
            self.teacher.features(queries, "query").vectors, self.teacher.features(pool, "pool").vectors
        )


class Surface:
    """Kernel ridge from eight numbers anyone can count (lengths, newlines, digits, ...) to the spectral targets.

    A method that does not beat this one has not understood the texts.
    """

    name = "surface"

    def __init__(self, encoder: InfluenceEncoder, dim: int = 64) -> None:
        self.reader = encoder.reader
        self.dim = dim
        self.bytes_per_example = 2 * dim

    def fit(self, train: Sample, validation: Sample) -> "Surface":
        """Fit on one split; width and penalty of the kernel are chosen on the other, a side at a time."""
        targets = SpectralTargets.of(train.query_features, train.pool_features, self.dim)
        judge = agreement_with(validation.influence)
        exact_queries = validation.query_features @ targets.query_projector
        sides = {"query": (train.queries, targets.queries), "pool": (train.pool, targets.pool)}
        read = {role: self._read(examples) for role, (examples, _) in sides.items()}
        self._mean = {role: values.mean(axis=0) for role, values in read.items()}
        self._scale = {role: values.std(axis=0) + 1e-6 for role, values in read.items()}
        self._models: dict[str, Any] = {}
        self._models["pool"] = self._best(
            "pool", read["pool"], targets.pool, validation.pool, lambda x: judge(exact_queries @ x.T)
        )
        predicted = self._models["pool"].predict(self._scaled("pool", validation.pool))
        self._models["query"] = self._best(
            "query", read["query"], targets.queries, validation.queries, lambda x: judge(x @ predicted.T)
        )
        return self

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        sides = {"query": queries, "pool": pool}
        q, x = (self._models[role].predict(self._scaled(role, examples)) for role, examples in sides.items())
        return np.asarray(q @ x.T)

    def _best(self, role: str, read: Floats, targets: Floats, validation: Sequence[Example], judge: Any) -> Any:
        from sklearn.kernel_ridge import KernelRidge

        train, seen = (read - self._mean[role]) / self._scale[role], self._scaled(role, validation)
        with warnings.catch_warnings():
            # The weakest penalty is ill-conditioned with thousands of rows, and then not the one that is chosen.
            warnings.simplefilter("ignore", LinAlgWarning)
            models = [
                KernelRidge(kernel="rbf", gamma=gamma, alpha=alpha).fit(train, targets)
                for gamma in (0.01, 0.05, 0.2, 0.5)
                for alpha in (0.01, 0.1, 1.0, 10.0)
            ]
        return max(models, key=lambda model: judge(model.predict(seen)))

    def _scaled(self, role: str, examples: Sequence[Example]) -> Floats:
        return np.asarray((self._read(examples) - self._mean[role]) / self._scale[role])

    def _read(self, examples: Sequence[Example]) -> Floats:
        return self.reader.read(examples, ("surface",), ())[0]["surface"]


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


def normalised(example: Example) -> str:
    """A hash of prompt and completion without case and spacing."""
    return content_id(
        Example("", " ".join(example.prompt.lower().split()), " ".join(example.completion.lower().split()))
    )
