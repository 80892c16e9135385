"""Methods that score pool examples for queries: encoders, teachers, and the baselines they are compared with."""

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgWarning

from influcoder.data.examples import Example, plain_text
from influcoder.extras import is_installed, optional, pip_command
from influcoder.maths.arrays import Floats
from influcoder.maths.influence import SpectralTargets, cross_influence
from influcoder.maths.metrics import agreement_with
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.sample import Sample
from influcoder.teachers.teacher import Teacher

Scores = NDArray[np.floating[Any]]


class Scorer(Protocol):
    """Anything that scores pool examples for queries: teachers, students, baselines."""

    name: str
    bytes_per_example: int

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        """(n_queries, n_pool); higher pushes towards the query's completion."""
        ...


class EncoderScorer:
    """An encoder that reads queries and pool examples as text."""

    def __init__(self, name: str, encoder: InfluenceEncoder) -> None:
        self.name = name
        self.encoder = encoder
        self.bytes_per_example = 2 * encoder.dim

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        return self.encoder.encode_query(queries) @ self.encoder.encode_pool(pool).T


class ExactQueryScorer:
    """An encoder whose query vectors come from exact gradients."""

    def __init__(self, encoder: InfluenceEncoder, teacher: Teacher, name: str = "influcoder-exact-query") -> None:
        self.name = name
        self.encoder = encoder
        self.teacher = teacher
        self.bytes_per_example = 2 * encoder.dim

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        features = self.teacher.features(queries, "query").refuse_rejected(queries).vectors
        return self.encoder.project_query(queries, features) @ self.encoder.encode_pool(pool).T


class TeacherScorer:
    """A teacher itself; with another seed than the truth's it is the ceiling of every method."""

    def __init__(self, teacher: Teacher, name: str = "exact") -> None:
        self.name = name
        self.teacher = teacher
        self.bytes_per_example = teacher.code.bytes

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        return cross_influence(
            self.teacher.features(queries, "query").vectors, self.teacher.features(pool, "pool").vectors
        )


class Surface:
    """Kernel ridge from eight simple counts (lengths, newlines, digits, ...) to the spectral targets.

    A method that does not beat it makes no use of what the texts say.
    """

    name = "surface"

    def __init__(self, encoder: InfluenceEncoder, dim: int = 64) -> None:
        self.reader = encoder.reader
        self.dim = dim
        self.bytes_per_example = 2 * dim

    def fit(self, train: Sample, validation: Sample) -> "Surface":
        """Fit on one split; width and penalty of the kernel are chosen on the other, one role at a time."""
        targets = SpectralTargets.of(train.query_features, train.pool_features, self.dim)
        agreement = agreement_with(validation.influence)
        exact_queries = validation.query_features @ targets.query_projector
        features = {"query": self._read(train.queries), "pool": self._read(train.pool)}
        self._mean = {role: values.mean(axis=0) for role, values in features.items()}
        self._scale = {role: values.std(axis=0) + 1e-6 for role, values in features.items()}
        self._models: dict[str, Any] = {}
        self._models["pool"] = self._best(
            "pool", features["pool"], targets.pool, validation.pool, lambda x: agreement(exact_queries @ x.T)
        )
        predicted = self._models["pool"].predict(self._scaled("pool", validation.pool))
        self._models["query"] = self._best(
            "query", features["query"], targets.queries, validation.queries, lambda x: agreement(x @ predicted.T)
        )
        return self

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        predicted = self._models["query"].predict(self._scaled("query", queries))
        return np.asarray(predicted @ self._models["pool"].predict(self._scaled("pool", pool)).T)

    def _best(self, role: str, features: Floats, targets: Floats, validation: Sequence[Example], agreement: Any) -> Any:
        kernel_ridge = optional("sklearn.kernel_ridge").KernelRidge
        train, held_out = (features - self._mean[role]) / self._scale[role], self._scaled(role, validation)
        with warnings.catch_warnings():
            # The weakest penalty is ill-conditioned with thousands of rows, and is then not chosen.
            warnings.simplefilter("ignore", LinAlgWarning)
            models = [
                kernel_ridge(kernel="rbf", gamma=gamma, alpha=alpha).fit(train, targets)
                for gamma in (0.01, 0.05, 0.2, 0.5)
                for alpha in (0.01, 0.1, 1.0, 10.0)
            ]
        return max(models, key=lambda model: agreement(model.predict(held_out)))

    def _scaled(self, role: str, examples: Sequence[Example]) -> Floats:
        return np.asarray((self._read(examples) - self._mean[role]) / self._scale[role])

    def _read(self, examples: Sequence[Example]) -> Floats:
        return self.reader.read(examples, ("surface",), ())[0]["surface"]


class Random:
    """Noise: the scores of a method without information."""

    name = "random"
    bytes_per_example = 0

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        return np.random.default_rng(self.seed).standard_normal((len(queries), len(pool)))


class Tfidf:
    """Cosine of word TF-IDF vectors (scikit-learn's defaults, logarithmic counts)."""

    name = "tfidf"
    bytes_per_example = 0

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        vectorizer = optional("sklearn.feature_extraction.text").TfidfVectorizer(sublinear_tf=True)
        if not any(map(vectorizer.build_analyzer(), map(plain_text, pool))):
            return np.zeros((len(queries), len(pool)))
        documents = vectorizer.fit_transform(map(plain_text, pool))
        self.bytes_per_example = round((documents.data.nbytes + documents.indices.nbytes) / len(pool))
        return np.asarray((vectorizer.transform(map(plain_text, queries)) @ documents.T).todense())


class Bm25:
    """BM25 with its usual parameters (bm25s)."""

    name = "bm25"
    bytes_per_example = 0

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        bm25s = optional("bm25s")
        documents = bm25s.tokenize([plain_text(row) for row in pool], stopwords=None, show_progress=False)
        if not documents.vocab:
            return np.zeros((len(queries), len(pool)))
        index = bm25s.BM25()
        index.index(documents, show_progress=False)
        arrays = [array for array in index.scores.values() if hasattr(array, "nbytes")]
        self.bytes_per_example = round(sum(array.nbytes for array in arrays) / len(pool))
        texts = [plain_text(query) for query in queries]
        words = bm25s.tokenize(texts, stopwords=None, return_ids=False, show_progress=False)
        return np.stack([index.get_scores(list(text)) if text else np.zeros(len(pool)) for text in words])


def word_scorers(seed: int) -> tuple[list[Scorer], dict[str, str]]:
    """The scorers that read words alone, or nothing; and those left out, each with the command that installs it."""
    scorers: list[Scorer] = [Tfidf(), Random(seed)]
    return ([*scorers, Bm25()], {}) if is_installed("bm25s") else (scorers, {"bm25": pip_command("bm25s")})
