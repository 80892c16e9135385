"""How an index is made and changed: rows stream in, are embedded a shard at a time, and are dropped from memory.

What stays in memory is a shard of examples and 8 bytes of hash an id (`influcoder.seen`), whatever the corpus.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from influcoder.atomic import remove_half_written
from influcoder.codes import Code, CodeName, Floats
from influcoder.encoder import InfluenceEncoder
from influcoder.errors import DataError
from influcoder.examples import Example, data_fingerprint
from influcoder.index_job import IndexJob, Part, embed, parts_of, shard_columns
from influcoder.metrics import spearman_rows
from influcoder.progress import progress
from influcoder.runners import InProcess, Runner, Share, refuse_given_up
from influcoder.seen import SeenIds
from influcoder.shards import shard_entry, shard_name
from influcoder.store import Store
from influcoder.stream import StreamWriter, change, left_over, read_code, write_coded, write_stored

SHARD_ROWS = 32768
SAMPLE_ROWS = 4096
"""the first rows of the pool: the code is fitted to them"""
LEAST_RECALL, LEAST_SPEARMAN = 0.95, 0.99
"""of a code that `auto` may choose, against float32"""
ASKED = 64
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
    """Embed `pool` into `folder`, which the caller has claimed; goes on where an earlier run stopped.

    Args:
        code: how vectors are stored; "auto" takes the smallest that keeps the rankings of the first `SAMPLE_ROWS`
            rows, and float16 for a pool that is smaller.
        share: which shards are this process's to make. Every process reads all rows.
        runner: who makes them; the rows are read here.

    Returns:
        The store, or None while other processes still write shards of it; and what was measured of the codes.

    Raises:
        StoreMismatch: the folder holds the beginning of another index.
        WorkerError: some shards were given up; all others are there.
    """
    rows = iter(pool)
    sample = list(islice(rows, SAMPLE_ROWS))
    chosen, measured = _code(encoder, sample, code)
    if share.index == 0:
        encoder.save(folder / "encoder")
    made_by = {"encoder": encoder.fingerprint}
    writer = StreamWriter(folder.absolute(), kind="embeddings", code=chosen, made_by=made_by, shard_rows=shard_rows)
    sizes: list[int] = []
    with progress("embedding the pool", _length(pool)) as advance:

        def missing() -> Iterator[Part]:
            for number, part in enumerate(parts_of(chain(sample, rows), shard_rows)):
                sizes.append(len(part))
                if share.has(number) and not writer.holds(number, stamp := data_fingerprint(part)):
                    yield Part(number, part, stamp)
                else:
                    advance(len(part))

        failed = runner.run(IndexJob(encoder, writer), missing(), advance)
    if share.count == 1:
        remove_half_written(folder)  # of workers that were killed
    refuse_given_up(failed, lambda part: folder / shard_name(part.number), "fewer --workers")
    return writer.finish(sizes), measured


def add(store: Store, encoder: InfluenceEncoder, pool: Iterable[Example]) -> tuple[Store, dict[str, int]]:
    """Append the examples of `pool` whose id is not in the store yet; its folder is the caller's to claim.

    An id that is there already is left as it is and counted, so a stopped run is simply started again.

    Returns:
        The store as it is now; how many were added, and how many were there.
    """
    seen, there, added, code = SeenIds(), 0, 0, read_code(store)
    for names in _ids(store):
        for name in names.to_pylist():
            seen.add(name)
    shards, number = list(store.manifest["shards"]), store.manifest["next"]

    def fresh() -> Iterator[Example]:
        nonlocal there
        for one in pool:
            if one.id in seen:
                there += 1
            else:
                yield one

    with progress("embedding new rows", _length(pool)) as advance:
        for part in parts_of(fresh(), store.manifest["shard_rows"]):
            stamp = data_fingerprint(part)
            if not left_over(store.folder, number, stamp):
                vectors = embed(encoder, part)
                write_coded(store.folder, number, code, [one.id for one in part], vectors, shard_columns(part), stamp)
            shards.append(shard_entry(store.folder, shard_name(number), len(part)))
            number, added = number + 1, added + len(part)
            advance(len(part))
    changed = change(store, shards, number) if added else store
    return changed, {"added": added, "already_there": there}


def remove(store: Store, ids: Sequence[str]) -> tuple[Store, dict[str, int]]:
    """Forget rows: the shards that hold them are written again without them, and the old files are deleted.

    Returns:
        The store as it is now; how many were removed, and how many ids it does not hold.
    """
    code, gone, removed = read_code(store), pa.array(sorted(set(ids)), pa.string()), 0
    shards, number = [], store.manifest["next"]
    with progress("looking for rows", len(store)) as advance:
        for shard in store.manifest["shards"]:
            kept = np.flatnonzero(~pc.is_in(store.some(shard, ["id"])["id"], gone).to_numpy())
            if len(kept) == shard["rows"]:
                shards.append(shard)
            elif len(kept):
                stored, _ = store.mapped(shard)
                table = store.some(shard).take(kept)
                shards.append(write_stored(store.folder, number, code, stored[kept], table, ""))
                number += 1
            removed += shard["rows"] - len(kept)
            advance(shard["rows"])
    changed = change(store, shards, number) if removed else store
    return changed, {"removed": removed, "not_there": len(gone) - removed}


def measure_codes(encoder: InfluenceEncoder, sample: Sequence[Example], vectors: Floats) -> dict[str, dict[str, float]]:
    """What each code keeps of the rankings of a sample, (n, dim) in float32, by some of its examples as queries.

    Bytes an example; recall of the ten best; mean Spearman ρ of a query's scores.
    """
    asked = [sample[place] for place in np.linspace(0, len(sample) - 1, min(ASKED, len(sample))).astype(int)]
    queries = encoder.encode_query(asked)
    truth = queries @ vectors.T
    best = np.argsort(-truth, axis=1, kind="stable")[:, :10]
    found = {}
    for name in ("float16", "int8", "int4"):
        code = Code.fit(name, vectors)
        scores = queries @ code.decode(code.encode(vectors)).T
        top = np.argsort(-scores, axis=1, kind="stable")[:, : best.shape[1]]
        recall = np.mean([len(np.intersect1d(one, other)) / len(one) for one, other in zip(best, top, strict=True)])
        rho = float(np.mean(spearman_rows(truth, scores))) if len(sample) > 1 else 1.0
        found[name] = {"bytes": code.bytes, "recall_at_10": float(recall), "per_query_spearman": rho}
    return found


def choose_code(measured: dict[str, dict[str, float]]) -> CodeName:
    """The code of fewest bytes that keeps the rankings; float16 where none does."""
    for name in ("int4", "int8"):
        kept = measured[name]
        if kept["recall_at_10"] >= LEAST_RECALL and kept["per_query_spearman"] >= LEAST_SPEARMAN:
            return name  # type: ignore[return-value]
    return "float16"


def _code(encoder: InfluenceEncoder, sample: Sequence[Example], choice: Choice) -> tuple[Code, dict[str, Any]]:
    if choice == "auto" and len(sample) < SAMPLE_ROWS:
        choice = "float16"  # too few rows to judge by, and nothing worth saving
    if choice == "float16":
        return Code.fit(choice, np.zeros((0, encoder.dim), np.float32)), {}
    if not sample:
        raise DataError("the pool is empty, so no code can be fitted to it. Expected at least one example.")
    vectors = embed(encoder, sample)
    measured: dict[str, Any] = {}
    if choice == "auto":
        measured = measure_codes(encoder, sample, vectors)
        choice = choose_code(measured)
    return Code.fit(choice, vectors), measured


def _ids(store: Store) -> Iterator[pa.ChunkedArray]:
    for shard in store.manifest["shards"]:
        yield store.some(shard, ["id"])["id"]


def _length(pool: Iterable[Example]) -> int | None:
    return len(pool) if isinstance(pool, Sequence) else None
