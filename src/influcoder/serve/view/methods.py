"""Three ways to rank the same rows for one question: the encoder, real gradients on a shortlist, and shared words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.data.examples import plain_text
from influcoder.extras import is_installed, optional, pip_command
from influcoder.indexes.index import Index
from influcoder.maths.arrays import Floats
from influcoder.serve.view.answers import Answer

SHOWN = 10
MOST_ROWS = 200_000
"""rows of a pool whose words are indexed for BM25, at most"""


@dataclass(frozen=True, slots=True)
class Column:
    """The best rows of one method.

    Attributes:
        rows, scores: of the first ten.
        alone: those of them that no other method has among its first ten.
        missing: why there are none.
    """

    name: str
    about: str
    rows: list[int]
    scores: list[float]
    alone: set[int]
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """How far two methods agree: rows that both have in their first ten, and Spearman's ρ over `rows` rows."""

    first: str
    second: str
    overlap: int
    spearman: float | None
    rows: int


class Words:
    """BM25 over the pool (Robertson and Zaragoza, 2009; bm25s), indexed at its first question."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._bm25: Any = None

    @property
    def missing(self) -> str:
        """Why it cannot be used; "" where it can."""
        if not is_installed("bm25s"):
            return f"Not installed: {pip_command('bm25s')}"
        if len(self.index) > MOST_ROWS:
            return f"The pool has more than {MOST_ROWS:,} rows, too many to index their words here."
        return ""

    def scores(self, text: str) -> Floats:
        """(n,) of every row for a text."""
        bm25s = optional("bm25s")
        if self._bm25 is None:
            texts = [plain_text(example) for example in self.index.examples()]
            words = bm25s.tokenize(texts, stopwords=None, show_progress=False)
            self._bm25 = bm25s.BM25() if words.vocab else False
            if self._bm25:
                self._bm25.index(words, show_progress=False)
        (query,) = bm25s.tokenize([text], stopwords=None, return_ids=False, show_progress=False)
        if not self._bm25 or not query:
            return np.zeros(len(self.index), np.float32)
        return np.asarray(self._bm25.get_scores(list(query)), np.float32)


def compare(answer: Answer, exact_scores: Mapping[int, float], words: Words) -> tuple[list[Column], list[Pair]]:
    """The methods' first rows, and how far each two agree. In the worker.

    Args:
        exact_scores: the scores of some rows by real gradients, by row number.
    """
    checked = np.array(sorted(exact_scores), np.int64)
    exact = np.array([exact_scores[int(row)] for row in checked], np.float32)
    missing = words.missing
    lexical = np.zeros(0, np.float32) if missing else words.scores(answer.text)
    rankings = [
        _Ranking("encoder", "estimate from the text", np.arange(len(answer.scores)), answer.scores),
        _Ranking("exact", "real gradients, where re-checked", checked, exact),
        _Ranking("BM25", "shared words", np.arange(len(lexical)), lexical, missing),
    ]
    return [_column(ranking, rankings) for ranking in rankings], [
        _pair(first, second) for first, second in combinations(rankings, 2) if len(first.rows) and len(second.rows)
    ]


@dataclass(frozen=True)
class _Ranking:
    """The rows that a method has scored, in order of their numbers."""

    name: str
    about: str
    rows: NDArray[np.int64]
    scores: Floats
    missing: str = ""

    @cached_property
    def first(self) -> list[int]:
        return [int(row) for row in self.rows[np.lexsort((self.rows, -self.scores))[:SHOWN]]]

    def scores_of(self, rows: Sequence[int] | NDArray[np.int64]) -> Floats:
        return self.scores[np.searchsorted(self.rows, rows)]


def _column(ranking: _Ranking, rankings: Sequence[_Ranking]) -> Column:
    alone = set(ranking.first).difference(*(other.first for other in rankings if other is not ranking))
    scores = ranking.scores_of(ranking.first).tolist()
    return Column(ranking.name, ranking.about, ranking.first, scores, alone, ranking.missing)


def _pair(first: _Ranking, second: _Ranking) -> Pair:
    common = np.intersect1d(first.rows, second.rows)
    pair = first.scores_of(common), second.scores_of(common)
    rho: float | None = None
    if len(common) > 2 and all(np.ptp(scores) > 0 for scores in pair):
        from scipy.stats import spearmanr

        rho = float(spearmanr(*pair).statistic)
    return Pair(first.name, second.name, len({*first.first} & {*second.first}), rho, len(common))
