"""A store: a folder of vectors with ids, written shard by shard, that is whole, resumable and checked.

    plan.json                 what is being made; there only until the store is complete
    shard-00000.safetensors   {"vectors": (rows, dim)}
    shard-00000.parquet       id and one column a fact about the row (norm, token counts, flags)
    manifest.json             written last: what made it, rows and SHA-256 of every shard, its own SHA-256

A shard is whole or absent, and depends on nothing but its own rows; so a killed run, resumed, gives the
same bytes as an undisturbed one. Readers check every hash: on opening, or file by file as they are first read
(docs/decisions/0012-when-hashes-are-checked.md). `influcoder.store.writer` writes stores, and
`influcoder.store.change` changes those that are finished.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from influcoder.errors import StoreCorrupt, StoreError, StoreIncomplete, StoreMismatch
from influcoder.provenance import Provenance
from influcoder.store.codes import PLAIN, AnyCode, Codes, VectorCode
from influcoder.store.files import read_sealed, sha256
from influcoder.store.shards import FILES, footer_sha256, map_vectors, read_columns

FORMAT = 1
CODE = "code.safetensors"
"""the arrays of a store's code, where it has any"""


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

    def code(self, codes: Codes[AnyCode]) -> AnyCode:
        """How vectors are stored.

        Args:
            codes: those that the caller can read, by name.

        Raises:
            StoreMismatch: it is none of them.
            StoreCorrupt: its arrays are missing or not those that were written.
        """
        spec = self.manifest.get("code", {})
        name, path = spec.get("name", "plain"), self.folder / self.manifest.get("code_file", CODE)
        if name not in codes:
            raise StoreMismatch(
                f"{self.folder}: its vectors are stored as {name!r}, expected one of {', '.join(codes)}. Make it again."
            )
        try:
            code = codes[name](self.manifest, safetensors.numpy.load_file(path) if path.exists() else {})
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            raise StoreCorrupt(f"{path}: cannot be read ({error}). Make the store again.") from error
        if code.spec != spec:
            raise _corrupt(path)
        return code

    def vectors(self, codes: Codes[VectorCode] = PLAIN) -> NDArray[np.float32]:
        """All vectors, (rows, dim); `codes` as in `code`."""
        whole, start, code = np.empty((len(self), self.manifest["dim"]), np.float32), 0, self.code(codes)
        for shard in self.manifest["shards"]:
            part = safetensors.numpy.load_file(self._checked(shard, "safetensors"))["vectors"]
            whole[start : start + len(part)] = code.decode(part)
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
