"""Answers as they go over the wire."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from influcoder.attribution import hits as attribution
from influcoder.data.examples import Example
from influcoder.indexes.index import Index
from influcoder.indexes.lance import LanceIndex
from influcoder.indexes.rows import matching
from influcoder.maths.arrays import Floats
from influcoder.maths.order import first
from influcoder.model.decoder import Decoder
from influcoder.serve.ranking import Ranking
from influcoder.serve.wire import (
    Agreement,
    Asked,
    Bound,
    Histogram,
    Hit,
    Provenance,
    Read,
    Row,
    ScoreAnswer,
    Scored,
    ScoredRow,
    ScoreRequest,
    SearchAnswer,
)
from influcoder.version import __version__


def asked(example: Example, own: bool, read: Read | None) -> Asked:
    """A question as it was attributed."""
    return Asked(id=example.id, prompt=example.prompt, completion=example.completion, own_answer=own, read=read)


def search(asked: Asked, proponents: attribution.Hits, opponents: attribution.Hits) -> SearchAnswer:
    """Both sides of a question."""
    trust = proponents.trust
    return SearchAnswer(
        question=asked,
        proponents=[_hit(hit) for hit in proponents],
        opponents=[_hit(hit) for hit in opponents],
        expected_agreement=None if trust is None else Agreement(rho=trust[0], low=trust[1], high=trust[2]),
        certified=_bound(proponents),
        certified_opponents=_bound(opponents),
    )


def score(index: Index | LanceIndex, asked: Asked, ranking: Ranking, request: ScoreRequest) -> ScoreAnswer:
    """The scores of all rows: how they are spread, those of some rows, and a page of rows in their order."""
    scores, ranked = ranking.scores, ranking.ranked
    counts, edges = np.histogram(scores, bins=request.bins) if len(scores) else (np.empty(0), np.empty(0))
    page, match_count = _page(index, scores, request)
    examples = dict(zip(page, index.examples_at(page), strict=True))
    return ScoreAnswer(
        question=asked,
        count=len(scores),
        mean=float(scores.mean()) if len(scores) else 0.0,
        positive=float((scores > 0).mean()) if len(scores) else 0.0,
        histogram=Histogram(edges=edges.tolist(), counts=counts.astype(int).tolist()),
        rows=[Scored(**_scored(row, scores, ranked)) for row in request.rows],
        listed=[ScoredRow(**_texts(example), **_scored(row, scores, ranked)) for row, example in examples.items()],
        matching=match_count,
    )


def row(number: int, example: Example) -> Row:
    """A row of the pool."""
    return Row(row=number, **_texts(example))


def read(shown: Mapping[str, Any]) -> Read:
    """What the decoder reads, of `influcoder.verbs.show`."""
    return Read(**{name: value for name, value in shown.items() if name not in ("id", "token_ids")})


def provenance(index: Index | LanceIndex, decoder: Decoder | None, answering: Decoder | None) -> Provenance:
    """What is served, and what made it."""
    encoder = index.encoder
    return Provenance(
        version=__version__,
        rows=len(index),
        dim=index.dim,
        index=index.folder.resolve().name,
        manifest=manifest_of(index),
        encoder=encoder.fingerprint,
        tier=encoder.tier,
        lance=isinstance(index, LanceIndex),
        decoder=None if decoder is None else decoder.name,
        answers_from=None if answering is None else answering.name,
        made_by=encoder.provenance.json(),
        measured=encoder.measured,
        filterable=index.filterable,
    )


def manifest_of(index: Index | LanceIndex) -> str:
    """The hash of an index's rows and of their provenance."""
    manifest = index.store.manifest["sha256"] if isinstance(index, Index) else index.record["manifest"]
    return str(manifest)


def _page(index: Index | LanceIndex, scores: Floats, request: ScoreRequest) -> tuple[list[int], int]:
    """The rows of the page, and how many match in all."""
    if request.order is None:
        return [], 0
    rows = matching(index, request.where, request.text)
    if request.least is not None:
        rows = rows[scores[rows] >= request.least]
    if request.most is not None:
        rows = rows[scores[rows] <= request.most]
    signed = scores[rows] if request.order == "highest" else -scores[rows]
    order = first(signed, request.offset + request.limit)[request.offset :]
    return rows[order].tolist(), len(rows)


def _scored(row: int, scores: Floats, ranked: Floats) -> dict[str, Any]:
    below = int(np.searchsorted(ranked, scores[row]))
    return {"row": row, "score": float(scores[row]), "percentile": 100 * below / max(len(ranked) - 1, 1)}


def _hit(hit: attribution.Hit) -> Hit:
    return Hit(row=hit.row, **_texts(hit.example), rank=hit.rank, score=hit.score, exact=hit.exact, **hit.shares())


def _bound(hits: attribution.Hits) -> Bound | None:
    return None if hits.certified is None else Bound(**asdict(hits.certified))


def _texts(example: Example) -> dict[str, Any]:
    return {
        "id": example.id,
        "prompt": example.prompt,
        "completion": example.completion,
        "turns": list(example.turns),
        "metadata": dict(example.metadata),
    }
