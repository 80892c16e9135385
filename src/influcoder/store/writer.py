"""Writes a store shard by shard: of rows whose ids are known, or of a stream of unknown length.

    plan.json          what is being made; there only until the store is complete
    code.safetensors   the arrays of its code, if it has any
    shard-*            see `influcoder.store.shards`; a shard of a stream records a hash of its rows
    manifest.json      written last

Shards that an earlier run of the same plan finished are kept.
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
"""the entries of a manifest that a plan does not have"""


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
        folder: made if missing.
        kind: what the vectors are, e.g. "features".
        code: how they are stored.
        provenance: everything that changes the numbers; compared when a run is resumed.
        shard_rows: rows per shard.
        ids: the id of every row, in order; None for a stream, whose shards `next_shard` announces as they come.

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
        """The rows of all shards, or of the shards of a stream that have come so far."""
        return self.shards[-1].stop if self.shards else 0

    def next_shard(self, rows: int) -> Shard:
        """The next shard of a stream, with so many rows."""
        self.shards.append(Shard(len(self.shards), self.rows, self.rows + rows))
        return self.shards[-1]

    def missing(self) -> Iterator[Shard]:
        """The shards still to be made, of all ids or of the part of a stream that has come so far."""
        if not self._finished:
            yield from (shard for shard in self.shards if not is_there(self.folder, shard.name))

    def holds(self, shard: Shard, source: str) -> bool:
        """Whether a shard of a stream is already in place.

        Raises:
            StoreMismatch: it is, but was made from other rows than those with the hash `source`.
        """
        if not is_there(self.folder, shard.name):
            return False
        earlier = source_of(self.folder, shard.name)
        if earlier != source:
            raise StoreMismatch(
                f"{self.folder}/{shard.name}: made from rows with hash {earlier[:12]}, the input has {source[:12]} in "
                "their place now. Give the same files in the same order, or --overwrite."
            )
        return True

    def write(
        self, shard: Shard, vectors: NDArray[np.float32], columns: Mapping[str, Any], source: str | None = None
    ) -> None:
        """Store a shard's vectors, (rows, dim), and its columns, a value per row.

        Args:
            columns: for a stream, with the rows' `id`.
            source: for a stream, a hash of the rows.

        Raises:
            StoreError: a vector is not finite, the shape is wrong, or a file cannot be written.
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
            StoreMismatch: it was finished before, with another number of rows.
        """
        missing = [shard.name for shard in self.missing()]
        if missing:
            raise StoreIncomplete(
                f"{self.folder}: {len(missing)} of {len(self.shards)} shards are not written, {missing[0]} first. "
                "Write every shard of `missing()`, or run the same command again with --resume."
            )
        if self._finished:
            earlier = {"rows": read_sealed(self.folder / "manifest.json", FORMAT)["rows"]}
            refuse_difference(f"{self.folder}: cannot go on with this store", earlier, {"rows": self.rows})
        else:
            shards = [shard_entry(self.folder, shard.name, shard.stop - shard.start) for shard in self.shards]
            facts = {"rows": self.rows, "shards": shards, "next": len(shards), "changes": 0}
            write_sealed(self.folder / "manifest.json", self.plan | facts)
        (self.folder / "plan.json").unlink(missing_ok=True)
        sweep(self.folder)
        return Store(self.folder, lazily=self.ids is None)  # a stream may be many gigabytes

    def _check_earlier_plan(self) -> None:
        for name in ("manifest.json", "plan.json"):
            if not (self.folder / name).exists():
                continue
            earlier = read_plan(self.folder / name)
            if earlier.get("changes"):
                raise StoreMismatch(
                    f"{self.folder}: rows were added to or removed from it since it was made. Add the new rows with "
                    "--add, or give --overwrite."
                )
            plan = {key: value for key, value in earlier.items() if key in self.plan or key not in _FINISHED}
            refuse_difference(f"{self.folder}: cannot go on with this store", plan, self.plan)


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
        StoreError: a vector is not finite, or a file cannot be written.
    """
    with np.errstate(over="ignore"):  # numbers that float16 cannot hold are refused below
        stored = code.encode(vectors).astype(code.dtype, copy=False)
    table = pa.table(dict(columns))
    finite = np.isfinite(stored if stored.dtype.kind == "f" else vectors).all(axis=1)
    if not finite.all():
        bad_id = table["id"][int(np.argmin(finite))].as_py()
        raise StoreError(f"{folder}: the vector of {bad_id!r} is not finite in {code.dtype}.")
    write_shard(folder, name, stored, table, code.facts(stored) | ({} if source is None else {SOURCE: source}))
