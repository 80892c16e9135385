"""The rows of an index as they were in the pool's own files."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from influcoder.data.columns import from_columns
from influcoder.data.original import restored_row
from influcoder.errors import StoreMismatch
from influcoder.indexes.index import Index
from influcoder.indexes.texts import EXAMPLE

COLUMNS = (*EXAMPLE, "origin")


def original_rows(index: Index, is_kept: NDArray[np.bool_]) -> Iterator[list[dict[str, Any]]]:
    """The rows that are kept, in order, one shard at a time; columns and values are the pool's own, as in JSON.

    Args:
        kept: (rows,) which rows of the index are wanted.

    Raises:
        StoreMismatch: a row was indexed by a version that did not keep its original columns.
    """
    start = 0
    for shard in index.shards:
        places = np.flatnonzero(is_kept[start : start + shard["rows"]])
        start += shard["rows"]
        if len(places):
            yield _restored(index, index.store.some(shard, COLUMNS), places)


def original_row(index: Index, row: int) -> dict[str, Any]:
    """One row, of which only its row group is read.

    Raises:
        StoreMismatch: as of `original_rows`.
    """
    shard, group, within = index.texts.place_of(row)
    return _restored(index, index.store.some(index.shards[shard], COLUMNS, group), np.array([within]))[0]


def _restored(index: Index, table: pa.Table, places: NDArray[np.int64]) -> list[dict[str, Any]]:
    if "origin" not in table.column_names:
        raise StoreMismatch(
            f"{index.folder}: rows were indexed by a version that kept their texts and metadata, but not their "
            "original columns. Index the pool again; or take the rows from your own files, by their ids."
        )
    return [restored_row(from_columns(record), record["origin"]) for record in table.take(places).to_pylist()]
