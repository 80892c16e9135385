"""A store: a folder of vectors with ids, written shard by shard, that is whole, resumable and checked.

    plan.json                 what is being made; there only until the store is complete
    shard-00000.safetensors   {"vectors": (rows, dim)}
    shard-00000.parquet       id and one column a fact about the row (norm, token counts, flags)
    manifest.json             written last: what made it, rows and SHA-256 of every shard, its own SHA-256

A shard is whole or absent, and depends on nothing but its own rows; so a killed run, resumed, gives the
same bytes as an undisturbed one. Readers check every hash: on opening, or file by file as they are first read
(docs/decisions/0012-when-hashes-are-checked.md). `influcoder.store.stream` writes and changes stores that are read so.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from numpy.typing import NDArray

from influcoder.errors import StoreCorrupt, StoreError, StoreIncomplete, StoreMismatch
from influcoder.maths.lowrank import LowRankCode
from influcoder.provenance import Provenance, refuse_difference
from influcoder.store.files import read_sealed, sha256, write_sealed
from influcoder.store.shards import (
    FILES,
    footer_sha256,
    is_there,
    map_vectors,
    read_columns,
    shard_entry,
    shard_name,
    write_shard,
)
from influcoder.version import __version__

FORMAT = 1
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Shard:
    """The rows `start` to `stop` of the input, and whether they are still to be made."""

    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return shard_name(self.number)


class StoreWriter:
    """Writes a store; what an earlier run of the same plan finished is kept.

    Args:
        folder: where; made if missing. The caller holds it with `atomic.claim`.
        kind: what the vectors are, e.g. "features".
        dim: numbers a vector.
        dtype: "float16" or "float32".
        ids: the id of every row, in order.
        provenance: everything that changes the numbers; compared when a run is resumed.
        shard_rows: rows a shard.
        code: how vectors are stored, where not as they are.

    Raises:
        StoreMismatch: the folder holds the beginning of another plan.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kind: str,
        dim: int,
        dtype: str,
        ids: list[str],
        provenance: Provenance,
        shard_rows: int = 512,
        code: LowRankCode | None = None,
    ) -> None:
        self.folder = folder
        self._code = code
        self.ids = ids
        self.shards = [
            Shard(number, start, min(start + shard_rows, len(ids)))
            for number, start in enumerate(range(0, len(ids), shard_rows))
        ]
        self.plan: dict[str, Any] = {
            "format": FORMAT,
            "kind": kind,
            "dim": dim,
            "dtype": dtype,
            "rows": len(ids),
            "shard_rows": shard_rows,
            "ids": hashlib.sha256("\x00".join(ids).encode()).hexdigest(),
            "made_by": provenance.json(),
            "package": __version__,
        } | ({"code": code.spec} if code else {})
        folder.mkdir(parents=True, exist_ok=True)
        self._check_earlier_plan()
        if not (folder / "manifest.json").exists():
            write_sealed(folder / "plan.json", self.plan)

    def missing(self) -> Iterator[Shard]:
        """The shards still to be made."""
        if (self.folder / "manifest.json").exists():
            return
        for shard in self.shards:
            if not is_there(self.folder, shard.name):
                yield shard

    def write(self, shard: Shard, vectors: Floats, columns: Mapping[str, Any]) -> None:
        """Store a shard's vectors, (rows, dim), and its columns, one value a row.

        Raises:
            StoreError: a vector is not finite, the shape is wrong, or the disk refuses.
        """
        expected = (shard.stop - shard.start, self.plan["dim"])
        if vectors.shape != expected:
            raise StoreError(f"{self.folder}/{shard.name}: vectors are {vectors.shape}, expected {expected}.")
        with np.errstate(over="ignore"):  # what float16 cannot hold is refused by name below
            coded = self._code.encode(np.asarray(vectors, np.float32)) if self._code else vectors
            stored = np.ascontiguousarray(coded, dtype=self.plan["dtype"])
        finite = np.isfinite(stored).all(axis=1)
        if not finite.all():
            bad = self.ids[shard.start + int(np.argmin(finite))]
            raise StoreError(f"{self.folder}: the vector of {bad!r} is not finite in {self.plan['dtype']}.")
        write_shard(self.folder, shard.name, stored, pa.table({"id": self.ids[shard.start : shard.stop], **columns}))

    def finish(self) -> "Store":
        """Write the manifest, which makes the store readable, and open it.

        Raises:
            StoreIncomplete: a shard is still to be made.
        """
        missing = [shard.name for shard in self.missing()]
        if missing:
            raise StoreIncomplete(
                f"{self.folder}: {len(missing)} of {len(self.shards)} shards are not written, {missing[0]} the first. "
                "Write every shard of `missing()`, or run the same command again with --resume."
            )
        if not (self.folder / "manifest.json").exists():
            shards = [shard_entry(self.folder, shard.name, shard.stop - shard.start) for shard in self.shards]
            write_sealed(self.folder / "manifest.json", self.plan | {"shards": shards})
        (self.folder / "plan.json").unlink(missing_ok=True)
        return Store(self.folder)

    def _check_earlier_plan(self) -> None:
        for name in ("manifest.json", "plan.json"):
            path = self.folder / name
            if path.exists():
                earlier = {key: value for key, value in read_plan(path).items() if key not in ("shards", "sha256")}
                refuse_difference(f"{self.folder}: cannot go on with this store", earlier, self.plan)


