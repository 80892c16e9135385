"""The texts of an index's rows: read by row group, or laid out once so that any row is found at once."""

import mmap
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from influcoder.data.columns import from_columns
from influcoder.data.examples import Example
from influcoder.errors import StoreError
from influcoder.store.shards import GROUP_ROWS
from influcoder.store.store import Store

EXAMPLE = ("id", "prompt", "completion", "turns", "metadata")
"""the columns that hold an example"""
MOST = 2**33
"""bytes of texts that are laid out"""


class Texts:
    """The examples of every row.

    Args:
        starts: the row number of the first row of each shard.
    """

    def __init__(self, store: Store, starts: NDArray[np.int64]) -> None:
        self._store, self._starts = store, starts
        self._shards: list[dict[str, Any]] = store.manifest["shards"]
        self._laid_out: dict[tuple[int, int], pa.RecordBatch] = {}

    def place_of(self, row: int) -> tuple[int, int, int]:
        """Where a row lies: the number of its shard, of its row group in the shard, and its own in the group."""
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        return shard, *divmod(row - int(self._starts[shard]), GROUP_ROWS)

    def examples(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Example]:
        """The examples of some rows, in their order; rows that lie together are read together."""
        places = sorted((*self.place_of(int(row)), number) for number, row in enumerate(rows))
        numbered: list[tuple[int, Example]] = []
        for group, members in groupby(places, key=lambda place: place[:2]):
            texts = self._group(*group)
            numbered += [(row, from_columns(texts.slice(place, 1).to_pylist()[0])) for *_, place, row in members]
        return [example for _, example in sorted(numbered, key=lambda pair: pair[0])]

    def lay_out(self, folder: Path) -> bool:
        """Write them uncompressed into a nameless file of `folder`, which is mapped into memory; False if it is full.

        For a process that shows rows for a long time. The file is gone when the process ends.
        """
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                groups = self._written(file)
                file.flush()
                mapped = pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, StoreError):  # the disk is full, or a shard is damaged: reading its rows will say so
            return False
        batches = pa.ipc.open_file(mapped).read_all().to_batches()
        self._laid_out = dict(zip(groups, batches, strict=True)) if len(groups) == len(batches) else {}
        return bool(self._laid_out)

    def _written(self, file: Any) -> list[tuple[int, int]]:
        """Write a record batch for each row group, and give their places."""
        schema = pa.schema([(name, pa.string()) for name in EXAMPLE])
        groups = []
        with pa.ipc.new_file(file, schema) as writer:
            for place, shard in enumerate(self._shards):
                table = self._store.some(shard, EXAMPLE).select(EXAMPLE).cast(schema)
                for group, start in enumerate(range(0, len(table), GROUP_ROWS)):
                    writer.write_batch(table.slice(start, GROUP_ROWS).combine_chunks().to_batches()[0])
                    groups.append((place, group))
                if file.tell() > MOST:
                    raise OSError(f"more than {MOST} bytes")
        return groups

    def _group(self, place: int, group: int) -> pa.Table | pa.RecordBatch:
        laid_out = self._laid_out.get((place, group))
        return self._store.some(self._shards[place], EXAMPLE, group) if laid_out is None else laid_out
