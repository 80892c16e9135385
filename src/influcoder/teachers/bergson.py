"""Gradient indexes of bergson 2.x, read as matrices; bergson itself is not needed.

info.json       rows, modules and their sizes, type of the numbers
gradients.bin   the numbers, without a header
data.hf/        the rows it was built from, a `datasets` folder
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from influcoder.errors import DataError
from influcoder.extras import optional
from influcoder.store.files import read_json
from influcoder.teachers.matrices import ForeignMatrix, Numbers, by, id_column


def read_bergson(folder: Path) -> ForeignMatrix:
    """The gradients of a bergson index, as they are stored; ids are the column `id` of its data, if it has one.

    Raises:
        DataError: not a finished index, of gradients a token, or its size is not what info.json says.
    """
    dtype, shape, layout = _layout(folder)
    path = folder / "gradients.bin"
    size, expected = path.stat().st_size if path.exists() else 0, math.prod(shape) * np.dtype(dtype or "<u2").itemsize
    if size != expected or size == 0:
        raise DataError(f"{path}: {size} bytes, expected {expected} for {by(shape)} numbers. Build the index again.")
    array = np.memmap(path, dtype or "<u2", "r", shape=shape)
    take = array.__getitem__ if dtype else lambda places: _widened(array[places])
    return ForeignMatrix(str(folder), shape, take, _ids(folder, shape[0]), layout=layout)


def _layout(folder: Path) -> tuple[str | None, tuple[int, int], tuple[tuple[str, int], ...]]:
    """(NumPy type, None for bfloat16; (rows, width); (module, width) in order) of an index: bergson 2.5's format.

    `gradients.bin` is one C-ordered array without a header, a row an example, the modules of `grad_sizes` side
    by side (bergson/data.py, create_index).
    """
    remedy = "Expected an index that `bergson build` has finished (2.x)."
    if not (folder / "info.json").is_file() or folder.suffix == ".part":
        raise DataError(f"{folder}: no info.json here, or of an unfinished build. {remedy}")
    info = read_json(folder / "info.json", remedy)
    if info.get("attribute_tokens"):
        raise DataError(f"{folder}: gradients a token, expected one an example. Build it without --attribute_tokens.")
    types: Mapping[object, str | None] = {"float16": "<f2", "float32": "<f4", "float64": "<f8", "bfloat16": None}
    rows, sizes, name = info.get("num_grads"), info.get("grad_sizes"), info.get("base_dtype")
    counts = [rows, *(sizes.values() if isinstance(sizes, dict) else [None])]
    if not isinstance(name, str) or name not in types or not all(type(count) is int and count > 0 for count in counts):
        raise DataError(
            f"{folder}/info.json: num_grads {rows!r}, grad_sizes {str(sizes)[:80]}, base_dtype {name!r}. {remedy}"
        )
    return types[name], (int(rows or 0), sum(counts[1:])), tuple(dict(sizes or {}).items())


def _ids(folder: Path, rows: int) -> list[str] | None:
    if not (folder / "data.hf").is_dir():
        return None
    datasets = optional("datasets")
    try:
        data = datasets.load_from_disk(str(folder / "data.hf"))
        count, named = data.num_rows, "id" in data.column_names
        table = data.select_columns(["id"]).with_format("arrow")[:] if named else None
    except (OSError, ValueError, TypeError, LookupError, pa.ArrowException) as error:
        raise DataError(f"{folder}/data.hf: cannot be read: {error!r}. Build the index again.") from error
    if count != rows:
        raise DataError(f"{folder}: {rows} gradients of {count} rows of data. Build the index again.")
    return None if table is None else id_column(folder / "data.hf", table, "id")


def _widened(bits: Numbers) -> Numbers:
    """bfloat16, which NumPy does not have, as float32: its bits are the upper half of one."""
    return (bits.astype("<u4") << 16).view("<f4")
