"""Keep some rows of a pool by their influence on a set of queries, and say why each was kept or not.

Scores are put in an order once (`orders`); a rule takes rows in that order until its budget is spent (`rule`,
`choosing`). The result holds every row with score, percentile, place in the order and reason, so another rule needs no
new scoring.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from influcoder.attribution.choosing import Facts, choose
from influcoder.attribution.kept_rows import counts_by_value, kept_dataset
from influcoder.attribution.orders import By, Order
from influcoder.attribution.pool_facts import PoolFacts
from influcoder.attribution.rule import Rule
from influcoder.errors import ConfigError, StoreCorrupt, StoreMismatch
from influcoder.indexes.filters import PREFIX
from influcoder.indexes.index import Index
from influcoder.maths.arrays import Matrix
from influcoder.maths.metrics import percentiles
from influcoder.store.files import atomic_write
from influcoder.store.hub import Destination

FILE = "selection.parquet"
COUNTED = "source"
"""the column by which kept and dropped rows are counted, where the pool has it"""
_OF_EVERY_ROW = ("id", "score", "percentile", "kept", "reason", "rank")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of a pool's rows are kept; `influcoder.select` makes one.

    Attributes:
        ids: the pool's ids, in index order.
        order: every row's score, and the order in which rows are chosen.
        is_kept: (n,) whether a row is kept.
        reasons: (n,) why.
        rule: the rule in words.
        columns: what the rule read of every row: tokens, duplicate_of, and metadata as meta.NAME.
        index: the folder of the index whose rows these are, if that is known.
        manifest: the hash of its manifest: which rows it had.
        made_by: rule and order as settings, and hashes of encoder and queries; empty in files of earlier versions.

    >>> import numpy as np
    >>> selection = Selection.of_scores(["a", "b", "c"], np.array([0.1, 0.3, -0.2]), top=0.34)
    >>> selection.kept["id"].to_pylist()
    ['b']
    >>> selection.rethreshold(threshold=0).kept_ids
    ['a', 'b']
    """

    ids: list[str]
    order: Order
    is_kept: NDArray[np.bool_]
    reasons: list[str]
    rule: str
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    index: Path | None = None
    manifest: str | None = None
    made_by: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, index: Index, scores: Matrix, rule: Rule, by: By = "mean", made_by: Mapping[str, Any] | None = None
    ) -> "Selection":
        """The rows of an index by the scores of several queries, (n_queries, n).

        Args:
            made_by: what else to record.
        """
        facts = PoolFacts(index)
        columns = {PREFIX + COUNTED: facts.kinds(COUNTED)} if COUNTED in index.filterable else {}
        every = cls._all(index.ids, Order.of(scores, by), by, made_by or {})
        folder, manifest = index.folder.absolute(), index.store.manifest["sha256"]
        return replace(every, columns=columns, index=folder, manifest=manifest)._by(rule, lambda: facts)

    @classmethod
    def of_scores(cls, ids: list[str], scores: NDArray[np.floating], *, by: By = "mean", **rule: Any) -> "Selection":
        """Rows by scores from anywhere: one a row, (n,), or those of several queries, (n_queries, n).

        Args:
            rule: as of `rethreshold`; what asks for more than scores needs an index.
        """
        return cls._all(ids, Order.of(np.atleast_2d(scores), by), by, {}).rethreshold(**rule)

    @classmethod
    def _all(cls, ids: list[str], order: Order, by: str, made_by: Mapping[str, Any]) -> "Selection":
        words = Rule(top=1.0).words(by)
        return cls(
            ids, order, np.ones(len(ids), bool), [f"kept: {words}"] * len(ids), words, made_by={**made_by, "by": by}
        )

    @property
    def scores(self) -> NDArray[np.float32]:
        """(n,) of each row."""
        return self.order.scores

    def rethreshold(self, **rule: Any) -> "Selection":
        """Select from the same scores by another rule; nothing is scored again.

        Args:
            rule: `top`, `drop`, `threshold`, `rows` or `tokens`, and `unwanted`, `distinct`, `cap`, `quota`, as of
                `influcoder.select`.

        Raises:
            ConfigError: not exactly one budget, or a share that is none; or the rule asks more of the rows than their
                scores, and no index is known.
            StoreMismatch: the same, and the index has changed.
        """
        try:
            new_rule = Rule(**rule)
        except TypeError as error:
            raise ConfigError(f"rule: {error}. Expected the arguments of influcoder.select.") from error
        return self._by(new_rule, lambda: PoolFacts(self.open_index()))

    def _by(self, rule: Rule, facts: Callable[[], Facts]) -> "Selection":
        words = rule.words(self.made_by.get("by", "mean"))
        choice = choose(self.order, rule, facts)
        columns = {name: values for name, values in self.columns.items() if name.startswith(PREFIX)}
        columns |= {PREFIX + name: values for name, values in choice.kinds.items()}
        if rule.tokens is not None:
            columns["tokens"] = choice.sizes.tolist()
        if rule.distinct is not None:
            kept_twins = {row: self.ids[twin] for row, twin in choice.duplicates.items()}
            columns["duplicate_of"] = [kept_twins.get(row) for row in range(len(self.ids))]
        made_by = {**self.made_by, "rule": rule.json()}
        return replace(
            self, is_kept=choice.is_kept, reasons=choice.reasons(words), rule=words, columns=columns, made_by=made_by
        )

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
        """Every row: id, score, percentile (0 to 100, 100 the highest), kept, reason, rank (1 is chosen first).

        Then what the rule read of the rows.
        """
        ranks = np.empty(len(self.ids), np.int64)
        ranks[self.order.rows] = np.arange(1, len(self.ids) + 1)
        columns = {
            "id": pa.array(self.ids, pa.string()),
            "score": self.scores.astype(np.float32),
            "percentile": percentiles(self.scores),
            "kept": self.is_kept,
            "reason": pa.array(self.reasons, pa.string()),
            "rank": ranks,
            **{name: pa.array(values) for name, values in self.columns.items()},
        }
        index = None if self.index is None else str(self.index)
        made_by = {"index": index, "manifest": self.manifest, **self.made_by}
        return pa.table(columns, metadata={"influcoder": orjson.dumps(made_by, option=orjson.OPT_SORT_KEYS)})

    def counts(self) -> dict[str, Any]:
        """How many rows there are and are kept, how many for which reason, and how many by value of a column."""
        values, numbers = np.unique(np.array(self.reasons, object), return_counts=True)
        columns = {name.removeprefix(PREFIX): kinds for name, kinds in self.columns.items() if name.startswith(PREFIX)}
        counts: dict[str, Any] = {
            "rows": len(self.ids),
            "kept": int(self.is_kept.sum()),
            "rule": self.rule,
            "reasons": dict(zip(values.tolist(), numbers.tolist(), strict=True)),
        }
        if columns:
            counts["by"] = {name: counts_by_value(kinds, self.is_kept) for name, kinds in columns.items()}
        if "tokens" in self.columns:
            counts["tokens"] = int(np.asarray(self.columns["tokens"])[self.is_kept].sum())
        return counts

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
            made_by = orjson.loads((table.schema.metadata or {}).get(b"influcoder", b"{}"))
            ids, reasons = table["id"].to_pylist(), table["reason"].to_pylist()
            scores, kept = (table[name].to_numpy() for name in ("score", "kept"))
            order = Order.by_score(scores.astype(np.float32))
            if "rank" in table.column_names:  # versions before 0.2 chose by score alone
                order = replace(order, rows=np.argsort(table["rank"].to_numpy()))
            rule = reasons[0].removeprefix("kept: ").removeprefix("rejected: not ") if reasons else ""
            if "rule" in made_by:
                rule = Rule.read(made_by["rule"]).words(made_by["by"])
            index, manifest = made_by.pop("index", None), made_by.pop("manifest", None)
        except (OSError, KeyError, ValueError, TypeError, AttributeError, ConfigError, pa.ArrowException) as error:
            raise StoreCorrupt(f"{path}: cannot be read as a selection ({error}). Select again.") from error
        columns = {name: table[name].to_pylist() for name in table.column_names if name not in _OF_EVERY_ROW}
        folder = Path(index) if index else None
        return cls(ids, order, kept.astype(bool), reasons, rule, columns, folder, manifest, made_by)

    @classmethod
    def from_pretrained(cls, name: str | Path, **where: Any) -> "Selection":
        """Load a selection from the Hugging Face hub, or from a folder that somebody else wrote; hashes are checked.

        Args:
            name: a hub id such as "owner/name", or a folder.
            where: revision, token and cache_dir, as of `InfluenceEncoder.from_pretrained`.

        Raises:
            ModelError: neither folder nor hub has it, or a file might run code.
            StoreError: not a selection, of another format version, or changed.
        """
        from influcoder.attribution import selection_folder

        return selection_folder.open_pushed(name, **where)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        index: Index | str | Path | None = None,
        commit_message: str = "Push rows selected by influence",
        proof: Path | None = None,
        license: str | None = None,
        **more: Any,
    ) -> str:
        """Upload it with the rows that it keeps as a data set of the hub, with a card; returns the commit's address.

        Args:
            index: as of `to_dataset`.
            proof, more: as of `InfluenceEncoder.push_to_hub`.
            license: of the rows.

        Raises:
            ModelError: the hub refuses.
        """
        from influcoder.attribution import selection_folder

        to = Destination(repo_id, commit_message, **more)
        return selection_folder.push(self, self.open_index(index), to, proof=proof, license=license)

    def open_index(self, index: Index | str | Path | None = None) -> Index:
        """The index whose rows these are.

        Args:
            index: the index or its folder, if it has moved.

        Raises:
            ConfigError: it is not known.
            StoreMismatch: it has other rows now, or is another one.
        """
        source = index or self.index
        if source is None:
            raise ConfigError("the selection does not say which index its rows are of. Give index=, its folder.")
        opened = source if isinstance(source, Index) else Index(source)
        has_same_rows = opened.store.manifest["sha256"] == self.manifest if self.manifest else opened.ids == self.ids
        if not has_same_rows:
            raise StoreMismatch(
                f"{opened.folder}: rows were added or removed since this selection was made, or it is of another "
                "index. Select again."
            )
        return opened

    def to_dataset(self, index: Index | str | Path | None = None) -> Any:
        """The rows that are kept as a `datasets.Dataset`, in the columns that the pool's own files have.

        Columns that some rows lack are empty there; values are as JSON keeps them, so a date is text.

        Args:
            index: the index that the rows were selected from, or its folder; the one it was made with when omitted.

        Raises:
            MissingDependency: datasets is not installed.
            StoreMismatch: the index has other rows now, or was made by a version that did not keep their columns.
            DataError: the rows differ so much that no table holds them all.
        """
        return kept_dataset(self.open_index(index), self.is_kept)
