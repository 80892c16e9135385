"""The verbs of the index as functions: make it, change it, score all of it.

Each writes into one folder, which it claims, and leaves its numbers in `metrics.json` there.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from influcoder.data.examples import Example
from influcoder.indexes import build as indexing
from influcoder.indexes.build import Choice
from influcoder.indexes.change import change, made_searchable
from influcoder.indexes.index import Index
from influcoder.model.decoder import Decoder
from influcoder.progress import progress
from influcoder.runners.runner import InProcess, Runner
from influcoder.store.files import atomic_file, write_json
from influcoder.store.output_folder import Folder
from influcoder.student.encoder import InfluenceEncoder


def index(
    encoder: InfluenceEncoder,
    pool: Iterable[Example],
    folder: Folder,
    *,
    code: Choice = "auto",
    approximate: bool = False,
    runner: Runner = InProcess(),  # noqa: B008 - holds nothing
) -> dict[str, Any]:
    """Embed `pool`, which may be a stream, and make it searchable.

    Args:
        code: how vectors are stored; "auto" takes the smallest that keeps the rankings of the first rows.
        approximate: make an IVF-PQ index beside it, which answers faster and not always alike.
        runner: who makes the shards.
    """
    began = time.perf_counter()
    with folder.claim() as path:
        store, measured = indexing.build(encoder, pool, path, code=code, share=folder.share, runner=runner)
        if store is None:
            return {"unfinished": "other shards are still to be made; the last of them finishes the index"}
        built = Index(path, decoder=encoder.decoder)
        metrics: dict[str, Any] = {"rows": len(built), "dim": built.dim}
        metrics |= {"code": built.code.name, "bytes_per_example": built.code.bytes}
        metrics |= {"codes": measured} if measured else {}
        metrics["seconds"] = round(time.perf_counter() - began, 2)
        metrics |= made_searchable(built, approximate)
        write_json(path / "metrics.json", metrics)
    return metrics


def change_index(
    folder: Path,
    *,
    add: Iterable[Example] | None = None,
    remove: Sequence[str] = (),
    approximate: bool = False,
    decoder: Decoder | None = None,
) -> dict[str, Any]:
    """Append rows to a finished index, or forget some; a reader sees it as it was or as it is, nothing between.

    Args and behaviour are those of `influcoder.indexes.change.change`.
    """
    return change(Index(folder, decoder=decoder), add=add, remove=remove, approximate=approximate)[1]


def score(index: Index, queries: Sequence[Example], folder: Folder, *, where: str | None = None) -> dict[str, Any]:
    """Write the score of every row for every query as `scores.parquet`: id, and a column `score:ID` a query.

    Rows are read, scored and written a shard at a time, so that memory does not grow with the pool.
    """
    vectors = index.encoder.encode_query(queries)
    names = [f"score:{query.id}" for query in queries]
    schema = pa.schema([("id", pa.string()), *((name, pa.float32()) for name in names)])
    began, rows = time.perf_counter(), 0
    with folder.claim() as path:
        with (  # the file is put in place once the writer has written its footer
            atomic_file(path / "scores.parquet") as file,
            pq.ParquetWriter(file, schema, write_page_checksum=True) as writer,
            progress("scoring the pool", len(index)) as advance,
        ):
            for ids, scores in index.iter_scores(vectors, where=where):
                columns = [ids.combine_chunks(), *map(pa.array, scores)]
                writer.write_batch(pa.record_batch(columns, schema=schema))
                rows += len(ids)
                advance(len(ids))
        metrics = {"rows": rows, "queries": len(queries), "seconds": round(time.perf_counter() - began, 3)}
        write_json(path / "metrics.json", metrics)
    return metrics
