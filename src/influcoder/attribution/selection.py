"""Keep the pool examples that act strongest on a set of queries, and say why each was kept or not.

An example's score is its mean influence over the queries. The result holds every row with score,
percentile and reason, so another threshold needs no new scoring.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from influcoder.errors import ConfigError
from influcoder.store.files import atomic_write


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of a pool's rows are kept.

    Attributes:
        ids: the pool's ids, in index order.
        scores: (n,) mean influence over the queries.
        kept: (n,) whether a row is kept.
        rule: the rule in words.

    >>> import numpy as np
    >>> Selection.top(["a", "b", "c"], np.array([0.1, 0.3, -0.2]), share=0.34).kept_ids
    ['b']
    """

    ids: list[str]
    scores: NDArray[np.float32]
    kept: NDArray[np.bool_]
    rule: str

    @classmethod
    def top(cls, ids: list[str], scores: NDArray[np.float32], *, share: float) -> "Selection":
        """Keep the `share` (0 to 1) of rows with the highest scores, at least one; ties by order."""
        if not 0 < share <= 1:
            raise ConfigError(f"share is {share}, expected above 0 and at most 1 (100%).")
        kept = np.zeros(len(ids), bool)
        kept[np.argsort(-scores, kind="stable")[: max(1, round(share * len(ids)))]] = True
        return cls(ids, scores, kept, f"top {share:.4g} of the rows by score")

    @classmethod
    def drop(cls, ids: list[str], scores: NDArray[np.float32], *, share: float) -> "Selection":
        """Leave out the `share` of rows with the highest scores: for queries that show what is unwanted."""
        top = cls.top(ids, scores, share=share)
        return replace(top, kept=~top.kept, rule=f"all but the top {share:.4g} of the rows by score")

    @classmethod
    def above(cls, ids: list[str], scores: NDArray[np.float32], *, threshold: float) -> "Selection":
        """Keep the rows that score at least `threshold`."""
        if not np.isfinite(threshold):
            raise ConfigError(f"threshold is {threshold}, expected a finite number.")
        return cls(ids, scores, scores >= threshold, f"score at least {threshold:.6g}")

    @property
    def kept_ids(self) -> list[str]:
        return [name for name, kept in zip(self.ids, self.kept, strict=True) if kept]

    def table(self) -> pa.Table:
        """id, score, percentile (0 to 100, 100 the highest), kept, reason."""
        order = np.argsort(np.argsort(self.scores, kind="stable"), kind="stable")
        percentile = 100 * order / max(len(self.ids) - 1, 1)
        reasons = [("kept: " if kept else "rejected: not ") + self.rule for kept in self.kept]
        return pa.table(
            {
                "id": self.ids,
                "score": self.scores.astype(np.float32),
                "percentile": percentile.astype(np.float32),
                "kept": self.kept,
                "reason": reasons,
            }
        )

    def save(self, path: Path) -> None:
        """Write the table as Parquet."""
        sink = pa.BufferOutputStream()
        pq.write_table(self.table(), sink, write_page_checksum=True)
        atomic_write(path, sink.getvalue().to_pybytes())
