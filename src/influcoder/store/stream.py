"""Writes a store of rows that come one after the other, of which no one knows how many, and changes a finished one.

    plan.json          what is being made; there only until the store is complete
    code.safetensors   the scales of its code, where it has any
    shard-*            as in `influcoder.store.store`; each remembers a hash of the rows it was made from
    manifest.json      the shards that count, in order; replaced in one step by every change

A shard that no manifest names does not count: it is what a run that was stopped has left. So a reader finds the
store as it was before a change or as it is after it, at whatever moment the writer is killed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from influcoder.errors import StoreCorrupt, StoreError, StoreMismatch
from influcoder.provenance import Provenance, refuse_difference
from influcoder.store.codes import Code, reach
from influcoder.store.files import atomic_write, read_sealed, write_sealed
from influcoder.store.shards import is_there, map_vectors, shard_entry, shard_name, write_shard
from influcoder.store.store import FORMAT, Store, read_plan
from influcoder.version import __version__

CODE = "code.safetensors"
GROUP_ROWS = 1024
"""rows whose columns are read together"""
_GROWING = ("shards", "rows", "next", "changes", "sha256")
"""what a manifest says beyond the plan"""


class StreamWriter:
    """Writes shards as their rows come by; those of an earlier run of the same plan are kept.

    Args:
        folder: where; made if missing. The caller holds it with `atomic.claim`.
        kind: what the vectors are, e.g. "embeddings".
        code: how they are stored.
        provenance: everything that changes the numbers; compared when a run is resumed.
        shard_rows: rows a shard.

    Raises:
        StoreMismatch: the folder holds the beginning of another plan, or a store that was changed since.
    """

    def __init__(self, folder: Path, *, kind: str, code: Code, provenance: Provenance, shard_rows: int) -> None:
        self.folder, self.code = folder, code
        folder.mkdir(parents=True, exist_ok=True)
        self.plan: dict[str, Any] = {
            "format": FORMAT,
            "kind": kind,
            "dim": code.dim,
            "dtype": code.dtype,
            "shard_rows": shard_rows,
            "code": {"name": code.name, "scale": _digest(code)},
            "made_by": provenance.json(),
            "package": __version__,
        }
        for name in ("manifest.json", "plan.json"):
            if (folder / name).exists():
                earlier = read_plan(folder / name)
                if earlier.get("changes"):
                    raise StoreMismatch(
                        f"{folder}: rows were added to or removed from it since it was made. Add the new rows with "
                        "--add, or give --overwrite."
                    )
                before = {key: value for key, value in earlier.items() if key not in _GROWING}
                refuse_difference(f"{folder}: cannot go on with this store", before, self.plan)
        if not (folder / "manifest.json").exists():
            write_sealed(folder / "plan.json", self.plan)
            write_code(folder, code)

    def holds(self, number: int, stamp: str) -> bool:
        """Whether a shard is in place already.

        Raises:
            StoreMismatch: it is, but of other rows than those that `stamp` is the hash of.
        """
        if not is_there(self.folder, shard_name(number)):
            return False
        there = _stamp(self.folder, number)
        if there != stamp:
            raise StoreMismatch(
                f"{self.folder}/{shard_name(number)}: made from rows with hash {there[:12]}, the input has "
                f"{stamp[:12]} in their place now. Give the same files in the same order, or --overwrite."
            )
        return True

    def write(
        self, number: int, ids: Sequence[str], vectors: NDArray[np.float32], columns: Mapping[str, Any], stamp: str
    ) -> None:
        """Store the vectors, (n, dim), of a shard's rows, and their columns.

        Raises:
            StoreError: a vector is not finite, or the disk refuses.
        """
        write_coded(self.folder, number, self.code, ids, vectors, columns, stamp)

    def finish(self, rows: Sequence[int]) -> Store | None:
        """Write the manifest, which makes the store readable, and open it; nothing while others still write shards.

        Args:
            rows: of each shard.

        Raises:
            StoreMismatch: the store was finished with other rows.
        """
        names = [shard_name(number) for number in range(len(rows))]
        if not all(is_there(self.folder, name) for name in names):
            return None
        if (self.folder / "manifest.json").exists():
            there = Store(self.folder, lazily=True)
            what = f"{self.folder}: cannot go on with this store"
            refuse_difference(what, {"rows": len(there)}, {"rows": sum(rows)})
            return there
        shards = [shard_entry(self.folder, name, count) for name, count in zip(names, rows, strict=True)]
        facts = {"rows": sum(rows), "shards": shards, "next": len(shards), "changes": 0}
        write_sealed(self.folder / "manifest.json", self.plan | facts)
        (self.folder / "plan.json").unlink(missing_ok=True)
        sweep(self.folder)
        return Store(self.folder, lazily=True)


def write_coded(
    folder: Path,
    number: int,
    code: Code,
    ids: Sequence[str],
    vectors: NDArray[np.float32],
    columns: Mapping[str, Any],
    stamp: str,
) -> None:
    """Put a shard of vectors, (n, dim), in place as its code stores them."""
    stored = code.encode(vectors)
    finite = np.isfinite(vectors if stored.dtype.kind != "f" else stored).all(axis=1)
    if not finite.all():
        raise StoreError(f"{folder}: the vector of {ids[int(np.argmin(finite))]!r} is not finite in {code.dtype}.")
    write_stored(folder, number, code, stored, pa.table({"id": pa.array(ids, pa.string()), **columns}), stamp)


def write_stored(
    folder: Path, number: int, code: Code, stored: NDArray[Any], table: pa.Table, stamp: str
) -> dict[str, Any]:
    """Put a shard of stored vectors in place; returns its entry of a manifest."""
    facts = {"reach": reach(code, stored), "rows": stamp}
    name = shard_name(number)
    write_shard(folder, name, np.ascontiguousarray(stored), table, facts=facts, group_rows=GROUP_ROWS)
    return shard_entry(folder, name, len(stored))


def left_over(folder: Path, number: int, stamp: str) -> bool:
    """Whether a stopped run has left this very shard, of the rows that `stamp` is the hash of."""
    return is_there(folder, shard_name(number)) and _stamp(folder, number) == stamp


def change(store: Store, shards: Sequence[Mapping[str, Any]], following: int) -> Store:
    """Let these shards, and no others, be the store: in one step. The files of the others are deleted.

    Args:
        shards: their entries, in order.
        following: the number of the next shard; none is used twice.
    """
    facts = {"shards": list(shards), "rows": sum(one["rows"] for one in shards), "next": following}
    manifest = {key: value for key, value in store.manifest.items() if key != "sha256"}
    write_sealed(store.folder / "manifest.json", manifest | facts | {"changes": manifest["changes"] + 1})
    sweep(store.folder)
    return Store(store.folder, lazily=True)


def sweep(folder: Path) -> None:
    """Delete the shards that the manifest does not name."""
    counted = {shard["name"] for shard in read_sealed(folder / "manifest.json", FORMAT)["shards"]}
    for path in folder.glob("shard-*"):
        if path.name.split(".")[0] not in counted:
            path.unlink(missing_ok=True)


def read_code(store: Store) -> Code:
    """The code that a store was written with.

    Raises:
        StoreMismatch: written by an earlier version, without one.
        StoreCorrupt: its scales are missing or not those that were written.
    """
    said = store.manifest.get("code", {})
    if "scale" not in said:
        raise StoreMismatch(f"{store.folder}: made by an earlier version that kept no code. Index the pool again.")
    if said["name"] == "float16":
        return Code("float16", np.ones(store.manifest["dim"], np.float32))
    path = store.folder / CODE
    try:
        code = Code(said["name"], safetensors.numpy.load_file(path)["scale"])
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise StoreCorrupt(f"{path}: cannot be read ({error}). Index the pool again.") from error
    if _digest(code) != said["scale"]:
        raise StoreCorrupt(f"{path}: its bytes are not those that were written. Index the pool again.")
    return code


def write_code(folder: Path, code: Code) -> None:
    """Keep the scales of a code, where it has any, beside the shards."""
    if code.name != "float16":
        atomic_write(folder / CODE, safetensors.numpy.save({"scale": code.scale}))


def _stamp(folder: Path, number: int) -> str:
    return str(map_vectors(folder / f"{shard_name(number)}.safetensors")[1].get("rows"))


def _digest(code: Code) -> str:
    return "" if code.name == "float16" else hashlib.sha256(code.scale.tobytes()).hexdigest()
