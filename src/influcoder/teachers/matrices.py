"""Matrices that another tool left, and the ids of their rows: NumPy, safetensors and Parquet files.

Nothing is unpickled. All but Parquet are mapped: only the rows that are asked for are read from the disk.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from influcoder.errors import ConfigError, DataError

Numbers = NDArray[Any]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ForeignMatrix:
    """Rows of numbers in a file.

    Attributes:
        name: the file, for messages.
        shape: (rows, width), both above 0.
        take: the numbers of the rows at some places, (places, width), in the file's precision.
        ids: the id of every row, where the file holds them.
        columns: the name of every column, where the file has such.
        layout: what the columns are made of; two matrices can be multiplied only where it is the same.
    """

    name: str
    shape: tuple[int, int]
    take: Callable[[Places], Numbers]
    ids: list[str] | None = None
    columns: tuple[str, ...] = ()
    layout: tuple[tuple[str, int], ...] = ()

    @property
    def symmetric(self) -> bool:
        """Whether it reads the same with rows and columns exchanged."""
        whole = np.asarray(self.take(np.arange(self.shape[0])))
        return bool(np.array_equal(whole, whole.T, equal_nan=True))


def read_matrix(path: Path, tensor: str | None = None) -> ForeignMatrix:
    """The matrix in a .npy, .safetensors or Parquet file.

    A Parquet file holds a column `id`, which may be missing, and either one column of lists or numeric columns.

    Args:
        tensor: which one of a safetensors file that holds several.

    Raises:
        ConfigError: a tensor is named, and the file has no names.
        DataError: another kind of file, damaged, pickled, not two-dimensional, empty, or not of numbers.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "features.npy")
    >>> np.save(path, np.eye(3, 4))
    >>> read_matrix(path).shape
    (3, 4)
    """
    if tensor is not None and path.suffix != ".safetensors":
        raise ConfigError(f"{path}: holds no named tensors. Leave --tensor out, or save it as .safetensors.")
    if path.suffix == ".safetensors":
        matrix = _safetensors(path, tensor)
    elif path.suffix in (".npy", ".parquet"):
        matrix = _npy(path) if path.suffix == ".npy" else _parquet(path)
    else:
        raise DataError(f"{path}: ends in {path.suffix!r}, expected .npy, .safetensors or .parquet. Save it as one.")
    if 0 in matrix.shape:
        raise DataError(f"{path}: {by(matrix.shape)} numbers, expected at least one row and column. Compute it again.")
    return matrix


def read_ids(path: Path) -> list[str]:
    """Ids from a text file, one a line, or a .json file with a list of them.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    try:
        raw = path.read_bytes()
        names = orjson.loads(raw) if path.suffix == ".json" else _lines(raw.decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as ids: {error}. Expected an id a line, or a JSON list.") from error
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: holds no ids. Expected an id a line, or a JSON list.")
    for number, name in enumerate(names, 1):
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            raise DataError(f"{path}: id {number} is {name!r}, expected text or a whole number. Mend it.")
    return list(map(str, names))


def read_table(path: Path) -> pa.Table:
    """A whole Parquet file.

    Raises:
        DataError: it cannot be read, or a column occurs twice.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}. Write it again.") from error
    repeated = [name for name, count in Counter(table.column_names).items() if count > 1]
    if repeated:
        raise DataError(f"{path}: column {repeated[0]!r} occurs more than once. Rename or drop all but one.")
    return table


def id_column(path: Path, table: pa.Table, name: str) -> list[str]:
    """A column of ids as text.

    Raises:
        DataError: one is null, or they are neither text nor whole numbers.
    """
    column = table[name]
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        raise DataError(f"{path}: column {name!r} is {kind}, expected text or whole numbers. Cast it.")
    if column.null_count:
        raise DataError(f"{path}: column {name!r} holds nulls, expected an id in every row. Fill them in.")
    return list(map(str, column.to_pylist()))


def given_ids(name: str, held: list[str] | None, given: Path | None, what: str) -> list[str] | None:
    """The ids of a matrix's rows: those that its file holds, or those of the file that was given.

    Raises:
        ConfigError: both.
    """
    if held is not None and given is not None:
        raise ConfigError(f"{name}: holds its own {what} ids. Leave --{what}-ids out.")
    return held if given is None else read_ids(given)


def places_of(matrix: str, rows: int, ids: Sequence[str] | None, wanted: Sequence[str], what: str) -> Places:
    """The row of each of the `wanted` ids, by id; by order where the rows have none.

    Args:
        matrix: the file, for messages.
        rows: how many rows it has.
        ids: theirs, or None.
        what: "query" or "pool", for messages.

    Raises:
        DataError: ids that stand twice, have no row, or have no example; without ids, another number of rows.

    >>> places_of("m.npy", 3, ["a", "b", "c"], ["c", "a", "b"], "pool").tolist()
    [2, 0, 1]
    """
    if ids is None:
        if rows != len(wanted):
            raise DataError(
                f"{matrix}: {rows} {what} vectors for {len(wanted)} {what} examples, and no ids to match them. "
                f"Give --{what}-ids, an id a vector."
            )
        return np.arange(rows)
    if len(ids) != rows:
        raise DataError(f"{matrix}: {rows} {what} vectors, but {len(ids)} ids. Give one id a vector.")
    for name, count in (*Counter(ids).items(), *Counter(wanted).items()):
        if count > 1:
            raise DataError(f"{matrix}: {what} id {name!r} occurs {count} times, expected once. Keep one of them.")
    row_of = {name: row for row, name in enumerate(ids)}
    missing = [name for name in wanted if name not in row_of]
    if missing:
        raise DataError(
            f"{matrix}: nothing for {len(missing)} of {len(wanted)} {what} examples, {missing[0]!r} the first. "
            "Compute these too, or leave the examples out."
        )
    if len(ids) > len(wanted):
        known = set(wanted)
        spare = [name for name in ids if name not in known]
        raise DataError(
            f"{matrix}: {len(spare)} of {rows} {what} ids belong to no example, {spare[0]!r} the first. "
            "Add these examples, or leave the vectors out."
        )
    return np.array([row_of[name] for name in wanted])


def _npy(path: Path) -> ForeignMatrix:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a NumPy file of plain numbers: {error}. Save it with np.save.") from error
    return ForeignMatrix(
        str(path), _checked(path, array.shape, array.dtype, array.dtype.kind in "fiu"), array.__getitem__
    )


def _safetensors(path: Path, tensor: str | None) -> ForeignMatrix:
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = sorted(file.keys())
            if tensor not in names and (tensor is not None or len(names) != 1):
                raise DataError(f"{path}: holds the tensors {names}. Name one of them with --tensor.")
            whole = file.get_tensor(tensor or names[0])  # mapped, not read
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: not a readable safetensors file: {error}. Write it again.") from error
    plain = not whole.is_complex() and whole.dtype != torch.bool
    shape = _checked(path, tuple(whole.shape), whole.dtype, plain)
    wide = torch.float64 if whole.dtype == torch.float64 else torch.float32
    return ForeignMatrix(str(path), shape, lambda places: whole[torch.from_numpy(places)].to(wide).numpy())


def _parquet(path: Path) -> ForeignMatrix:
    table = read_table(path)
    ids = id_column(path, table, "id") if "id" in table.column_names else None
    rest = table.drop_columns(["id"]) if ids is not None else table
    for name, kind in zip(rest.column_names, rest.schema.types, strict=True):
        if not _is_numeric(kind.value_type if _is_list(kind) else kind) or name.startswith("__index_level_"):
            raise DataError(f"{path}: column {name!r} ({kind}) is neither `id` nor numbers. Drop it.")
    if rest.num_columns == 1 and _is_list(rest.schema.types[0]):
        array, columns = _from_lists(path, rest.column(0)), ()
    elif any(map(_is_list, rest.schema.types)):
        raise DataError(f"{path}: a column of lists beside others, {rest.column_names}. Keep `id` and one of lists.")
    else:
        parts = [column.to_numpy() for column in rest.columns]
        array = np.stack(parts, axis=1) if parts else np.empty((len(table), 0))
        columns = tuple(rest.column_names)
    return ForeignMatrix(str(path), (array.shape[0], array.shape[1]), array.__getitem__, ids, columns)


def _from_lists(path: Path, column: pa.ChunkedArray) -> Numbers:
    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy()
    other = np.flatnonzero(lengths != lengths[:1]) if len(lengths) else lengths
    if len(other) or -1 in lengths[:1]:
        row = int(other[0]) if len(other) else 0
        raise DataError(f"{path}: row {row} has {lengths[row]} numbers, the first {lengths[0]}. Make all as long.")
    return np.asarray(pc.list_flatten(column).to_numpy().reshape(len(lengths), int(lengths[0]) if len(lengths) else 0))


def _checked(path: Path, shape: tuple[int, ...], dtype: object, plain: bool) -> tuple[int, int]:
    if not plain or len(shape) != 2:
        raise DataError(f"{path}: {by(shape)} of {dtype}, expected (rows, width) of floats or integers. Reshape it.")
    return shape[0], shape[1]


def _lines(text: str) -> list[str]:
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def by(shape: tuple[int, ...]) -> str:
    """A shape for a message."""
    return " x ".join(map(str, shape)) or "a single number"


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
