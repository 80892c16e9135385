"""Texts that are nearly the same, folded into one."""

from collections.abc import Sequence
from itertools import pairwise

from influcoder.attribution.words import words_of

ALIKE = 0.8
"""the share of their word pairs that two texts have in common, from which they count as the same"""


def fold_alike(texts: Sequence[str]) -> list[list[int]]:
    """The numbers of some texts in groups: each text stands with the first one that it is nearly the same as.

    By the Jaccard index of their pairs of neighbouring words (Broder, 1997).

    >>> fold_alike(["The cat sat on the mat today", "A dog", "the cat sat on the mat, today"])
    [[0, 2], [1]]
    """
    groups: list[list[int]] = []
    firsts: list[set[tuple[str, str]]] = []
    for number, text in enumerate(texts):
        words = ["", *words_of(text), ""]
        pairs = set(pairwise(words))
        for group, first in zip(groups, firsts, strict=True):
            if len(pairs & first) >= ALIKE * len(pairs | first):
                group.append(number)
                break
        else:
            groups.append([number])
            firsts.append(pairs)
    return groups
