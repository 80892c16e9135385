"""An index as a Parquet file for Embedding Atlas (https://apple.github.io/embedding-atlas): a map of its rows.

id, text, region                   of a row; its metadata that can be filtered by, under their own names
projection_x, projection_y         its place on the map
neighbors                          {"ids": [...], "distances": [...]}: the rows closest to it, by row number
influence, percentile              on a question, where one was asked
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from influcoder.attribution.plane import places
from influcoder.attribution.regions import find_regions
from influcoder.indexes.filters import PREFIX
from influcoder.indexes.index import Index
from influcoder.maths.arrays import Floats, unit_rows
from influcoder.progress import progress
from influcoder.store.files import atomic_file

FILE = "atlas.parquet"
NEIGHBOURS = 10
EXACT_ROWS = 50_000
"""up to so many rows, each is compared with all others"""
_NEIGHBOURS = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])
_OWN = {"id", "text", "region", "projection_x", "projection_y", "neighbors", "influence", "percentile"}


def write_atlas(index: Index, folder: Path, question: Floats | None = None) -> dict[str, Any]:
    """Write `atlas.parquet` into a folder, a shard at a time.

    Args:
        question: (dim,) the vector of a question; the file then has the influence of every row on it.

    Returns:
        how many rows the file has, and which columns.
    """
    positions, regions, neighbours = places(index), find_regions(index), _Neighbours(index)
    scores = None if question is None else index.scores(question[None])[0]
    ranks = None if scores is None else np.argsort(np.argsort(scores, kind="stable"), kind="stable")
    schema = _schema(index, scored=scores is not None)
    with (
        atomic_file(folder / FILE) as file,
        pq.ParquetWriter(file, schema) as writer,
        progress("writing the map", len(index)) as advance,
    ):
        start = 0
        for shard, vectors in zip(index.shards, index.parts(), strict=True):
            rows = slice(start, start + len(vectors))
            start += len(vectors)
            table = index.store.some(shard)
            columns: dict[str, Any] = {
                "id": table["id"],
                "text": pa.array(_texts(table), pa.string()),
                "region": pa.array([regions.names[number] for number in regions.of_row[rows]], pa.string()),
                "projection_x": positions[rows, 0],
                "projection_y": positions[rows, 1],
                "neighbors": neighbours.of(vectors, rows),
            }
            if scores is not None and ranks is not None:
                columns["influence"] = scores[rows]
                columns["percentile"] = (100 * ranks[rows] / max(len(index) - 1, 1)).astype(np.float32)
            for field in schema:
                if field.name not in _OWN:
                    name, missing = PREFIX + field.name, pa.nulls(len(table), field.type)
                    columns[field.name] = table[name].cast(field.type) if name in table.column_names else missing
            writer.write_table(pa.table(columns).select(schema.names).cast(schema))
            advance(len(vectors))
    return {"rows": len(index), "columns": schema.names}


def atlas_command(file: Path) -> list[str]:
    """The command that opens such a file in a browser."""
    columns = ["--text", "text", "--x", "projection_x", "--y", "projection_y", "--neighbors", "neighbors"]
    return ["uvx", "embedding-atlas", str(file), *columns]


class _Neighbours:
    """The rows closest to a row, by the cosine of their vectors."""

    def __init__(self, index: Index) -> None:
        self.count = min(NEIGHBOURS, max(len(index) - 1, 0))
        lists = 0 if len(index) <= EXACT_ROWS else int(4 * np.sqrt(len(index)))
        kind = f"IVF{lists},SQfp16" if lists else "SQfp16"
        self.search = faiss.index_factory(index.dim, kind, faiss.METRIC_INNER_PRODUCT)
        if lists:
            faiss.ParameterSpace().set_index_parameter(self.search, "nprobe", max(1, lists // 64))
        parts = list(index.parts())
        if parts:
            self.search.train(unit_rows(np.concatenate(parts)[: 64 * max(lists, 1024)]))
        for part in parts:
            self.search.add(unit_rows(part))

    def of(self, vectors: Floats, rows: slice) -> pa.Array:
        """A {ids, distances} for each of some rows with their vectors; a distance is 1 - cosine."""
        if not len(vectors):
            return pa.array([], _NEIGHBOURS)
        cosines, closest = self.search.search(unit_rows(vectors), self.count + 1)
        return pa.array(self._without_itself(cosines, closest, rows), _NEIGHBOURS)

    def _without_itself(self, cosines: Floats, closest: Any, rows: slice) -> Iterator[dict[str, list[float]]]:
        for row, numbers, their_cosines in zip(range(rows.start, rows.stop), closest, cosines, strict=True):
            pairs = [(int(i), 1 - float(c)) for i, c in zip(numbers, their_cosines, strict=True) if i not in (row, -1)]
            pairs = pairs[: self.count]
            yield {"ids": [i for i, _ in pairs], "distances": [max(0.0, d) for _, d in pairs]}


def _texts(table: pa.Table) -> list[str]:
    pairs = zip(table["prompt"].to_pylist(), table["completion"].to_pylist(), strict=True)
    return [f"{prompt}\n{completion}".strip() for prompt, completion in pairs]


def _schema(index: Index, *, scored: bool) -> pa.Schema:
    kinds = index.metadata.kinds
    fields = [
        ("id", pa.string()),
        ("text", pa.string()),
        ("region", pa.string()),
        ("projection_x", pa.float32()),
        ("projection_y", pa.float32()),
        ("neighbors", _NEIGHBOURS),
    ]
    if scored:
        fields += [("influence", pa.float32()), ("percentile", pa.float32())]
    return pa.schema([*fields, *((name, kind) for name, kind in kinds.items() if name not in _OWN)])