class Store:
    """A finished store.

    Args:
        lazily: check the size of every file on opening and its hash when it is first read, instead of all hashes at
            once; for stores of many gigabytes.

    Raises:
        StoreIncomplete: its run has not finished.
        StoreCorrupt: a shard is missing, cut, or changed, or the manifest is.
        StoreMismatch: of another format version.
    """

    def __init__(self, folder: str | Path, *, lazily: bool = False) -> None:
        self.folder = Path(folder)
        manifest = self.folder / "manifest.json"
        if not manifest.exists():
            if (self.folder / "plan.json").exists():
                raise StoreIncomplete(
                    f"{folder}: unfinished. Run the same command again with --resume, or the shards that are missing."
                )
            raise StoreError(f"{folder}: no manifest.json here, so it is not a store.")
        self.manifest = read_sealed(manifest, FORMAT)
        if self.manifest.get("format") != FORMAT:
            raise StoreMismatch(
                f"{manifest}: format {self.manifest.get('format')}, this version reads {FORMAT}. Make the store again."
            )
        self._sound: set[str] = set()
        self._mapped: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {}
        for shard in self.manifest["shards"]:
            for suffix, what in FILES.items():
                path = self.folder / f"{shard['name']}.{suffix}"
                if not path.exists():
                    raise StoreCorrupt(f"{path}: missing. Make the store again.")
                if path.stat().st_size != shard.get(f"{what}_bytes", path.stat().st_size):
                    raise _corrupt(path)
        if not lazily:
            self.verify()

    def verify(self) -> None:
        """Check the hash of every file that this store has not checked yet.

        Raises:
            StoreCorrupt: one is not what was written.
        """
        for shard in self.manifest["shards"]:
            for suffix in FILES:
                self._checked(shard, suffix)

    def mapped(self, shard: Mapping[str, Any]) -> tuple[NDArray[Any], dict[str, Any]]:
        """A shard's vectors as they are stored, (rows, width), mapped into memory, and the facts beside them.

        Raises:
            StoreCorrupt: read for the first time, and not what was written.
        """
        if shard["name"] not in self._mapped:  # mapped once: its pages are then found without a fault
            self._mapped[shard["name"]] = map_vectors(self._checked(shard, "safetensors"))
        return self._mapped[shard["name"]]

    def some(
        self, shard: Mapping[str, Any], columns: Sequence[str] | None = None, group: int | None = None
    ) -> pa.Table:
        """Some of a shard's columns, of all rows or of one row group; no more is read than that.

        Raises:
            StoreCorrupt: what is read is not what was written.
        """
        return read_columns(self._mapped_out(shard), columns, group)

    def schema(self, shard: Mapping[str, Any]) -> pa.Schema:
        """The names and types of a shard's columns.

        Raises:
            StoreCorrupt: its footer is not what was written.
        """
        return pq.read_schema(self._mapped_out(shard))

    def _mapped_out(self, shard: Mapping[str, Any]) -> Path:
        """A shard's columns, of which it is sure where they lie."""
        path = self.folder / f"{shard['name']}.parquet"
        footer = f"{path.name} footer"
        if path.name not in self._sound and footer not in self._sound:
            if footer_sha256(path) != shard["footer_sha256"]:
                raise _corrupt(path)
            self._sound.add(footer)
        return path

    def _checked(self, shard: Mapping[str, Any], suffix: str) -> Path:
        path = self.folder / f"{shard['name']}.{suffix}"
        if path.name not in self._sound:
            if sha256(path) != shard[f"{FILES[suffix]}_sha256"]:
                raise _corrupt(path)
            self._sound.add(path.name)
        return path

    @cached_property
    def provenance(self) -> Provenance:
        """What made it."""
        return Provenance.read(self.manifest["made_by"])

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    @cached_property
    def columns(self) -> pa.Table:
        """id and the facts about each row."""
        tables = [read_columns(self._checked(shard, "parquet")) for shard in self.manifest["shards"]]
        return pa.concat_tables(tables) if tables else pa.table({"id": pa.array([], pa.string())})

    @cached_property
    def ids(self) -> list[str]:
        return list(self.columns["id"].to_pylist())

    def vectors(self, dtype: str = "float32") -> Floats:
        """All vectors, (rows, dim)."""
        whole = np.empty((len(self), self.manifest["dim"]), dtype)
        start = 0
        code = LowRankCode.read(self.manifest["code"]) if "code" in self.manifest else None
        for shard in self.manifest["shards"]:
            part = safetensors.numpy.load_file(self._checked(shard, "safetensors"))["vectors"]
            whole[start : start + len(part)] = code.decode(part) if code else part
            start += len(part)
        return whole


def read_plan(path: Path) -> dict[str, Any]:
    """A plan or manifest as this version would write it.

    Raises:
        StoreCorrupt, StoreError: it cannot be read.
    """
    plan = read_sealed(path, FORMAT)
    return plan | {"made_by": Provenance.read(plan.get("made_by", {})).json()}


def _corrupt(path: Path) -> StoreCorrupt:
    return StoreCorrupt(f"{path}: its bytes are not those that were written. Make the store again.")
