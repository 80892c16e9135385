"""The verb `score`: the influence of every row of an index on every query."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.parquet as pq

from influcoder.attribution.search import asked_vectors
from influcoder.data.examples import Example
from influcoder.indexes.index import Index
from influcoder.progress import progress
from influcoder.store.files import atomic_file, write_json
from influcoder.store.output_folder import Folder, local_inputs
from influcoder.teachers.teacher import Teacher
from influcoder.verbs.opening import (
    AnyCheckpoints,
    AnyDecoder,
    AnyIndex,
    Rows,
    open_any_index,
    open_asking_teacher,
    open_whole_index,
    read_rows,
)

FILE = "scores.parquet"


@overload
def score(
    index: AnyIndex,
    queries: Rows,
    output_dir: None = ...,
    *,
    where: str | None = ...,
    decoder: AnyDecoder | None = ...,
    adapter: str | Path | None = ...,
    checkpoints: AnyCheckpoints | None = ...,
) -> pa.Table: ...


@overload
def score(
    index: AnyIndex,
    queries: Rows,
    output_dir: str | Path,
    *,
    where: str | None = ...,
    decoder: AnyDecoder | None = ...,
    adapter: str | Path | None = ...,
    checkpoints: AnyCheckpoints | None = ...,
    overwrite: bool = ...,
) -> Path: ...


def score(
    index: AnyIndex,
    queries: Rows,
    output_dir: str | Path | None = None,
    *,
    where: str | None = None,
    decoder: AnyDecoder | None = None,
    adapter: str | Path | None = None,
    checkpoints: AnyCheckpoints | None = None,
    overwrite: bool = False,
) -> Any:
    """Score every pool example for every query.

    Args:
        index: its folder, or the loaded `Index`.
        queries: files, a list of rows or of `Example`s, or a `datasets.Dataset`.
        output_dir: write the scores there as scores.parquet instead, in memory that does not grow with the pool.
        where: score only rows whose metadata meets this, such as "genre=code,tokens<200".
        decoder: the one that the encoder was distilled from: the queries' own gradients are then used, and an encoder
            of the short or forward tier needs it.
        adapter: a LoRA adapter of a decoder that is not loaded yet.
        checkpoints: those that the teacher took gradients from, if any.
        overwrite: empty `output_dir` first.

    Returns:
        A `pyarrow.Table` with the column id, and a float32 column score:ID for each query; or the path of the
        scores.parquet that holds it.

    Raises:
        ConfigError: the index is in LanceDB, or `where` cannot be read.
        DataError, StoreError: queries or index cannot be read, or the folder cannot be written.
        StoreMismatch: the decoder is not the one that the encoder was distilled from.

    >>> import influcoder
    >>> influcoder.score("index", [{"id": "q", "question": "Two plus two?", "answer": "four"}]).column_names
    ['id', 'score:q']
    """
    opened, loaded = open_any_index(index, decoder, adapter)
    index, examples = open_whole_index(opened), read_rows(queries, "queries", loaded)
    teacher = open_asking_teacher(index.encoder, loaded, checkpoints)
    if output_dir is None:
        schema, batches = _scored(index, examples, teacher, where)
        return pa.Table.from_batches(batches, schema)
    inputs = local_inputs(index.folder, queries)
    folder = Folder(Path(output_dir), overwrite=overwrite, inputs=inputs)
    write_scores(index, examples, folder, teacher=teacher, where=where)
    return Path(output_dir) / FILE


def write_scores(
    index: Index,
    queries: Sequence[Example],
    folder: Folder,
    *,
    teacher: Teacher | None = None,
    where: str | None = None,
) -> dict[str, Any]:
    """Write the scores as `scores.parquet`; rows are read, scored and written a shard at a time.

    Args:
        teacher: takes the queries' gradients; without it they are read as text.
    """
    schema, batches = _scored(index, queries, teacher, where)
    began, rows = time.perf_counter(), 0
    with folder.claim() as path:
        with (  # the file is put in place once the writer has written its footer
            atomic_file(path / FILE) as file,
            pq.ParquetWriter(file, schema, write_page_checksum=True) as writer,
            progress("scoring the pool", len(index)) as advance,
        ):
            for batch in batches:
                writer.write_batch(batch)
                rows += len(batch)
                advance(len(batch))
        metrics = {"rows": rows, "queries": len(queries), "seconds": round(time.perf_counter() - began, 3)}
        write_json(path / "metrics.json", metrics)
    return metrics


def _scored(
    index: Index, queries: Sequence[Example], teacher: Teacher | None, where: str | None
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema of the scores, and their shards one after the other."""
    vectors = asked_vectors(index, queries, teacher)
    names = [f"score:{query.id}" for query in queries]
    schema = pa.schema([("id", pa.string()), *((name, pa.float32()) for name in names)])
    batches = (
        pa.record_batch([ids.combine_chunks(), *map(pa.array, scores)], schema=schema)
        for ids, scores in index.iter_scores(vectors, where=where)
    )
    return schema, batches
