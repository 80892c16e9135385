"""How an index is made and changed: rows are streamed, embedded one shard at a time, and dropped from memory.

Memory holds one shard of examples and 8 bytes of hash per id (`influcoder.data.seen_ids`), whatever the corpus.
"""

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from influcoder.data.columns import data_fingerprint, to_columns
from influcoder.data.examples import Example
from influcoder.data.original import origin_of
from influcoder.data.seen_ids import SeenIds
from influcoder.errors import ConfigError, DataError
from influcoder.indexes.filters import metadata_columns
from influcoder.maths.arrays import Floats
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.progress import progress
from influcoder.provenance import Provenance
from influcoder.runners.runner import Advance, InProcess, Runner, refuse_given_up
from influcoder.runners.share import Share
from influcoder.store.change import change, left_over
from influcoder.store.output_folder import remove_half_written
from influcoder.store.scalar_code import CODES, CodeName, ScalarCode
from influcoder.store.shards import SOURCE, shard_entry, shard_name, write_shard
from influcoder.store.store import Store
from influcoder.store.writer import Shard, StoreWriter, write_vectors
from influcoder.student.encoder import InfluenceEncoder

SHARD_ROWS = 32768
SAMPLE_ROWS = 4096
"""the first rows of the pool: the code is fitted to them"""
LEAST_RECALL, LEAST_SPEARMAN = 0.95, 0.99
"""of a code that `auto` may choose, against float32"""
QUERY_ROWS = 64
"""rows that are used as queries, to measure how well rankings are kept"""
Choice = CodeName | Literal["auto"]


def build(
    encoder: InfluenceEncoder,
    pool: Iterable[Example],
    folder: Path,
    *,
    code: Choice = "float16",
    share: Share = Share(),  # noqa: B008 - frozen
    runner: Runner = InProcess(),  # noqa: B008 - holds nothing
    shard_rows: int = SHARD_ROWS,
) -> tuple[Store | None, dict[str, Any]]:
    """Embed `pool` into `folder`, which the caller has claimed; resumes an earlier run.

    Args:
        code: how vectors are stored; "auto" takes the smallest that keeps the rankings of the first `SAMPLE_ROWS`
            rows, and float16 for a smaller pool.
        share: which shards this process makes. Every process reads all rows.
        runner: who makes them; the rows are read here.

    Returns:
        The store, or None while other processes still write shards of it; and the measured quality of the codes.

    Raises:
        StoreMismatch: the folder holds the beginning of another index.
        WorkerError: some shards were given up; all others are finished.
    """
    rows = iter(pool)
    sample = list(islice(rows, SAMPLE_ROWS))
    chosen, measured = _code(encoder, sample, code)
    if share.index == 0:
        encoder.save(folder / "encoder")
    provenance = Provenance(encoder=encoder.fingerprint)
    path = folder.absolute()
    writer = StoreWriter(path, kind="embeddings", code=chosen, provenance=provenance, shard_rows=shard_rows)
    with progress("embedding the pool", _length(pool)) as advance:

        def missing() -> Iterator[Part]:
            for part in parts_of(chain(sample, rows), shard_rows):
                shard = writer.next_shard(len(part))
                if share.has(shard.number) and not writer.holds(shard, source := data_fingerprint(part)):
                    yield Part(shard, part, source)
                else:
                    advance(len(part))

        failed = runner.run(IndexJob(encoder, writer), missing(), advance)
    if share.count == 1:
        remove_half_written(folder)  # of workers that were killed
    refuse_given_up(failed, lambda part: folder / part.shard.name, "fewer --workers")
    return None if any(writer.missing()) else writer.finish(), measured


