"""A shard: two files, one of vectors and one of columns, each put in place whole.

    shard-00000.safetensors   {"vectors": (rows, width)}, and facts about them in its header
    shard-00000.parquet       id and a column for each fact about the row, in row groups that can be read separately

The vectors are mapped into memory, not copied. Columns are read in part; the pages that are read are checked by
Parquet's CRC-32, and the places of the pages by the hash of the file's footer.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
import torch
from numpy.typing import NDArray

from influcoder.errors import StoreCorrupt
from influcoder.store.files import atomic_file, atomic_write, sha256

FILES = {"safetensors": "vectors", "parquet": "columns"}
"""the two files of a shard, by suffix"""
GROUP_ROWS = 1024
"""rows whose columns are read together"""
SOURCE = "rows"
"""the name of the fact that holds a hash of the rows that a shard was made from"""
_DTYPES = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8}


def shard_name(number: int) -> str:
    """The name of a shard's files, without suffix."""
    return f"shard-{number:05d}"


def write_shard(folder: Path, name: str, stored: NDArray[Any], table: pa.Table, facts: Mapping[str, Any]) -> None:
    """Put a shard's two files in place, the vectors first; `facts` are kept in the header of their file."""
    # One entry: safetensors writes several in any order, and the bytes must be the same every time.
    header = {"facts": orjson.dumps(dict(facts), option=orjson.OPT_SORT_KEYS).decode()} if facts else None
    data = safetensors.numpy.save({"vectors": np.ascontiguousarray(stored)}, header)
    atomic_write(folder / f"{name}.safetensors", data)
    with atomic_file(folder / f"{name}.parquet") as file:
        pq.write_table(table, file, write_page_checksum=True, row_group_size=GROUP_ROWS)


def is_there(folder: Path, name: str) -> bool:
    """Whether both files of a shard are in place."""
    return all((folder / f"{name}.{suffix}").exists() for suffix in FILES)


def shard_entry(folder: Path, name: str, rows: int) -> dict[str, Any]:
    """The entry in the manifest for a shard that is in place."""
    entry: dict[str, Any] = {"name": name, "rows": rows}
    for suffix, part in FILES.items():
        path = folder / f"{name}.{suffix}"
        entry |= {f"{part}_bytes": path.stat().st_size, f"{part}_sha256": sha256(path)}
    return entry | {"footer_sha256": footer_sha256(folder / f"{name}.parquet")}


def map_vectors(path: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    """(rows, width) vectors mapped from their file, which the caller has checked, and the facts about them."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = orjson.loads(file.read(size))
    tensor, facts = header["vectors"], orjson.loads(header.get("__metadata__", {}).get("facts", "{}"))
    shape, dtype = tuple(tensor["shape"]), _DTYPES[tensor["dtype"]]
    if not shape[0]:
        return np.zeros(shape, dtype), facts
    # By torch, which keeps no file open: an index may have more shards than a process may open files.
    storage: Any = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)
    mapped = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
    return mapped[8 + size + tensor["data_offsets"][0] :].view(dtype).reshape(shape), facts


def source_of(folder: Path, name: str) -> str:
    """The hash of the rows that a shard of a stream was made from."""
    return str(map_vectors(folder / f"{name}.safetensors")[1].get(SOURCE))


def read_columns(path: Path, columns: Sequence[str] | None = None, group: int | None = None) -> pa.Table:
    """Some columns of a shard, of all rows or of one row group; columns that it lacks are left out.

    Raises:
        StoreCorrupt: a page is not as it was written.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            known = file.schema_arrow.names
            names = None if columns is None else [name for name in columns if name in known]
            return file.read(names) if group is None else file.read_row_group(group, names)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreCorrupt(f"{path}: its bytes are not those that were written ({error}). Make it again.") from error


def footer_sha256(path: Path) -> str:
    """Hex SHA-256 of a Parquet file's footer, which says where its pages are.

    Raises:
        StoreCorrupt: there is none.
    """
    try:
        with open(path, "rb") as file:
            file.seek(-8, 2)
            size = int.from_bytes(file.read(4), "little")
            file.seek(-8 - size, 2)
            return hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise corrupt(path) from error


def corrupt(path: Path) -> StoreCorrupt:
    """The error that says that a file is not as it was written."""
    return StoreCorrupt(f"{path}: its bytes are not those that were written. Make the store again.")
