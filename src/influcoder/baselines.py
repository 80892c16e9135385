"""The rivals that read words alone, behind the one protocol that every method is judged by."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from influcoder.examples import Example, plain_text

Scores = NDArray[np.floating[Any]]


class Scorer(Protocol):
    """Anything that scores pool examples for queries: teachers, students, baselines."""

    name: str
    bytes_per_example: int

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        """(n_queries, n_pool); higher pushes towards the query's completion."""
        ...


class Random:
    """Noise: what no information at all scores."""

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
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(sublinear_tf=True)
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
        import bm25s

        documents = bm25s.tokenize([plain_text(one) for one in pool], stopwords=None, show_progress=False)
        if not documents.vocab:
            return np.zeros((len(queries), len(pool)))
        index = bm25s.BM25()
        index.index(documents, show_progress=False)
        self.bytes_per_example = round(
            sum(part.nbytes for part in index.scores.values() if hasattr(part, "nbytes")) / len(pool)
        )
        words = bm25s.tokenize(
            [plain_text(one) for one in queries], stopwords=None, return_ids=False, show_progress=False
        )
        return np.stack([index.get_scores(list(each)) if each else np.zeros(len(pool)) for each in words])
