"""A store: a folder of vectors with ids, written shard by shard, that is whole, resumable and checked.

    plan.json                 what is being made; there only until the store is complete
    shard-00000.safetensors   {"vectors": (rows, dim)}
    shard-00000.parquet       id and one column a fact about the row (norm, token counts, flags)
    manifest.json             written last: what made it, rows and SHA-256 of every shard, its own SHA-256

A shard is whole or absent, and depends on nothing but its own rows; so a killed run, resumed, gives the
same bytes as an undisturbed one. Readers check every hash.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from numpy.typing import NDArray

from influcoder import __version__
from influcoder.atomic import atomic_write, sha256
from influcoder.errors import StoreCorrupt, StoreError, StoreIncomplete, StoreMismatch
from influcoder.lowrank import LowRankCode
from influcoder.sealed import read_sealed, write_sealed

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
        return f"shard-{self.number:05d}"


class StoreWriter:
    """Writes a store; what an earlier run of the same plan finished is kept.

    Args:
        folder: where; made if missing. The caller holds it with `atomic.claim`.
        kind: what the vectors are, e.g. "features".
        dim: numbers a vector.
        dtype: "float16" or "float32".
        ids: the id of every row, in order.
        made_by: everything that changes the numbers; compared when a run is resumed.
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
        made_by: Mapping[str, Any],
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
            "made_by": dict(made_by),
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
            if not all((self.folder / f"{shard.name}.{suffix}").exists() for suffix in ("safetensors", "parquet")):
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
        table = pa.table({"id": self.ids[shard.start : shard.stop], **columns})
        sidecar = io.BytesIO()
        pq.write_table(table, sidecar, write_page_checksum=True)
        atomic_write(self.folder / f"{shard.name}.safetensors", safetensors.numpy.save({"vectors": stored}))
        atomic_write(self.folder / f"{shard.name}.parquet", sidecar.getvalue())

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
            shards = [
                {
                    "name": shard.name,
                    "rows": shard.stop - shard.start,
                    "vectors_sha256": sha256(self.folder / f"{shard.name}.safetensors"),
                    "columns_sha256": sha256(self.folder / f"{shard.name}.parquet"),
                }
                for shard in self.shards
            ]
            write_sealed(self.folder / "manifest.json", self.plan | {"shards": shards})
        (self.folder / "plan.json").unlink(missing_ok=True)
        return Store(self.folder)

    def _check_earlier_plan(self) -> None:
        for name in ("manifest.json", "plan.json"):
            path = self.folder / name
            if path.exists():
                earlier = {
                    key: value for key, value in read_sealed(path, FORMAT).items() if key not in ("shards", "sha256")
                }
                refuse_difference(f"{self.folder}: cannot go on with this store", earlier, self.plan)


class Store:
    """A finished store, every hash checked on opening.

    Raises:
        StoreIncomplete: its run has not finished.
        StoreCorrupt: a shard is missing, cut, or changed, or the manifest is.
        StoreMismatch: of another format version.
    """

    def __init__(self, folder: str | Path) -> None:
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
        for shard in self.manifest["shards"]:
            for suffix, key in (("safetensors", "vectors_sha256"), ("parquet", "columns_sha256")):
                path = self.folder / f"{shard['name']}.{suffix}"
                if not path.exists():
                    raise StoreCorrupt(f"{path}: missing. Make the store again.")
                if sha256(path) != shard[key]:
                    raise StoreCorrupt(f"{path}: its bytes are not those that were written. Make the store again.")

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    @cached_property
    def columns(self) -> pa.Table:
        """id and the facts about each row."""
        tables = [pq.read_table(self.folder / f"{shard['name']}.parquet") for shard in self.manifest["shards"]]
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
            part = safetensors.numpy.load_file(self.folder / f"{shard['name']}.safetensors")["vectors"]
            whole[start : start + len(part)] = code.decode(part) if code else part
            start += len(part)
        return whole


def refuse_difference(
    what: str,
    earlier: Mapping[str, Any],
    now: Mapping[str, Any],
    remedy: str = "Use the same settings or give --overwrite.",
) -> None:
    """Compare two plans.

    Raises:
        StoreMismatch: they differ; every differing key is named with both values.
    """
    before, after = dict(_flat(earlier)), dict(_flat(now))
    differing = [
        f"{key}: {before.get(key)!r} there, {after.get(key)!r} now"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    if differing:
        raise StoreMismatch(f"{what}: {'; '.join(differing)}. {remedy}")


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield prefix + key, list(item) if isinstance(item, tuple) else item
