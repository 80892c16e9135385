"""Writes a store shard by shard: of rows whose ids are known, or of a stream whose length nobody knows yet.

    plan.json          what is being made; there only until the store is complete
    code.safetensors   the arrays of its code, where it has any
    shard-*            see `influcoder.store.shards`; one of a stream remembers a hash of the rows it was made from
    manifest.json      written last

What an earlier run of the same plan finished is kept.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.numpy
from numpy.typing import NDArray

from influcoder.errors import StoreError, StoreIncomplete, StoreMismatch
from influcoder.provenance import Provenance, refuse_difference
from influcoder.store.change import sweep
from influcoder.store.codes import VectorCode
from influcoder.store.files import atomic_write, read_sealed, write_sealed
from influcoder.store.shards import SOURCE, is_there, shard_entry, shard_name, source_of, write_shard
from influcoder.store.store import CODE, FORMAT, Store, read_plan
from influcoder.version import __version__

_FINISHED = ("rows", "shards", "next", "changes", "sha256")
"""what a manifest says beyond the plan"""


@dataclass(frozen=True, slots=True)
class Shard:
    """The rows `start` to `stop` of the input."""

    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return shard_name(self.number)


class StoreWriter:
    """Writes a store in a folder that the caller has claimed.

    Args:
        folder: where; made if missing.
        kind: what the vectors are, e.g. "features".
        code: how they are stored.
        provenance: everything that changes the numbers; compared when a run is resumed.
        shard_rows: rows a shard.
        ids: the id of every row, in order; None for a stream, whose shards are named by `next_shard` as they come.

    Raises:
        StoreMismatch: the folder holds the beginning of another plan, or a store that was changed since.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kind: str,
        code: VectorCode,
        provenance: Provenance,
        shard_rows: int = 512,
        ids: Sequence[str] | None = None,
    ) -> None:
        self.folder, self.code, self.ids = folder, code, ids
        self.shards: list[Shard] = []
        self.plan: dict[str, Any] = {
            "format": FORMAT,
            "kind": kind,
            "dim": code.dim,
            "dtype": code.dtype,
            "shard_rows": shard_rows,
            "made_by": provenance.json(),
            "package": __version__,
        } | ({"code": code.spec} if code.spec else {})
        if ids is not None:
            self.plan |= {"rows": len(ids), "ids": hashlib.sha256("\x00".join(ids).encode()).hexdigest()}
            for start in range(0, len(ids), shard_rows):
                self.next_shard(min(shard_rows, len(ids) - start))
        folder.mkdir(parents=True, exist_ok=True)
        self._check_earlier_plan()
        if not self._finished:
            write_sealed(folder / "plan.json", self.plan)
            if code.arrays:
                atomic_write(folder / CODE, safetensors.numpy.save(dict(code.arrays)))

    @property
    def _finished(self) -> bool:
        return (self.folder / "manifest.json").exists()

    @property
    def rows(self) -> int:
        """The rows of all shards, or of those that have come of a stream."""
        return self.shards[-1].stop if self.shards else 0

    def next_shard(self, rows: int) -> Shard:
        """The shard of the next so many rows of a stream."""
        self.shards.append(Shard(len(self.shards), self.rows, self.rows + rows))
        return self.shards[-1]

    def missing(self) -> Iterator[Shard]:
        """The shards still to be made, of all ids or of what has come of a stream."""
        if not self._finished:
            yield from (shard for shard in self.shards if not is_there(self.folder, shard.name))

    def holds(self, shard: Shard, source: str) -> bool:
        """Whether a shard of a stream is in place already.

        Raises:
            StoreMismatch: it is, but of other rows than those that `source` is the hash of.
        """
        if not is_there(self.folder, shard.name):
            return False
        there = source_of(self.folder, shard.name)
        if there != source:
            raise StoreMismatch(
                f"{self.folder}/{shard.name}: made from rows with hash {there[:12]}, the input has {source[:12]} in "
                "their place now. Give the same files in the same order, or --overwrite."
            )
        return True

    def write(
        self, shard: Shard, vectors: NDArray[np.float32], columns: Mapping[str, Any], source: str | None = None
    ) -> None:
        """Store a shard's vectors, (rows, dim), and its columns, one value a row.

        Args:
            columns: of a stream, with the rows' `id`.
            source: of a stream, a hash of the rows.

        Raises:
            StoreError: a vector is not finite, the shape is wrong, or the disk refuses.
        """
        expected = (shard.stop - shard.start, self.code.dim)
        if vectors.shape != expected:
            raise StoreError(f"{self.folder}/{shard.name}: vectors are {vectors.shape}, expected {expected}.")
        ids = {} if self.ids is None else {"id": self.ids[shard.start : shard.stop]}
        write_vectors(self.folder, shard.name, self.code, vectors, {**ids, **columns}, source)

    def finish(self) -> Store:
        """Write the manifest, which makes the store readable, and open it.

        Raises:
            StoreIncomplete: a shard is still to be made.
            StoreMismatch: it was finished before, of more or fewer rows.
        """
        missing = [shard.name for shard in self.missing()]
        if missing:
            raise StoreIncomplete(
                f"{self.folder}: {len(missing)} of {len(self.shards)} shards are not written, {missing[0]} the first. "
                "Write every shard of `missing()`, or run the same command again with --resume."
            )
        if self._finished:
            there = {"rows": read_sealed(self.folder / "manifest.json", FORMAT)["rows"]}
            refuse_difference(f"{self.folder}: cannot go on with this store", there, {"rows": self.rows})
        else:
            shards = [shard_entry(self.folder, shard.name, shard.stop - shard.start) for shard in self.shards]
            facts = {"rows": self.rows, "shards": shards, "next": len(shards), "changes": 0}
            write_sealed(self.folder / "manifest.json", self.plan | facts)
        (self.folder / "plan.json").unlink(missing_ok=True)
        sweep(self.folder)
        return Store(self.folder, lazily=self.ids is None)  # a stream may be many gigabytes

    def _check_earlier_plan(self) -> None:
        for name in ("manifest.json", "plan.json"):
            if (self.folder / name).exists():
                earlier = read_plan(self.folder / name)
                if earlier.get("changes"):
                    raise StoreMismatch(
                        f"{self.folder}: rows were added to or removed from it since it was made. Add the new rows "
                        "with --add, or give --overwrite."
                    )
                before = {key: value for key, value in earlier.items() if key in self.plan or key not in _FINISHED}
                refuse_difference(f"{self.folder}: cannot go on with this store", before, self.plan)


def write_vectors(
    folder: Path,
    name: str,
    code: VectorCode,
    vectors: NDArray[np.float32],
    columns: Mapping[str, Any],
    source: str | None = None,
) -> None:
    """Put a shard of vectors, (n, dim), in place as its code stores them.

    Raises:
        StoreError: a vector is not finite, or the disk refuses.
    """
    with np.errstate(over="ignore"):  # what float16 cannot hold is refused by name below
        stored = code.encode(vectors).astype(code.dtype, copy=False)
    table = pa.table(dict(columns))
    finite = np.isfinite(stored if stored.dtype.kind == "f" else vectors).all(axis=1)
    if not finite.all():
        bad = table["id"][int(np.argmin(finite))].as_py()
        raise StoreError(f"{folder}: the vector of {bad!r} is not finite in {code.dtype}.")
    write_shard(folder, name, stored, table, code.facts(stored) | ({} if source is None else {SOURCE: source}))
