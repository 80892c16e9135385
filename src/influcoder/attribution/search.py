"""Which pool examples push the model towards a query's completion, and which push it away.

`search` asks the index; with `verify` it lets the teacher re-score the best candidates with real
gradients, which costs one gradient a candidate and gives near-teacher top ranks. What was re-scored can be lit
token by token (`influcoder.attribution.tokens`), and a random sample of the rest bounds what was missed
(`influcoder.attribution.certified`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.certified import Certified, draw_others
from influcoder.attribution.tokens import TokenShares, token_shares
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.indexes.scan import Found
from influcoder.maths.arrays import Floats
from influcoder.student.encoder import InfluenceEncoder
from influcoder.teachers.settings import refuse_no_token_shares
from influcoder.teachers.teacher import Teacher


class Searchable(Protocol):
    """A pool that can be asked: an `Index`, or a `LanceIndex`."""

    def __len__(self) -> int:
        """How many rows it has."""
        ...

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
        tokens: with `tokens`, the texts of its completion's tokens and the share that each has of `exact`.
        answer_tokens: the same of the query's completion: which of its tokens the row makes more likely, above 0, or
            less.
    """

    rank: int
    row: int
    score: float
    exact: float | None
    example: Example
    tokens: TokenShares | None = None
    answer_tokens: TokenShares | None = None


class Hits(list[Hit]):
    """The pool examples of one query, strongest first.

    Attributes:
        trust: the per-query Spearman ρ with the teacher that the encoder's ranking is expected to have, and the ends of
            the band that holds about four of five queries like it (`influcoder.student.trust`); None where it was not
            measured.
        query: what was asked.
        certified: with `certify`, how many rows that were not re-checked can score above the last one here.
    """

    def __init__(
        self,
        hits: Iterable[Hit],
        trust: tuple[float, float, float] | None = None,
        query: Example | None = None,
        certified: Certified | None = None,
    ) -> None:
        super().__init__(hits)
        self.trust = trust
        self.query = query
        self.certified = certified


def search(
    index: Searchable,
    queries: Sequence[Example],
    *,
    k: int = 10,
    opponents: bool = False,
    verify: int = 0,
    certify: int = 0,
    tokens: bool = False,
    teacher: Teacher | None = None,
    where: str | None = None,
    approximate: bool = False,
) -> list[Hits]:
    """The `k` strongest proponents (or opponents) of each query, strongest first.

    Args:
        where: look at rows whose metadata is like this alone, as `genre=code,tokens<200`.
        approximate: ask the IVF-PQ index that `influcoder index --approximate` made, not every row.
        verify: how many of the encoder's best candidates the teacher re-scores; 0 for none.
        certify: how many random rows of the others it scores as well, the same for all queries, to bound how many of
            them belong among the hits; 0 for none.
        tokens: tell the share of each token of the hits' completions, and of the queries', in the exact scores.
        teacher: the exact teacher; its query gradients are then used for the first pass as well.

    Raises:
        ConfigError: `verify` without a teacher, or fewer candidates than `k`; `certify` or `tokens` without `verify`;
            `tokens` of a teacher that has no shares; or `where` with `approximate`.
    """
    if where and approximate:
        raise ConfigError("--where scores the rows that it leaves, one by one: leave --approximate out.")
    _refuse_no_recheck(k, verify, certify, tokens, teacher)
    features = None if teacher is None else teacher.features(queries, "query").refuse_rejected(queries).vectors
    vectors = query_vectors(index, queries, features)
    if approximate:
        found = index.search_approximately(vectors, max(k, verify), opponents=opponents)
    else:
        found = index.search(vectors, max(k, verify), opponents=opponents, where=where)
    trust = _trust(index.encoder, vectors, features)
    if not verify or teacher is None or features is None:
        return [
            Hits(_hits(index, found.rows[i], found.scores[i], None, k, opponents), *known)
            for i, known in enumerate(zip(trust, queries, strict=True))
        ]
    pool = _rows(index, vectors, where) if certify else np.empty(0, np.int64)
    others = draw_others(pool, list(found.rows), certify)
    rechecked = Rechecked.of(index, teacher, np.concatenate([found.rows.ravel(), *others]))
    answers = []
    for i, query in enumerate(queries):
        exact = rechecked.scores(features[i], found.rows[i])
        hits = Hits(_hits(index, found.rows[i], found.scores[i], exact, k, opponents), trust[i], query)
        if certify and hits:
            last, rest = hits[-1].exact or 0.0, len(pool) - len(found.rows[i])
            scores = rechecked.scores(features[i], others[i])
            hits.certified = Certified.of(scores, last, rest, opponents=opponents)
        answers.append(hits)
    if tokens:
        _tell_tokens(answers, teacher, queries, features, rechecked)
    return answers


