"""What a search finds for a query: pool examples, how strongly they act, and how far to trust it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from influcoder.attribution.certified import Certified
from influcoder.attribution.tokens import TokenShares
from influcoder.data.examples import Example


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

    def json(self) -> dict[str, Any]:
        """Rank, scores and texts, ready for JSON, and the shares of tokens where they were asked for."""
        record = {"rank": self.rank, "id": self.example.id, "score": self.score, "exact": self.exact}
        record |= {"prompt": self.example.prompt, "completion": self.example.completion}
        return record | self.shares()

    def shares(self) -> dict[str, Any]:
        """The shares of its tokens, ready for JSON: [[text, share], ...]; nothing where they were not asked for."""
        shares = {"tokens": self.tokens, "answer_tokens": self.answer_tokens}
        return {name: [list(pair) for pair in pairs] for name, pairs in shares.items() if pairs is not None}


class Hits(list[Hit]):
    """The pool examples of one query, strongest first.

    Attributes:
        trust: the per-query Spearman ρ with the teacher that the encoder's ranking is expected to have, and the ends of
            the band that holds about four of five queries like it (`influcoder.student.trust`); None where it was not
            measured.
        query: what was asked.
        certified: with `certify`, how many rows that were not re-checked can score above the last one here.
        memorised: ids of rows here that the model has memorised, whose gradients are mostly noise
            (`influcoder.teachers.memorised`); None where nothing was re-checked.
        drift: what the last `influcoder drift` said of the index's encoder, if there was one.
    """

    def __init__(
        self,
        hits: Iterable[Hit],
        trust: tuple[float, float, float] | None = None,
        query: Example | None = None,
        certified: Certified | None = None,
        memorised: frozenset[str] | None = None,
        drift: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(hits)
        self.trust = trust
        self.query = query
        self.certified = certified
        self.memorised = memorised
        self.drift = drift

    def json(self) -> dict[str, Any]:
        """The hits, how far to trust them and what was certified, ready for JSON."""
        return {
            "expected_agreement": dict(zip(("rho", "low", "high"), self.trust, strict=True)) if self.trust else None,
            "certified": None if self.certified is None else asdict(self.certified),
            "memorised": None if self.memorised is None else sorted(self.memorised),
            "hits": [hit.json() for hit in self],
        } | ({} if self.drift is None else {"drift": dict(self.drift)})
