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
    """The sides where every row is scored and filters hold; where few rows are left, each stands on one side alone."""
    scores = answer.scores if left.mask is None else answer.scores[left.mask]
    limits = {"proponents": max(int((scores > 0).sum()), len(scores) - len(scores) // 2), "opponents": len(scores)}
    found: Sides = {}
    seen: set[int] = set()
    for (side, limit), numbers in zip(limits.items(), ends(answer, left, FETCHED * shown), strict=True):
        wanted = np.array([row for row in numbers[:limit].tolist() if row not in seen], np.int64)
        found[side] = cards.folded(wanted, answer.scores[wanted], answer.ranks[wanted], shown)
        seen.update(wanted[:shown].tolist())
    return found


def sides_of_search(
    cards: Cards, answer: Answer, index: Index | LanceIndex, shown: int, where: str | None = None
) -> Sides:
    """The sides by the index's own search: of large pools, which it scans in a fraction of a second, and of LanceDB."""
    found: Sides = {}
    both = index.search_both_sides(answer.vector[None], FETCHED * shown, where=where)
    for side, hits in zip(("proponents", "opponents"), both, strict=True):
        ranks = np.arange(1, len(hits.rows[0]) + 1)
        ranks = ranks if side == "proponents" else len(index) + 1 - ranks
        found[side] = cards.folded(hits.rows[0], hits.scores[0], ranks, shown)
    return found