def _refuse_no_recheck(k: int, verify: int, certify: int, tokens: bool, teacher: Teacher | None) -> None:
    if (certify or tokens) and not verify:
        what = "--tokens tells the tokens of rows" if tokens else "--certify bounds what is missed by a list of rows"
        raise ConfigError(f"{what} that real gradients re-check: give --verify N and --decoder as well.")
    if verify and teacher is None:
        raise ConfigError("verify needs the decoder whose gradients re-check the shortlist: give --decoder.")
    if verify and verify < k:
        raise ConfigError(f"verify is {verify}, expected at least k = {k} candidates.")
    if certify < 0:
        raise ConfigError(f"certify is {certify}, expected at least 1 row, or 0 for none.")
    if tokens and teacher is not None:
        refuse_no_token_shares(teacher.settings)


def _rows(index: Searchable, queries: Floats, where: str | None) -> NDArray[np.int64]:
    """The rows that can be found at all, in order."""
    if where is None:
        return np.arange(len(index))
    return np.sort(index.search(queries[:1], len(index), where=where).rows[0])


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


@dataclass(frozen=True, slots=True)
class Rechecked:
    """Pool rows with the teacher's features of each; a row that several queries share costs one gradient.

    Attributes:
        rows: (m,) in order, each once.
        features: (m, dim).
    """

    rows: NDArray[np.int64]
    features: Floats

    @classmethod
    def of(cls, index: Searchable, teacher: Teacher, rows: NDArray[np.int64]) -> "Rechecked":
        """Some rows of an index, in any order and as often as they are wanted."""
        wanted = np.unique(rows)
        examples = [index.example(int(row)) for row in wanted]
        return cls(wanted, teacher.features(examples, "pool").refuse_rejected(examples).vectors)

    def features_of(self, rows: NDArray[np.int64] | Sequence[int]) -> Floats:
        """(n, dim) of some of them."""
        return self.features[np.searchsorted(self.rows, rows)]

    def scores(self, query: Floats, rows: NDArray[np.int64]) -> Floats:
        """(n,) the teacher's influence of some of them on a query, from its features, (dim,)."""
        return self.features_of(rows) @ query


def _tell_tokens(
    answers: Sequence[Hits], teacher: Teacher, queries: Sequence[Example], features: Floats, rechecked: Rechecked
) -> None:
    """Give every hit the shares of its tokens and of its query's; both of an example's gradients are taken once."""
    asked: dict[int, list[int]] = {}
    examples: dict[int, Example] = {}
    for number, hits in enumerate(answers):
        for hit in hits:
            asked.setdefault(hit.row, []).append(number)
            examples[hit.row] = hit.example
    of_rows = token_shares(teacher, list(examples.values()), "pool", [features[numbers] for numbers in asked.values()])
    told = {
        (row, number): shares
        for (row, numbers), of_row in zip(asked.items(), of_rows, strict=True)
        for number, shares in zip(numbers, of_row, strict=True)
    }
    of_hits = [rechecked.features_of([hit.row for hit in hits]) for hits in answers]
    of_answers = token_shares(teacher, queries, "query", of_hits)
    for number, (hits, of_answer) in enumerate(zip(answers, of_answers, strict=True)):
        hits[:] = [
            replace(hit, tokens=told[hit.row, number], answer_tokens=shares)
            for hit, shares in zip(hits, of_answer, strict=True)
        ]


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
