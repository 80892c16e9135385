"""A store: a folder of vectors with ids, written shard by shard, that is complete, resumable and checked.

    plan.json                 what is being made; there only until the store is complete
    shard-00000.safetensors   {"vectors": (rows, dim)}
    shard-00000.parquet       id and a column for each fact about the row (norm, token counts, flags)
    manifest.json             written last: what made it, rows and SHA-256 of every shard, its own SHA-256

A shard is complete or absent, and depends only on its own rows; so a killed run that is resumed gives the same bytes
as an uninterrupted one. Readers check every hash: on opening, or file by file as they are first read
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
from influcoder.store.shards import FILES, corrupt, footer_sha256, map_vectors, read_columns

FORMAT = 1
CODE = "code.safetensors"
"""the arrays of a store's code, if it has any"""


class Store:
    """A finished store.

    Args:
        lazily: check the size of every file on opening and its hash when it is first read, instead of all hashes at
            once; for stores of many gigabytes.

    Raises:
        StoreIncomplete: its run has not finished.
        StoreCorrupt: a shard is missing, cut or changed, or the manifest is damaged.
        StoreMismatch: it has another format version.
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
            for suffix, part in FILES.items():
                path = self.folder / f"{shard['name']}.{suffix}"
                if not path.exists():
                    raise StoreCorrupt(f"{path}: missing. Make the store again.")
                if path.stat().st_size != shard.get(f"{part}_bytes", path.stat().st_size):
                    raise corrupt(path)
        if not lazily:
            self.verify()

    def verify(self) -> None:
        """Check the hash of every file that this store has not checked yet.

        Raises:
            StoreCorrupt: a file is not as it was written.
        """
        for shard in self.manifest["shards"]:
            for suffix in FILES:
                self._checked(shard, suffix)

    def mapped(self, shard: Mapping[str, Any]) -> tuple[NDArray[Any], dict[str, Any]]:
        """A shard's vectors as they are stored, (rows, width), mapped into memory, and the facts about them.

        Raises:
            StoreCorrupt: the vectors, read for the first time, are not as they were written.
        """
        if shard["name"] not in self._mapped:  # mapped once, so that its pages cause no further page faults
            self._mapped[shard["name"]] = map_vectors(self._checked(shard, "safetensors"))
        return self._mapped[shard["name"]]

    def some(
        self, shard: Mapping[str, Any], columns: Sequence[str] | None = None, group: int | None = None
    ) -> pa.Table:
        """Some of a shard's columns, of all rows or of one row group; nothing else is read.

        Raises:
            StoreCorrupt: what is read is not as it was written.
        """
        return read_columns(self._with_checked_footer(shard), columns, group)

    def schema(self, shard: Mapping[str, Any]) -> pa.Schema:
        """The names and types of a shard's columns.

        Raises:
            StoreCorrupt: its footer is not as it was written.
        """
        return pq.read_schema(self._with_checked_footer(shard))

    def _with_checked_footer(self, shard: Mapping[str, Any]) -> Path:
        """The file of a shard's columns, after a check of its footer."""
        path = self.folder / f"{shard['name']}.parquet"
        footer = f"{path.name} footer"
        if path.name not in self._sound and footer not in self._sound:
            if footer_sha256(path) != shard["footer_sha256"]:
                raise corrupt(path)
            self._sound.add(footer)
        return path

    def _checked(self, shard: Mapping[str, Any], suffix: str) -> Path:
        path = self.folder / f"{shard['name']}.{suffix}"
        if path.name not in self._sound:
            if sha256(path) != shard[f"{FILES[suffix]}_sha256"]:
                raise corrupt(path)
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
            StoreMismatch: the caller cannot read it.
            StoreCorrupt: its arrays are missing or not as they were written.
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
            raise corrupt(path)
        return code

    def vectors(self, codes: Codes[VectorCode] = PLAIN) -> NDArray[np.float32]:
        """All vectors, (rows, dim); `codes` as in `code`."""
        vectors, start, code = np.empty((len(self), self.manifest["dim"]), np.float32), 0, self.code(codes)
        for shard in self.manifest["shards"]:
            stored = safetensors.numpy.load_file(self._checked(shard, "safetensors"))["vectors"]
            vectors[start : start + len(stored)] = code.decode(stored)
            start += len(stored)
        return vectors


def read_plan(path: Path) -> dict[str, Any]:
    """A plan or manifest as this version would write it.

    Raises:
        StoreCorrupt, StoreError: it cannot be read.
    """
    plan = read_sealed(path, FORMAT)
    return plan | {"made_by": Provenance.read(plan.get("made_by", {})).json()}
