"""Which pool examples push the model towards a query's completion, and which push it away.

`search` asks the index; with `verify` it lets the teacher re-score the best candidates with real
gradients, which costs one gradient a candidate and gives near-teacher top ranks. What was re-scored can be lit
token by token (`influcoder.attribution.tokens`), and a random sample of the rest bounds what was missed
(`influcoder.attribution.certified`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.certified import Certified, draw_others
from influcoder.attribution.hits import Hit, Hits
from influcoder.attribution.recheck import Recheck
from influcoder.attribution.rechecked import Advance, Rechecked
from influcoder.attribution.searchable import Searchable
from influcoder.attribution.tokens import token_shares
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.indexes.scan import Ranked
from influcoder.maths.arrays import Floats
from influcoder.student.encoder import InfluenceEncoder
from influcoder.teachers.teacher import Teacher

Trust = tuple[float, float, float]
"""(expected agreement, and the ends of its band): see `Hits.trust`"""


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
        where: look only at rows whose metadata meets this, such as `genre=code,tokens<200`.
        approximate: ask the IVF-PQ index that `influcoder index --approximate` made, not every row.
        verify: how many of the encoder's best candidates the teacher re-scores; 0 for none.
        certify: how many random other rows it scores as well, the same for all queries, to bound how many of
            them belong among the hits; 0 for none.
        tokens: give the share of each token of the hits' completions, and of the queries', in the exact scores.
        teacher: the exact teacher; its query gradients are then used for the first pass as well.

    Raises:
        ConfigError: `verify` without a teacher, or fewer candidates than `k`; `certify` or `tokens` without `verify`;
            `tokens` of a teacher that has no shares; or `where` with `approximate`.
    """
    if where and approximate:
        raise ConfigError("--where scores the rows that it leaves, one by one: leave --approximate out.")
    recheck = Recheck(verify, certify, tokens)
    return _search(index, queries, (opponents,), k, recheck, teacher, where=where, approximate=approximate)[0]


def search_both_sides(
    index: Searchable,
    queries: Sequence[Example],
    *,
    k: int = 10,
    recheck: Recheck = Recheck(),  # noqa: B008 - frozen
    teacher: Teacher | None = None,
    where: str | None = None,
    advance: Advance | None = None,
) -> tuple[list[Hits], list[Hits]]:
    """Proponents and opponents of each query, as two calls of `search` find them; no gradient is taken twice.

    Args:
        advance: called with how many rows have been re-checked, and how many there are, after every few of them.

    Raises:
        ConfigError: as of `search`.
    """
    proponents, opponents = _search(index, queries, (False, True), k, recheck, teacher, where=where, advance=advance)
    return proponents, opponents


def _search(
    index: Searchable,
    queries: Sequence[Example],
    sides: Sequence[bool],
    k: int,
    recheck: Recheck,
    teacher: Teacher | None,
    *,
    where: str | None = None,
    approximate: bool = False,
    advance: Advance | None = None,
) -> list[list[Hits]]:
    """The hits of each query on each side, of opponents where it is True."""
    recheck.refuse_impossible(k, None if teacher is None else teacher.settings)
    features = None if teacher is None else teacher.features(queries, "query").refuse_rejected(queries).vectors
    vectors = query_vectors(index, queries, features)
    count = max(k, recheck.verify)
    if approximate:
        ranked = [index.search_approximately(vectors, count, opponents=opponents) for opponents in sides]
    elif len(sides) > 1:
        ranked = list(index.search_both_sides(vectors, count, where=where))
    else:
        ranked = [index.search(vectors, count, opponents=sides[0], where=where)]
    trust = expected_agreement(index.encoder, vectors, features)
    if not recheck.verify or teacher is None or features is None:
        return _estimated(index, ranked, queries, trust)
    pool = _rows(index, vectors, where) if recheck.certify else np.empty(0, np.int64)
    samples = [draw_others(pool, list(best.rows), recheck.certify) for best in ranked]
    to_check = [rows for best, sample in zip(ranked, samples, strict=True) for rows in (best.rows.ravel(), *sample)]
    rechecked = Rechecked.of(index, teacher, np.concatenate(to_check), advance)
    examples = rechecked.examples
    answers: list[list[Hits]] = []
    for opponents, best, sample in zip(sides, ranked, samples, strict=True):
        answers.append([])
        for i, query in enumerate(queries):
            exact = rechecked.scores(features[i], best.rows[i])
            hits = Hits(_hits(examples, best.rows[i], best.scores[i], exact, k, opponents), trust[i], query)
            hits.memorised = frozenset(hit.example.id for hit in hits if rechecked.is_memorised(hit.row))
            if recheck.certify and hits:
                last, unchecked = hits[-1].exact or 0.0, len(pool) - len(best.rows[i])
                scores = rechecked.scores(features[i], sample[i])
                hits.certified = Certified.of(scores, last, unchecked, opponents=opponents)
            answers[-1].append(hits)
    if recheck.tokens:
        _add_token_shares(answers, teacher, queries, features, rechecked)
    return answers


