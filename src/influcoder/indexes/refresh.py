"""Refreshes a finished index: only what changed is embedded, and the old one is served until the new one is complete.

New shards are written beside the old ones, a new encoder beside the old one; then the manifest is replaced in one step.
The files of the earlier manifest stay until the next refresh, so that readers that opened it can continue.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.numpy
from numpy.typing import NDArray

from influcoder.data.columns import data_fingerprint, from_columns
from influcoder.data.examples import Example
from influcoder.indexes.build import SAMPLE_ROWS, embed, parts_of, shard_columns
from influcoder.indexes.change import made_searchable
from influcoder.indexes.index import Index
from influcoder.indexes.own_encoder import encoder_folder
from influcoder.indexes.texts import EXAMPLE
from influcoder.progress import progress
from influcoder.provenance import Provenance
from influcoder.store.change import change, left_over
from influcoder.store.files import atomic_write, write_json
from influcoder.store.output_folder import Folder
from influcoder.store.scalar_code import ScalarCode
from influcoder.store.shards import SOURCE, shard_entry, shard_name, source_of, write_shard
from influcoder.store.store import Store
from influcoder.student.encoder import InfluenceEncoder


def refresh(
    index: Index, encoder: InfluenceEncoder, pool: Iterable[Example] | None = None, *, approximate: bool = False
) -> tuple[Index, dict[str, Any]]:
    """Update an index to its pool and its encoder; it then has the rows of `pool`, in their order.

    Rows whose text is unchanged keep their vectors if the encoder is the same; shards in which nothing changed are
    not rewritten. A stopped run can be started again with the same arguments.

    Args:
        pool: the rows as they are now; those that the index has when omitted.
        approximate: make the IVF-PQ index, of the rows after the refresh.

    Returns:
        The index as it is now; how many rows it has, and how many were embedded and how many kept their vectors.
    """
    with Folder(index.folder, resume=True).claim() as path:
        before = index.reopened()
        store, counts = _refreshed(before, encoder, pool)
        changed = Index(store.folder, decoder=encoder.decoder)
        metrics = {"rows": len(changed), **counts, **made_searchable(changed, approximate)}
        write_json(path / "metrics.json", metrics)
    return changed, metrics


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of a new shard: its columns, the examples, and a hash of them."""

    table: pa.Table
    examples: Sequence[Example]
    source: str


def _refreshed(index: Index, encoder: InfluenceEncoder, pool: Iterable[Example] | None) -> tuple[Store, dict[str, int]]:
    store = index.store
    same = store.provenance.encoder == encoder.fingerprint
    sample: list[Example] = []
    rows = None if pool is None else iter(pool)
    if not same and index.code.name != "float16":  # a code with scales is fitted to vectors of the new encoder
        sample = list(islice(index.examples() if rows is None else rows, SAMPLE_ROWS))
    code = index.code if same else _fitted(index.code, encoder, sample)
    vectors = _VectorRows.of(index) if same else None
    known_shards = {_rows_hash(store, shard): shard for shard in store.manifest["shards"]} if same else {}
    parts = _indexed_parts(index) if rows is None else _parts(chain(sample, rows), store.manifest["shard_rows"])
    shards, number, embedded, unchanged = [], store.manifest["next"], 0, 0
    with progress("refreshing", len(store) if pool is None else None) as advance:
        for part in parts:
            if part.source in known_shards:
                shards.append(known_shards[part.source])
                unchanged += len(part.examples)
            else:
                name, source = shard_name(number), f"{part.source}:{encoder.fingerprint}"
                old_rows = np.full(len(part.examples), -1) if vectors is None else vectors.find(part.examples)
                if not left_over(store.folder, name, source):
                    stored = _stored(index, code, encoder, part.examples, old_rows)
                    write_shard(store.folder, name, stored, part.table, {**code.facts(stored), SOURCE: source})
                shards.append(shard_entry(store.folder, name, len(part.examples)))
                number, unchanged = number + 1, unchanged + int((old_rows >= 0).sum())
                embedded += int((old_rows < 0).sum())
            advance(len(part.examples))
    counts = {"embedded": embedded, "unchanged": unchanged}
    if shards == store.manifest["shards"]:
        return store, counts
    return _swap(store, encoder, code, shards, number), counts


