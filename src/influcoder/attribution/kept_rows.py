"""The rows that a selection keeps, in the columns that the pool's own files have: JSONL, Parquet, or a `Dataset`."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from influcoder.attribution.token_mask import COLUMN
from influcoder.data.columns import to_json
from influcoder.errors import DataError
from influcoder.extras import optional
from influcoder.indexes.index import Index
from influcoder.indexes.original_rows import original_rows
from influcoder.store.files import atomic_file

Format = Literal["jsonl", "parquet", "dataset", "none"]


def write_kept(
    index: Index, is_kept: NDArray[np.bool_], folder: Path, form: Format, masks: Sequence[Sequence[int]] | None = None
) -> list[Path]:
    """Write the rows that are kept as kept.jsonl, kept.parquet or the folder kept/; returns the files.

    Args:
        masks: of each kept row, a column `COLUMN` beside its own (`influcoder.attribution.token_mask`).

    Raises:
        StoreMismatch: the index was made by a version that did not keep its rows' columns.
        DataError: the rows differ so much that no table holds them all.
    """
    if form == "none":
        return []
    batches = original_rows(index, is_kept) if masks is None else _masked(original_rows(index, is_kept), iter(masks))
    if form == "dataset":
        optional("datasets").Dataset(one_table(batches)).save_to_disk(str(folder / "kept"))
        return sorted(path for path in (folder / "kept").rglob("*") if path.is_file())
    path = folder / f"kept.{form}"
    with atomic_file(path) as file:
        if form == "parquet":
            pq.write_table(one_table(batches), file, write_page_checksum=True)
        else:
            for batch in batches:
                file.writelines(to_json(row) + b"\n" for row in batch)
    return [path]


def kept_dataset(index: Index, is_kept: NDArray[np.bool_]) -> Any:
    """The same as a `datasets.Dataset`; columns that some rows lack are empty there.

    Raises:
        MissingDependency: datasets is not installed.
        StoreMismatch, DataError: as `write_kept`.
    """
    return optional("datasets").Dataset(one_table(original_rows(index, is_kept)))


def _masked(batches: Iterable[list[dict[str, Any]]], masks: Iterator[Sequence[int]]) -> Iterator[list[dict[str, Any]]]:
    """Rows with their masks, which are in the same order."""
    for rows in batches:
        yield [row | {COLUMN: list(next(masks))} for row in rows]


def one_table(batches: Iterable[list[dict[str, Any]]]) -> pa.Table:
    """Batches of rows as one table: a column that some of them lack is null there.

    Raises:
        DataError: a column holds values of several kinds.
    """
    tables = []
    try:
        for rows in batches:
            names = dict.fromkeys(name for row in rows for name in row)
            tables.append(pa.table({name: [row.get(name) for row in rows] for name in names}))
        return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(
            f"the rows that are kept do not fit one table: {error}. A column holds values of several kinds; write them "
            "as JSONL, or take the rows from your own files, by `kept_ids`."
        ) from error


def counts_by_value(kinds: Sequence[str], is_kept: NDArray[np.bool_]) -> dict[str, dict[str, int]]:
    """How many rows with each value were kept and dropped."""
    counts: dict[str, dict[str, int]] = {}
    for kind, row_is_kept in zip(kinds, is_kept.tolist(), strict=True):
        counts.setdefault(kind or "(none)", {"kept": 0, "dropped": 0})["kept" if row_is_kept else "dropped"] += 1
    return dict(sorted(counts.items()))
