"""Three ways to rank the same rows for one question: the encoder, real gradients on a shortlist, and shared words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
"""of a pool whose words are indexed for BM25"""


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

    one: str
    other: str
    overlap: int
    spearman: float | None
    rows: int


class Words:
    """BM25 over the pool (Robertson and Zaragoza, 2009; bm25s), indexed when it is first asked."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._made: Any = None

    @property
    def missing(self) -> str:
        """Why it cannot be asked; "" where it can."""
        if not is_installed("bm25s"):
            return f"Not installed: {pip_command('bm25s')}"
        if len(self.index) > MOST_ROWS:
            return f"The pool has more than {MOST_ROWS:,} rows, too many to index their words here."
        return ""

    def scores(self, text: str) -> Floats:
        """(n,) of every row for a text."""
        bm25s = optional("bm25s")
        if self._made is None:
            texts = [plain_text(one) for one in self.index.examples()]
            words = bm25s.tokenize(texts, stopwords=None, show_progress=False)
            made = bm25s.BM25() if words.vocab else None
            if made is not None:
                made.index(words, show_progress=False)
            self._made = made or False
        (asked,) = bm25s.tokenize([text], stopwords=None, return_ids=False, show_progress=False)
        if not self._made or not asked:
            return np.zeros(len(self.index), np.float32)
        return np.asarray(self._made.get_scores(list(asked)), np.float32)


def compare(answer: Answer, exactly: Mapping[int, float], words: Words) -> tuple[list[Column], list[Pair]]:
    """The methods' first rows, and how far each two agree. In the worker.

    Args:
        exactly: what real gradients say of some rows.
    """
    every = np.arange(len(answer.scores))
    known: list[tuple[str, str, NDArray[np.int64], Floats, str]] = [
        ("encoder", "estimate from the text", every, answer.scores, ""),
    ]
    checked = np.array(sorted(exactly), np.int64)
    exact = np.array([exactly[int(row)] for row in checked], np.float32)
    known.append(("exact", "real gradients, where re-checked", checked, exact, ""))
    missing = words.missing
    lexical = np.zeros(0, np.float32) if missing else words.scores(answer.text)
    known.append(("BM25", "shared words", every[: len(lexical)], lexical, missing))
    first = {name: _first(rows, scores) for name, _, rows, scores, _ in known}
    columns = [
        Column(
            name,
            about,
            rows=first[name],
            scores=[float(scores[np.searchsorted(rows, row)]) for row in first[name]],
            alone=set(first[name]) - {row for other, theirs in first.items() if other != name for row in theirs},
            missing=why,
        )
        for name, about, rows, scores, why in known
    ]
    pairs = [
        _pair((one, rows, scores), (other, others, their_scores), first)
        for number, (one, _, rows, scores, _) in enumerate(known)
        for other, _, others, their_scores, _ in known[number + 1 :]
        if len(rows) and len(others)
    ]
    return columns, pairs


def _first(rows: NDArray[np.int64], scores: Floats) -> list[int]:
    order = np.lexsort((rows, -scores))[:SHOWN]
    return [int(rows[place]) for place in order]


def _pair(
    one: tuple[str, NDArray[np.int64], Floats],
    other: tuple[str, NDArray[np.int64], Floats],
    first: Mapping[str, Sequence[int]],
) -> Pair:
    (name, rows, scores), (other_name, other_rows, other_scores) = one, other
    both = np.intersect1d(rows, other_rows)
    ours, theirs = (s[np.searchsorted(r, both)] for r, s in ((rows, scores), (other_rows, other_scores)))
    rho: float | None = None
    if len(both) > 2 and np.ptp(ours) > 0 and np.ptp(theirs) > 0:
        from scipy.stats import spearmanr

        rho = float(spearmanr(ours, theirs).statistic)
    overlap = len(set(first[name]) & set(first[other_name]))
    return Pair(name, other_name, overlap, rho, len(both))
