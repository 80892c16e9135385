"""Rows as cards: how strongly each acts, why, and its text with the words that it shares with the question."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.near_duplicates import fold_alike
from influcoder.attribution.words import shared_phrases
from influcoder.data.examples import Example
from influcoder.errors import InflucoderError
from influcoder.maths.arrays import Floats
from influcoder.model.decoder import Decoder
from influcoder.report.numbers import sign_of
from influcoder.report.tokens import Lit
from influcoder.serve.view.answers import Answer
from influcoder.serve.view.exact import Exact
from influcoder.serve.view.pool import PoolPicture

SOURCES = ("source", "dataset", "origin", "url", "file", "kind", "genre")
"""names of metadata that say where a row comes from, the best first"""
FETCHED = 3
"""rows read for each that is shown, since near duplicates are folded"""
_CODE = re.compile(
    r"```|^\s*(?:def |class |import |from \w+ import|#include|function |const |let |var |public )|[;{}]\s*$",
    re.MULTILINE,
)
Rows = NDArray[np.integer[Any]]
Segment = tuple[str, str]
"""(text, kind): a "phrase" that stands in the question too, a "word" of the chips, or ""."""


@dataclass(frozen=True, slots=True)
class Card:
    """A row as the page shows it.

    Attributes:
        number: its place in the index.
        rank: among all rows, 1 for the highest score.
        percentile: 100 for the highest score.
        score, exact: the encoder's estimate, and the score by real gradients if there is one.
        sign: "up", "down" or "zero": which way it pushes.
        inside: whether the score lies within the band of unrelated questions.
        source: where it comes from, if its metadata say so.
        size: tokens or characters, in words.
        chips: rare words that it shares with the question.
        prompt, completion: their texts in segments.
        code: whether the text is code.
        alike: near duplicates that are folded into it.
        lit: its completion's tokens, and those of the answer, where they were asked for.
        mark: what the user decided about it.
    """

    number: int
    id: str
    rank: int
    percentile: float
    score: float
    exact: float | None
    sign: str
    inside: bool
    source: str
    size: str
    chips: list[str]
    prompt: list[Segment]
    completion: list[Segment]
    code: bool
    metadata: dict[str, Any]
    turns: list[tuple[str, str]]
    alike: "list[Card]"
    lit: tuple[list[Lit], list[Lit]] | None = None
    mark: str = ""


class Cards:
    """Makes cards of rows, for one answer.

    Args:
        pool: None where the rows are in LanceDB.
        marks: what the user decided about rows, by row number.
        exact: the results of real gradients.
    """

    def __init__(
        self,
        answer: Answer | None,
        index: Any,
        pool: PoolPicture | None,
        decoder: Decoder | None,
        marks: dict[int, str] | None = None,
        exact: Exact | None = None,
    ) -> None:
        self.answer, self.index, self.pool, self.decoder = answer, index, pool, decoder
        self.marks = marks or {}
        self.exact = exact or Exact()
        self.band = answer.band(pool) if answer and pool else None

    def of(self, rows: Rows, scores: Floats, ranks: Rows) -> list[Card]:
        """The cards of some rows, in their order."""
        examples = self.index.examples_at(rows)
        sizes = self._sizes(examples)
        return [
            self._card(int(row), example, float(score), int(rank), size)
            for row, example, score, rank, size in zip(rows, examples, scores, ranks, sizes, strict=True)
        ]

    def folded(self, rows: Rows, scores: Floats, ranks: Rows, shown: int) -> list[Card]:
        """The same, `shown` at most, with near duplicates folded into the first of them."""
        cards = self.of(rows, scores, ranks)
        texts = ["".join(text for text, _ in (*card.prompt, ("\n", ""), *card.completion)) for card in cards]
        groups = fold_alike(texts)[:shown]
        for first, *duplicates in groups:
            cards[first].alike.extend(cards[number] for number in duplicates)
        return [cards[group[0]] for group in groups]

    def _card(self, row: int, example: Example, score: float, rank: int, size: str) -> Card:
        question = self.answer.text if self.answer else ""
        text = f"{example.prompt} {example.completion}"
        rarity = self.pool.rarity if self.pool else None
        chips = rarity.shared(question, text) if rarity and question else []
        exact = self.exact.scores.get(row)
        metadata = dict(example.metadata)
        source = next((str(metadata[name]) for name in SOURCES if isinstance(metadata.get(name), str)), "")
        last = max(len(self.index) - 1, 1)
        return Card(
            number=row,
            id=example.id,
            rank=rank,
            percentile=100 * (len(self.index) - rank) / last,
            score=score,
            exact=exact,
            sign=sign_of(score if exact is None else exact),
            inside=exact is None and self.band is not None and self.band[0] <= score <= self.band[1],
            source=source,
            size=size,
            chips=chips,
            prompt=segments(example.prompt, question, chips),
            completion=segments(example.completion, question, chips),
            code=bool(_CODE.search(example.completion)),
            metadata=metadata,
            turns=list(example.turns[:-1]),
            alike=[],
            lit=self.exact.lit.get(row),
            mark=self.marks.get(row, ""),
        )

    def _sizes(self, examples: Sequence[Example]) -> list[str]:
        """Tokens where there is a decoder that reads them, otherwise characters."""
        if self.decoder is not None:
            try:
                return [f"{len(example.ids):,} tokens" for example in self.decoder.tokenise(examples)]
            except InflucoderError:
                pass
        return [f"{len(example.prompt) + len(example.completion):,} characters" for example in examples]


def segments(text: str, question: str, chips: Sequence[str]) -> list[Segment]:
    """A text cut where it repeats phrases of the question, or words of the chips.

    >>> segments("Ada was born in Genoa.", "Who was born in Genoa?", ["ada"])
    [('Ada', 'word'), (' ', ''), ('was born in Genoa', 'phrase'), ('.', '')]
    """
    phrases = shared_phrases(question, text, 3)
    spans = [(start, stop, "phrase") for start, stop in phrases]
    if chips:
        words = re.compile(rf"\b(?:{'|'.join(map(re.escape, chips))})\b", re.IGNORECASE)
        for match in words.finditer(text):
            if not any(start < match.end() and match.start() < stop for start, stop in phrases):
                spans.append((*match.span(), "word"))
    pieces, place = [], 0
    for start, stop, kind in sorted(spans):
        pieces += [(text[place:start], ""), (text[start:stop], kind)]
        place = stop
    return [piece for piece in [*pieces, (text[place:], "")] if piece[0]]