def add(store: Store, encoder: InfluenceEncoder, pool: Iterable[Example]) -> tuple[Store, dict[str, int]]:
    """Append the examples of `pool` whose id is not in the store yet; the caller claims its folder.

    A known id is left as it is and counted, so a stopped run can be started again.

    Returns:
        The store as it is now; how many rows were added, and how many were known.
    """
    ids, known, added, code = SeenIds(), 0, 0, store.code(CODES)
    for shard in store.manifest["shards"]:
        for name in store.some(shard, ["id"])["id"].to_pylist():
            ids.add(name)
    shards, number = list(store.manifest["shards"]), store.manifest["next"]

    def new_examples() -> Iterator[Example]:
        nonlocal known
        for example in pool:
            if example.id in ids:
                known += 1
            else:
                yield example

    with progress("embedding new rows", _length(pool)) as advance:
        for part in parts_of(new_examples(), store.manifest["shard_rows"]):
            name, source = shard_name(number), data_fingerprint(part)
            if not left_over(store.folder, name, source):
                write_vectors(store.folder, name, code, embed(encoder, part), shard_columns(part), source)
            shards.append(shard_entry(store.folder, name, len(part)))
            number, added = number + 1, added + len(part)
            advance(len(part))
    changed = change(store, shards, number) if added else store
    return changed, {"added": added, "already_there": known}


def remove(store: Store, ids: Sequence[str]) -> tuple[Store, dict[str, int]]:
    """Delete rows: the shards that hold them are rewritten without them, and the old files are deleted.

    Returns:
        The store as it is now; how many rows were removed, and how many ids it does not hold.
    """
    code, unwanted, removed = store.code(CODES), pa.array(sorted(set(ids)), pa.string()), 0
    shards, number = [], store.manifest["next"]
    with progress("looking for rows", len(store)) as advance:
        for shard in store.manifest["shards"]:
            kept = np.flatnonzero(~pc.is_in(store.some(shard, ["id"])["id"], unwanted).to_numpy())
            if len(kept) == shard["rows"]:
                shards.append(shard)
            elif len(kept):
                name, stored = shard_name(number), store.mapped(shard)[0][kept]
                facts = {**code.facts(stored), SOURCE: ""}
                write_shard(store.folder, name, stored, store.some(shard).take(kept), facts)
                shards.append(shard_entry(store.folder, name, len(kept)))
                number += 1
            removed += shard["rows"] - len(kept)
            advance(shard["rows"])
    changed = change(store, shards, number) if removed else store
    return changed, {"removed": removed, "not_there": len(unwanted) - removed}


def measure_codes(encoder: InfluenceEncoder, sample: Sequence[Example], vectors: Floats) -> dict[str, dict[str, float]]:
    """How well each code keeps the rankings of a sample, (n, dim) in float32, by some of its examples as queries.

    Bytes per example; recall of the ten best; mean per-query Spearman ρ of the scores.
    """
    queries = encoder.encode_query([sample[row] for row in query_rows(len(sample))])
    truth = queries @ vectors.T
    best = np.argsort(-truth, axis=1, kind="stable")[:, :10]
    measured = {}
    for name in get_args(CodeName):
        code = ScalarCode.fit(name, vectors)
        scores = queries @ code.decode(code.encode(vectors)).T
        top = np.argsort(-scores, axis=1, kind="stable")[:, : best.shape[1]]
        recall = np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in zip(best, top, strict=True)])
        rho = float(np.mean(spearman_rows(truth, scores))) if len(sample) > 1 else 1.0
        measured[name] = {"bytes": code.bytes, "recall_at_10": float(recall), "per_query_spearman": rho}
    return measured


def query_rows(count: int) -> list[int]:
    """At most `QUERY_ROWS` row numbers, evenly spaced over `count` rows."""
    return [int(row) for row in np.linspace(0, count - 1, min(QUERY_ROWS, count))]


def choose_code(measured: dict[str, dict[str, float]]) -> CodeName:
    """The code of fewest bytes that keeps the rankings; float16 where none does."""
    for name in ("int4", "int8"):
        quality = measured[name]
        if quality["recall_at_10"] >= LEAST_RECALL and quality["per_query_spearman"] >= LEAST_SPEARMAN:
            return name  # type: ignore[return-value]
    return "float16"


