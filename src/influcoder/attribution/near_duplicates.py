"""Texts that say nearly the same, found by MinHash (Broder 1997), as training data are cleaned (Lee et al. 2022).

A text is the set of its runs of three words. Each of `HASHES` hash functions keeps its smallest value over the set; the
share of values that two texts have in common estimates the Jaccard similarity of their sets, to about .06.
"""

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.words import words_of
from influcoder.errors import ConfigError

HASHES = 64
ALIKE = 0.8
"""the similarity from which on shown texts count as the same"""
BAND = 4
"""values that two texts share in a row before they are compared at all"""
WORDS = 3

_RANDOM = np.random.default_rng(0)
_FACTORS = _RANDOM.integers(1, 2**63, HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_SHIFTS = _RANDOM.integers(0, 2**63, HASHES, dtype=np.uint64)


def signatures(texts: Iterable[str]) -> NDArray[np.uint32]:
    """(n, HASHES) the values that are kept of each text."""
    rows = [_signature(text) for text in texts]
    return np.stack(rows) if rows else np.zeros((0, HASHES), np.uint32)


def _signature(text: str) -> NDArray[np.uint32]:
    words = words_of(text)
    runs = {" ".join(words[start : start + WORDS]) for start in range(max(1, len(words) - WORDS + 1))}
    hashes = np.array([zlib.crc32(run.encode("utf-8", "replace")) for run in runs], np.uint64)
    mixed = (hashes[:, None] * _FACTORS + _SHIFTS) >> np.uint64(32)
    return np.asarray(mixed.min(axis=0), np.uint32)


class Distinct:
    """The rows kept so far: tells whether another row is nearly the same as one of them.

    Args:
        signatures: of all rows.
        similarity: the estimated Jaccard similarity from which on two rows are nearly the same, above 0 to 1.
    """

    def __init__(self, signatures: NDArray[np.uint32], similarity: float) -> None:
        if not 0 < similarity <= 1:
            raise ConfigError(f"distinct is {similarity}, expected a similarity above 0 and at most 1, such as 0.8.")
        self._signatures = signatures
        self._similarity = similarity
        self._rows_of_band: dict[tuple[int, bytes], list[int]] = {}

    def like(self, row: int) -> int | None:
        """The kept row that this one is nearly the same as, the first that was kept; None if there is none."""
        candidates = sorted({kept for band in self._bands(row) for kept in self._rows_of_band.get(band, ())})
        if not candidates:
            return None
        alike = (self._signatures[candidates] == self._signatures[row]).mean(axis=1) >= self._similarity
        return candidates[int(np.argmax(alike))] if alike.any() else None

    def keep(self, row: int) -> None:
        for band in self._bands(row):
            self._rows_of_band.setdefault(band, []).append(row)

    def _bands(self, row: int) -> list[tuple[int, bytes]]:
        values = self._signatures[row]
        return [(start, values[start : start + BAND].tobytes()) for start in range(0, HASHES, BAND)]


def fold_alike(texts: Sequence[str]) -> list[list[int]]:
    """The numbers of some texts in groups: each text stands with the first one that it is nearly the same as.

    >>> fold_alike(["The cat sat on the mat today", "A dog", "the cat sat on the mat, today"])
    [[0, 2], [1]]
    """
    distinct, groups = Distinct(signatures(texts), ALIKE), dict[int, list[int]]()
    for number in range(len(texts)):
        first = distinct.like(number)
        if first is None:
            distinct.keep(number)
        groups.setdefault(number if first is None else first, []).append(number)
    return list(groups.values())
