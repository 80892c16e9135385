"""Which pool examples push the model towards a query's completion, and which push it away.

`search` asks the index; with `verify` it lets the teacher re-score the best candidates with real
gradients, which costs one gradient a candidate and gives near-teacher top ranks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.indexes.scan import Found
from influcoder.maths.arrays import Floats
from influcoder.student.encoder import InfluenceEncoder
from influcoder.teachers.teacher import Teacher


class Searchable(Protocol):
    """A pool that can be asked: an `Index`, or a `LanceIndex`."""

    @property
    def encoder(self) -> InfluenceEncoder:
        """What made it, for queries."""
        ...

    def search(self, queries: Floats, k: int, *, opponents: bool = ..., where: str | None = ...) -> Found:
        """The `k` best rows of each query, (n, dim)."""
        ...

    def search_approximately(self, queries: Floats, k: int, *, opponents: bool = ...) -> Found:
        """The same, faster and not always alike."""
        ...

    def example(self, row: int) -> Example:
        """The pool example of a row."""
        ...


@dataclass(frozen=True, slots=True)
class Hit:
    """A pool example and how strongly it acts on the query.

    Attributes:
        rank: 1 is the strongest.
        row: its place in the index.
        score: the encoder's estimate; above 0 raises the likelihood of the completion, below lowers it.
        exact: the teacher's influence where it was re-checked.
        example: the pool example.
    """

    rank: int
    row: int
    score: float
    exact: float | None
    example: Example


class Hits(list[Hit]):
    """The pool examples of one query, strongest first.

    Attributes:
        trust: the per-query Spearman ρ with the teacher that the encoder's ranking is expected to have, and the ends of
            the band that holds about four of five queries like it (`influcoder.student.trust`); None where it was not
            measured.
        query: what was asked.
    """

    def __init__(
        self, hits: Iterable[Hit], trust: tuple[float, float, float] | None = None, query: Example | None = None
    ) -> None:
        super().__init__(hits)
        self.trust = trust
        self.query = query


def search(
    index: Searchable,
    queries: Sequence[Example],
    *,
    k: int = 10,
    opponents: bool = False,
    verify: int = 0,
    teacher: Teacher | None = None,
    where: str | None = None,
    approximate: bool = False,
) -> list[Hits]:
    """The `k` strongest proponents (or opponents) of each query, strongest first.

    Args:
        where: look at rows whose metadata is like this alone, as `genre=code,tokens<200`.
        approximate: ask the IVF-PQ index that `influcoder index --approximate` made, not every row.
        verify: how many of the encoder's best candidates the teacher re-scores; 0 for none.
        teacher: the exact teacher; its query gradients are then used for the first pass as well.

    Raises:
        ConfigError: `verify` without a teacher, or fewer candidates than `k`; or `where` with `approximate`.
    """
    if where and approximate:
        raise ConfigError("--where scores the rows that it leaves, one by one: leave --approximate out.")
    if verify and teacher is None:
        raise ConfigError("verify needs the decoder whose gradients re-check the shortlist: give --decoder.")
    if verify and verify < k:
        raise ConfigError(f"verify is {verify}, expected at least k = {k} candidates.")
    features = None if teacher is None else teacher.features(queries, "query").refuse_rejected(queries).vectors
    vectors = query_vectors(index, queries, features)
    if approximate:
        found = index.search_approximately(vectors, max(k, verify), opponents=opponents)
    else:
        found = index.search(vectors, max(k, verify), opponents=opponents, where=where)
    exact = None
    if verify and teacher is not None and features is not None:
        exact = verified(index, teacher, features, found.rows)
    trust = _trust(index.encoder, vectors, features)
    return [
        Hits(_hits(index, found.rows[i], found.scores[i], None if exact is None else exact[i], k, opponents), *known)
        for i, known in enumerate(zip(trust, queries, strict=True))
    ]


def _trust(
    encoder: InfluenceEncoder, vectors: Floats, features: Floats | None
) -> Sequence[tuple[float, float, float] | None]:
    known = encoder.trust.get("text" if features is None or encoder.query_projector is None else "exact")
    if known is None:
        return [None] * len(vectors)
    return [(expected, low, high) for expected, low, high in known.expect(vectors).tolist()]


def query_vectors(index: Searchable, queries: Sequence[Example], features: Floats | None) -> Floats:
    """(n, dim) vectors to search with: from real gradients where the encoder can use them, else from text."""
    encoder = index.encoder
    if features is None or encoder.query_projector is None:
        return encoder.encode_query(queries)
    return encoder.project_query(queries, features)


def verified(index: Searchable, teacher: Teacher, query_features: Floats, rows: np.ndarray) -> Floats:
    """The teacher's influence of each shortlisted row on its query, (n_queries, shortlist).

    A row that several queries share costs one gradient.
    """
    wanted, places = np.unique(rows, return_inverse=True)
    shortlist = [index.example(int(row)) for row in wanted]
    features = teacher.features(shortlist, "pool").refuse_rejected(shortlist).vectors
    of_query = places.reshape(rows.shape)
    return np.stack([features[of_query[i]] @ query for i, query in enumerate(query_features)])


def _hits(
    index: Searchable, rows: np.ndarray, scores: Floats, exact: Floats | None, k: int, opponents: bool
) -> list[Hit]:
    order = np.arange(len(rows))
    if exact is not None:
        order = np.argsort(exact if opponents else -exact, kind="stable")
    return [
        Hit(
            rank,
            int(rows[i]),
            float(scores[i]),
            None if exact is None else float(exact[i]),
            index.example(int(rows[i])),
        )
        for rank, i in enumerate(order[:k], 1)
    ]