def _code(encoder: InfluenceEncoder, sample: Sequence[Example], choice: Choice) -> tuple[ScalarCode, dict[str, Any]]:
    if choice == "auto" and len(sample) < SAMPLE_ROWS:
        choice = "float16"  # too few rows to judge by, and nothing worth saving
    if choice == "float16":
        return ScalarCode.fit(choice, np.zeros((0, encoder.dim), np.float32)), {}
    if not sample:
        raise DataError("the pool is empty, so no code can be fitted to it. Expected at least one example.")
    vectors = embed(encoder, sample)
    measured = measure_codes(encoder, sample, vectors) if choice == "auto" else {}
    return ScalarCode.fit(choose_code(measured) if choice == "auto" else choice, vectors), measured


def _length(pool: Iterable[Example]) -> int | None:
    return len(pool) if isinstance(pool, Sequence) else None


AT_ONCE = 2048
"""rows that are embedded together"""
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Part:
    """A shard, its examples and their hash."""

    shard: Shard
    examples: list[Example]
    source: str


@dataclass(frozen=True)
class IndexJob:
    """Embeds examples and writes them into the store of an index.

    Attributes:
        encoder: what embeds them. A worker loads its own from the same folder.
        writer: of the store.
    """

    encoder: "InfluenceEncoder | _EncoderSource"
    writer: StoreWriter

    def make(self) -> Callable[[Part, Advance], None]:
        """What embeds and writes a part, and then forgets its examples.

        Raises:
            StoreMismatch: the worker's encoder is not that of the job.
        """
        encoder = self.encoder.load() if isinstance(self.encoder, _EncoderSource) else self.encoder

        def work(part: Part, advance: Advance) -> None:
            rows = part.examples
            self.writer.write(part.shard, embed(encoder, rows), shard_columns(rows), part.source)
            advance(len(rows))
            rows.clear()  # before the next shard is read, not after
            pa.default_memory_pool().release_unused()

        return work

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to a worker: no model."""
        if isinstance(self.encoder, _EncoderSource):
            return vars(self)
        return vars(self) | {"encoder": _EncoderSource.of(self.encoder)}


@dataclass(frozen=True, slots=True)
class _EncoderSource:
    """Where a worker loads the same encoder from."""

    folder: Path
    decoder: Callable[[], Decoder] | None
    fingerprint: str

    @classmethod
    def of(cls, encoder: InfluenceEncoder) -> "_EncoderSource":
        if encoder.folder is None:
            raise ConfigError(
                "the encoder was made in memory, where no worker finds it. Save it and load it with "
                "InfluenceEncoder.load."
            )
        return cls(encoder.folder, encoder.decoder.load_again if encoder.decoder else None, encoder.fingerprint)

    def load(self) -> InfluenceEncoder:
        encoder = InfluenceEncoder.load(self.folder, decoder=self.decoder() if self.decoder else None)
        own, message = encoder.fingerprint, f"the worker on {socket.gethostname()} has another encoder"
        wanted = Provenance(encoder=self.fingerprint)
        wanted.refuse_other(Provenance(encoder=own), message, "Give all machines the same files.")
        return encoder


def embed(encoder: InfluenceEncoder, examples: Sequence[Example]) -> Floats:
    """(n, dim) vectors of pool examples, embedded `AT_ONCE` at a time."""
    vectors = np.empty((len(examples), encoder.dim), np.float32)
    for start in range(0, len(examples), AT_ONCE):
        vectors[start : start + AT_ONCE] = encoder.encode_pool(examples[start : start + AT_ONCE])
    return vectors


def shard_columns(examples: Sequence[Example]) -> dict[str, Any]:
    """What an index stores of its rows beside the vectors: ids, texts, metadata, and how to restore the row."""
    ids = pa.array([example.id for example in examples], pa.string())
    origins = [origin_of(example) for example in examples]
    return {"id": ids, **to_columns(examples), "origin": origins, **metadata_columns(examples)}


def parts_of(rows: "Sequence[Row] | Iterator[Row]", size: int) -> Iterator[list[Row]]:
    """Rows in lists of `size`, the last one shorter."""
    iterator = iter(rows)
    while part := list(islice(iterator, size)):
        yield part