def search_vectors(
    index: Searchable,
    queries: Sequence[Example],
    vectors: Floats,
    trust: Sequence[Trust | None],
    *,
    k: int = 10,
    where: str | None = None,
) -> tuple[list[Hits], list[Hits]]:
    """Proponents and opponents of queries whose vectors, (n, dim), and expected agreement are known already."""
    ranked = index.search_both_sides(vectors, k, where=where)
    proponents, opponents = _estimated(index, ranked, queries, trust)
    return proponents, opponents


def _estimated(
    index: Searchable, ranked: Sequence[Ranked], queries: Sequence[Example], trust: Sequence[Trust | None]
) -> list[list[Hits]]:
    """The hits of each query on each side by the encoder alone; a row's text is read once."""
    rows = np.unique(np.concatenate([side.rows.ravel() for side in ranked]))
    examples = dict(zip(rows.tolist(), index.examples_at(rows), strict=True))
    return [
        [
            Hits(_hits(examples, rows, scores, None, len(rows), False), expected, query)
            for rows, scores, expected, query in zip(side.rows, side.scores, trust, queries, strict=True)
        ]
        for side in ranked
    ]


def _rows(index: Searchable, queries: Floats, where: str | None) -> NDArray[np.int64]:
    """The rows that can be found at all, in order."""
    if where is None:
        return np.arange(len(index))
    return np.sort(index.search(queries[:1], len(index), where=where).rows[0])


def expected_agreement(encoder: InfluenceEncoder, vectors: Floats, features: Floats | None) -> Sequence[Trust | None]:
    """How well each query's ranking, of (n, dim) vectors, is expected to agree with the teacher's: see `Hits.trust`."""
    known = encoder.trust.get("text" if features is None or encoder.query_projector is None else "exact")
    if known is None:
        return [None] * len(vectors)
    return [(expected, low, high) for expected, low, high in known.expect(vectors).tolist()]


def asked_vectors(index: Searchable, queries: Sequence[Example], teacher: Teacher | None) -> Floats:
    """(n, dim) vectors to search with: from gradients that a teacher takes, without one from text.

    Raises:
        DataError: a query has no gradient.
    """
    features = None if teacher is None else teacher.features(queries, "query").refuse_rejected(queries).vectors
    return query_vectors(index, queries, features)


def query_vectors(index: Searchable, queries: Sequence[Example], features: Floats | None) -> Floats:
    """(n, dim) vectors to search with: from real gradients where the encoder can use them, else from text."""
    encoder = index.encoder
    if features is None or encoder.query_projector is None:
        return encoder.encode_query(queries)
    return encoder.project_query(queries, features)


def _add_token_shares(
    sides: Sequence[Sequence[Hits]],
    teacher: Teacher,
    queries: Sequence[Example],
    features: Floats,
    rechecked: Rechecked,
) -> None:
    """Give every hit the shares of its tokens and of its query's; both of an example's gradients are taken once."""
    lists_of_queries = list(zip(*sides, strict=True))
    hits_of_queries = [[hit for hits in lists for hit in hits] for lists in lists_of_queries]
    queries_of_row: dict[int, list[int]] = {}
    examples: dict[int, Example] = {}
    for number, hits in enumerate(hits_of_queries):
        for hit in hits:
            queries_of_row.setdefault(hit.row, []).append(number)
            examples[hit.row] = hit.example
    features_of_rows = [features[numbers] for numbers in queries_of_row.values()]
    of_rows = token_shares(teacher, list(examples.values()), "pool", features_of_rows)
    row_shares = {
        (row, number): shares
        for (row, numbers), of_row in zip(queries_of_row.items(), of_rows, strict=True)
        for number, shares in zip(numbers, of_row, strict=True)
    }
    of_hits = [rechecked.features_of([hit.row for hit in hits]) for hits in hits_of_queries]
    of_answers = token_shares(teacher, queries, "query", of_hits)
    for number, of_answer in enumerate(of_answers):
        shares = iter(of_answer)
        for hits in lists_of_queries[number]:
            hits[:] = [replace(hit, tokens=row_shares[hit.row, number], answer_tokens=next(shares)) for hit in hits]


def _hits(
    examples: Mapping[int, Example], rows: np.ndarray, scores: Floats, exact: Floats | None, k: int, opponents: bool
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
            examples[int(rows[i])],
        )
        for rank, i in enumerate(order[:k], 1)
    ]
