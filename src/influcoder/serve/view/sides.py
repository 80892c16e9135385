"""Both sides of a question: the rows that raise the likelihood of its completion most, and those that lower it most."""

import numpy as np

from influcoder.indexes.index import Index
from influcoder.indexes.lance import LanceIndex
from influcoder.serve.view.answers import Answer
from influcoder.serve.view.cards import FETCHED, Card, Cards
from influcoder.serve.view.rows import Left, ends

Sides = dict[str, list[Card]]
"""cards under "proponents" and "opponents", the strongest first, near duplicates folded"""


def sides_of_scores(cards: Cards, answer: Answer, left: Left, shown: int) -> Sides:
    """The sides from the scores of all rows that pass; where few do, a row stands on only one side."""
    scores = answer.scores if left.mask is None else answer.scores[left.mask]
    limits = {"proponents": max(int((scores > 0).sum()), len(scores) - len(scores) // 2), "opponents": len(scores)}
    sides: Sides = {}
    shown_rows: set[int] = set()
    for (side, limit), numbers in zip(limits.items(), ends(answer, left, FETCHED * shown), strict=True):
        rows = np.array([row for row in numbers[:limit].tolist() if row not in shown_rows], np.int64)
        sides[side] = cards.folded(rows, answer.scores[rows], answer.ranks[rows], shown)
        shown_rows.update(rows[:shown].tolist())
    return sides


def sides_of_search(
    cards: Cards, answer: Answer, index: Index | LanceIndex, shown: int, where: str | None = None
) -> Sides:
    """The sides by the index's own search: of large pools, which it scans in a fraction of a second, and of LanceDB."""
    sides: Sides = {}
    ranked = index.search_both_sides(answer.vector[None], FETCHED * shown, where=where)
    for side, hits in zip(("proponents", "opponents"), ranked, strict=True):
        ranks = np.arange(1, len(hits.rows[0]) + 1)
        ranks = ranks if side == "proponents" else len(index) + 1 - ranks
        sides[side] = cards.folded(hits.rows[0], hits.scores[0], ranks, shown)
    return sides
