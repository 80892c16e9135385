"""Keep the pool examples that act strongest on a set of queries, and say why each was kept or not.

An example's score is its mean influence over the queries. The result holds every row with score,
percentile and reason, so another threshold needs no new scoring.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from influcoder.errors import ConfigError, DataError, StoreCorrupt, StoreMismatch
from influcoder.extras import optional
from influcoder.indexes.index import Index
from influcoder.indexes.original_rows import original_rows
from influcoder.store.files import atomic_write

FILE = "selection.parquet"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of a pool's rows are kept; `influcoder.select` makes one.

    Attributes:
        ids: the pool's ids, in index order.
        scores: (n,) mean influence over the queries.
        is_kept: (n,) whether a row is kept.
        rule: the rule in words.
        index: the folder of the index whose rows these are, if that is known.
        manifest: the hash of its manifest: which rows it had.

    >>> import numpy as np
    >>> selection = Selection.top(["a", "b", "c"], np.array([0.1, 0.3, -0.2]), share=0.34)
    >>> selection.kept["id"].to_pylist()
    ['b']
    >>> selection.rethreshold(threshold=0).kept_ids
    ['a', 'b']
    """

    ids: list[str]
    scores: NDArray[np.float32]
    is_kept: NDArray[np.bool_]
    rule: str
    index: Path | None = None
    manifest: str | None = None

    @classmethod
    def of(
        cls,
        index: Index,
        scores: NDArray[np.float32],
        *,
        top: float | None,
        drop: float | None,
        threshold: float | None,
    ) -> "Selection":
        """The rows of an index by their scores, (n,), and exactly one rule: see `rethreshold`."""
        made = cls(index.ids, scores, np.ones(len(scores), bool), "all rows")
        kept_with = replace(made, index=index.folder.absolute(), manifest=index.store.manifest["sha256"])
        return kept_with.rethreshold(top=top, drop=drop, threshold=threshold)

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
        return replace(top, is_kept=~top.is_kept, rule=f"all but the top {share:.4g} of the rows by score")

    @classmethod
    def above(cls, ids: list[str], scores: NDArray[np.float32], *, threshold: float) -> "Selection":
        """Keep the rows that score at least `threshold`."""
        if not np.isfinite(threshold):
            raise ConfigError(f"threshold is {threshold}, expected a finite number.")
        return cls(ids, scores, scores >= threshold, f"score at least {threshold:.6g}")

    def rethreshold(
        self, *, top: float | None = None, drop: float | None = None, threshold: float | None = None
    ) -> "Selection":
        """Select from the same scores by another rule; nothing is scored again.

        Args:
            top: keep this share (0 to 1) of highest scores.
            drop: leave this share of highest scores out.
            threshold: keep scores of at least this.

        Raises:
            ConfigError: not exactly one rule, or a share that is none.
        """
        rules = {"top": top, "drop": drop, "threshold": threshold}
        given = [(name, rule) for name, rule in rules.items() if rule is not None]
        if len(given) != 1:
            raise ConfigError("give exactly one of --top, --drop and --threshold.")
        name, value = given[0]
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{name} is {value!r}, expected a number.") from error
        if name == "threshold":
            made = Selection.above(self.ids, self.scores, threshold=number)
        else:
            made = getattr(Selection, name)(self.ids, self.scores, share=number)
        return replace(made, index=self.index, manifest=self.manifest)

    @property
    def kept_ids(self) -> list[str]:
        return [name for name, kept in zip(self.ids, self.is_kept, strict=True) if kept]

    @property
    def kept(self) -> pa.Table:
        """The rows that are kept, as in `table`."""
        return self.table().filter(pa.array(self.is_kept))

    @property
    def rejected(self) -> pa.Table:
        """The rows that are not, as in `table`."""
        return self.table().filter(pa.array(~self.is_kept))

    def table(self) -> pa.Table:
        """Every row: id, score, percentile (0 to 100, 100 the highest), kept, reason."""
        reasons = [("kept: " if kept else "rejected: not ") + self.rule for kept in self.is_kept]
        columns = {
            "id": pa.array(self.ids, pa.string()),
            "score": self.scores.astype(np.float32),
            "percentile": percentiles(self.scores),
            "kept": self.is_kept,
            "reason": pa.array(reasons, pa.string()),
        }
        source = orjson.dumps({"index": str(self.index), "manifest": self.manifest})
        return pa.table(columns, metadata={"influcoder": source} if self.index else None)

    def save(self, path: str | Path) -> None:
        """Write the table as Parquet, for `Selection.load` or any other reader."""
        sink = pa.BufferOutputStream()
        pq.write_table(self.table(), sink, write_page_checksum=True)
        atomic_write(Path(path), sink.getvalue().to_pybytes())

    @classmethod
    def load(cls, path: str | Path) -> "Selection":
        """Read what `save` or `influcoder select` wrote: the file, or the folder with selection.parquet in it.

        Raises:
            StoreCorrupt: there is no such file, or it is no selection.
        """
        path = Path(path) / FILE if Path(path).is_dir() else Path(path)
        try:
            table = pq.read_table(path, page_checksum_verification=True)
            source = orjson.loads((table.schema.metadata or {}).get(b"influcoder", b"{}"))
            ids, reasons = table["id"].to_pylist(), table["reason"].to_pylist()
            scores, kept = (table[name].to_numpy() for name in ("score", "kept"))
            rule = reasons[0].removeprefix("kept: ").removeprefix("rejected: not ") if reasons else ""
            index, manifest = source.get("index"), source.get("manifest")
        except (OSError, KeyError, ValueError, AttributeError, pa.ArrowException) as error:
            raise StoreCorrupt(f"{path}: cannot be read as a selection ({error}). Select again.") from error
        return cls(ids, scores.astype(np.float32), kept.astype(bool), rule, Path(index) if index else None, manifest)

    def to_dataset(self, index: Index | str | Path | None = None) -> Any:
        """The rows that are kept as a `datasets.Dataset`, in the columns that the pool's own files have.

        Values are as JSON keeps them: a date comes back as text. Order is that of the index.

        Args:
            index: where the index lies now; by default where it lay when the selection was made.

        Raises:
            MissingDependency: `datasets` is not installed.
            ConfigError: it is not known which index the rows are of.
            StoreMismatch: the index has other rows now, or was made by a version that did not keep the pool's columns.
            DataError: the rows differ so much that no table holds them all.
        """
        datasets = optional("datasets")
        place = index or self.index
        if place is None:
            raise ConfigError("the selection does not say which index its rows are of. Give index=, its folder.")
        opened = place if isinstance(place, Index) else Index(place)
        same = opened.store.manifest["sha256"] == self.manifest if self.manifest else opened.ids == self.ids
        if not same:
            raise StoreMismatch(
                f"{opened.folder}: rows were added or removed since this selection was made, or it is of another "
                "index. Select again."
            )
        return datasets.Dataset(one_table(original_rows(opened, self.is_kept)))


def percentiles(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) where each score stands among all, from 0 to 100 for the highest; ties by order.

    >>> percentiles(np.float32([0.1, 0.3, -0.2])).tolist()
    [50.0, 100.0, 0.0]
    """
    order = np.argsort(np.argsort(scores, kind="stable"), kind="stable")
    return (100 * order / max(len(scores) - 1, 1)).astype(np.float32)


def one_table(parts: Iterable[list[dict[str, Any]]]) -> pa.Table:
    """Rows as one table: a column that some parts lack is null there.

    Raises:
        DataError: a column holds values of several kinds.
    """
    tables = []
    try:
        for rows in parts:
            names = dict.fromkeys(name for row in rows for name in row)
            tables.append(pa.table({name: [row.get(name) for row in rows] for name in names}))
        return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(
            f"the rows that are kept do not fit one table: {error}. A column holds values of several kinds; take the "
            "rows from your own files, by `kept_ids`."
        ) from error
