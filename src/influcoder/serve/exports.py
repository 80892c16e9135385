"""A selection as files: the pool's own columns, with columns for score, weight, reason and note."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from influcoder.attribution.kept_rows import one_table
from influcoder.attribution.token_mask import COLUMN
from influcoder.indexes.index import Index
from influcoder.indexes.original_rows import original_rows
from influcoder.maths.metrics import percentiles
from influcoder.serve.marked import Marked
from influcoder.serve.wire_selections import ExportedRows

Masks = list[list[int]] | None
"""of each kept row, if a mask was made"""


def jsonl(index: Index, marked: Marked, which: ExportedRows, masks: Masks = None) -> Iterator[bytes]:
    """A line for each row, a shard at a time."""
    for rows in _rows(index, marked, which, masks):
        yield b"".join(orjson.dumps(row) + b"\n" for row in rows)


def parquet(index: Index, marked: Marked, which: ExportedRows, replay: str, masks: Masks = None) -> bytes:
    """A table of the rows; its schema's metadata hold the command that makes it.

    Raises:
        DataError: a column holds values of several kinds.
    """
    table = one_table(_rows(index, marked, which, masks))
    origin = {"name": marked.record.body["name"], "manifest": marked.record.manifest, "replay": replay}
    metadata = (table.schema.metadata or {}) | {b"influcoder": orjson.dumps(origin)}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, write_page_checksum=True)
    return bytes(sink.getvalue().to_pybytes())


def ids(index: Index, marked: Marked, which: ExportedRows) -> bytes:
    """A JSON list of the rows' ids, for `influcoder prove --rows`."""
    mask = _mask(marked, which)
    return orjson.dumps([name for name, is_exported in zip(index.ids, mask.tolist(), strict=True) if is_exported])


def _mask(marked: Marked, which: ExportedRows) -> NDArray[np.bool_]:
    return {"kept": marked.kept, "rejected": ~marked.kept, "all": np.ones(len(marked.kept), bool)}[which]


def _rows(index: Index, marked: Marked, which: ExportedRows, masks: Masks) -> Iterator[list[dict[str, Any]]]:
    """The rows of the pool's files, with the selection's columns."""
    kept, rule, scores = marked.kept, marked.ruled[1], marked.record.scores
    ranks, weights = None if scores is None else percentiles(scores), marked.weights()
    mask = _mask(marked, which)
    numbers = iter(np.flatnonzero(mask).tolist())
    mask_of_row = {} if masks is None else dict(zip(np.flatnonzero(kept).tolist(), masks, strict=True))
    for batch in original_rows(index, mask):
        yield [
            row
            | {
                "influcoder_score": None if scores is None else float(scores[number]),
                "influcoder_percentile": None if ranks is None else float(ranks[number]),
                "influcoder_kept": bool(kept[number]),
                "influcoder_weight": float(weights[number]),
                "influcoder_reason": marked.reason(number, bool(kept[number]), rule),
                "influcoder_note": marked.note(number),
            }
            | ({} if masks is None else {COLUMN: mask_of_row.get(number)})
            for row, number in zip(batch, numbers, strict=False)
        ]