def _swap(
    store: Store, encoder: InfluenceEncoder, code: ScalarCode, shards: Sequence[dict[str, Any]], number: int
) -> Store:
    """Replace the shards and the encoder of the index; the files of the last manifest stay for its readers."""
    folder, old = store.folder, store.provenance.encoder or ""
    encoders = {encoder_folder(folder, old)}
    facts: dict[str, Any] = {}
    if old != encoder.fingerprint:
        path = encoder_folder(folder, encoder.fingerprint, new=True)
        encoder.save(path)
        encoders.add(path)
        made_by = Provenance(encoder=encoder.fingerprint).json()
        facts = {"made_by": made_by, "dim": code.dim, "dtype": code.dtype, "code": code.spec}
        if code.arrays:
            facts["code_file"] = f"code-{code.spec['scale'][:12]}.safetensors"
            atomic_write(folder / facts["code_file"], safetensors.numpy.save(dict(code.arrays)))
    changed = change(store, shards, number, facts, keep_earlier=True)
    for path in (folder / "encoder", *folder.glob("encoder-*")):
        if path not in encoders:
            shutil.rmtree(path, ignore_errors=True)
    return changed


def _parts(rows: Iterator[Example], size: int) -> Iterator[_Part]:
    for part in parts_of(rows, size):
        yield _Part(pa.table(shard_columns(part)), part, data_fingerprint(part))


def _indexed_parts(index: Index) -> Iterator[_Part]:
    """The rows that the index has, with all their columns."""
    for shard in index.shards:
        table = index.store.some(shard)
        examples = [from_columns(row) for row in table.select(EXAMPLE).to_pylist()]
        yield _Part(table, examples, _rows_hash(index.store, shard))


def _rows_hash(store: Store, shard: dict[str, Any]) -> str:
    """The hash of the rows of a shard; its own name where rows were removed from it."""
    return source_of(store.folder, shard["name"]).split(":")[0] or shard["name"]


def _fitted(code: ScalarCode, encoder: InfluenceEncoder, sample: Sequence[Example]) -> ScalarCode:
    vectors = embed(encoder, sample) if sample else np.zeros((0, encoder.dim), np.float32)
    return ScalarCode.fit(code.name, vectors)


def _stored(
    index: Index,
    code: ScalarCode,
    encoder: InfluenceEncoder,
    examples: Sequence[Example],
    old_rows: NDArray[np.int64],
) -> NDArray[Any]:
    """Vectors as the code stores them: copied from the old rows, embedded from their text where that is -1."""
    new = np.flatnonzero(old_rows < 0)
    embedded = code.encode(embed(encoder, [examples[int(row)] for row in new])).astype(code.dtype, copy=False)
    stored = np.empty((len(examples), embedded.shape[1]), embedded.dtype)
    stored[new] = embedded
    old = np.flatnonzero(old_rows >= 0)
    if len(old):
        stored[old] = index.stored(old_rows[old])
    return stored


@dataclass(frozen=True, slots=True)
class _VectorRows:
    """The row of each text's vector: 16 bytes per row.

    Attributes:
        keys: (n,) hashes of texts, in order; rows: (n,) the row of each in the index.
    """

    keys: NDArray[np.uint64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, index: Index) -> "_VectorRows":
        keys = np.fromiter(map(_key, index.examples()), np.uint64, len(index))
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], order)

    def find(self, examples: Sequence[Example]) -> NDArray[np.int64]:
        """The row that has the vector of each text; -1 for none."""
        keys = np.fromiter(map(_key, examples), np.uint64, len(examples))
        if not len(self.keys):
            return np.full(len(keys), -1)
        nearest = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[nearest] == keys, self.rows[nearest], -1)


def _key(example: Example) -> int:
    """A hash of what an encoder reads of an example; the chance that two of n collide is n² / 2⁶⁵."""
    text = Example("", example.prompt, example.completion, turns=example.turns)
    return int(data_fingerprint([text])[:16], 16)
