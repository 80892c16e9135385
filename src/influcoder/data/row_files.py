"""Files of rows: JSONL (.gz, .zst) and Parquet, by path, folder, glob or URL (`hf://`, `s3://` ...)."""

import contextlib
import glob
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from influcoder.data.hub_rows import HubRows, is_hub_id
from influcoder.data.messages import RowError
from influcoder.data.urls import RemoteFile, find_remote
from influcoder.errors import DataError

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".parquet")


class EmptyFile(DataError):
    """A file without rows, which is passed over if other files have rows."""


def find_files(pattern: str | Path) -> list[Path] | list[RemoteFile] | list[HubRows]:
    """The readable files of a path, folder, glob or URL, sorted; if there are none, the data set of a hub id."""
    text = str(pattern)
    if "://" in text:
        return find_remote(text, SUFFIXES)
    try:
        path = Path(text).expanduser()
        if path.is_file():
            return [path]
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(SUFFIXES))
            missing = f"no {', '.join(SUFFIXES)} file in this folder"
        else:
            files = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
            missing = "no such file, and no file matches it as a glob"
    except (OSError, RuntimeError, ValueError) as error:  # too long, without permission, ~ of an unknown user
        raise DataError(f"{text}: no such file: {error}. Expected a file, folder or glob.") from error
    if not files and is_hub_id(text) and not text.endswith(SUFFIXES):
        return [HubRows(text)]
    if not files:
        raise DataError(f"{path}: {missing}.")
    return files


def file_rows(path: Path | RemoteFile | HubRows) -> Iterator[tuple[str, Any]]:
    """(place, row) of every row of a file as it is written; a `RowError` in place of a row that cannot be read.

    Raises:
        EmptyFile: it holds no rows.
        DataError: an unknown kind of file, or a damaged one.
    """
    if isinstance(path, HubRows):
        for number, row in enumerate(path.rows(), 1):
            yield f"{path}:{number}", row
        return
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{path}: unknown kind of file; expected one of {', '.join(SUFFIXES)}.")
    empty = True
    if size_of(path) != 0:
        for number, row in _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path):
            empty = False
            yield f"{path}:{number}", row
    if empty:
        raise EmptyFile(f"{path}: no rows. Expected at least one example.")


def size_of(path: Path | RemoteFile | HubRows) -> int | None:
    """A file's size in bytes; None if it is not known."""
    if isinstance(path, HubRows):
        return None
    try:
        return path.stat().st_size if isinstance(path, Path) else path.size
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}. Expected a file that can be opened.") from error


def _json_rows(path: Path | RemoteFile) -> Iterator[tuple[int, Any]]:
    number = 0
    try:
        with _opened(path) as lines:
            for number, line in enumerate(lines, 1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    yield number, _json_row(line)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read past line {number}: {error}. The file is damaged or cut off; get it again."
        ) from error


def _json_row(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if b"NaN" in line or b"Infinity" in line:  # not JSON, but Python and pandas write it
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(line.decode())
        tail = line[-60:].decode("utf-8", "replace").strip()
        return RowError("bad_json", f"not a JSON object: {error} (the line ends {tail!r})")


@contextlib.contextmanager
def _opened(path: Path | RemoteFile) -> Iterator[IO[bytes]]:
    """The decompressed lines of a file."""
    with path.open("rb") as stream:
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=stream) as unpacked:
                yield io.BufferedReader(unpacked, 1 << 20)
        elif path.suffix == ".zst":
            import pyarrow

            # io.BufferedReader reads lines; pyarrow's stream alone does not.
            yield io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(stream), "zstd"), 1 << 20)
        else:
            yield stream


def _parquet_rows(path: Path | RemoteFile) -> Iterator[tuple[int, Any]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with (
            path.open("rb") as stream,
            # With pre_buffer, the default, every byte that was read stays in memory until the file is closed.
            pyarrow.parquet.ParquetFile(stream, pre_buffer=False, page_checksum_verification=True) as file,
        ):
            repeated = [name for name, count in Counter(file.schema_arrow.names).items() if count > 1]
            if repeated:
                raise DataError(f"{path}: columns {repeated} occur more than once. Rename or drop all but one of each.")
            for batch in file.iter_batches(batch_size=1024):
                for row in _batch_rows(batch):
                    number += 1
                    yield number, row
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: not a readable Parquet file past row {number}: {error}") from error


def _batch_rows(batch: Any) -> list[Any]:
    try:
        return list(batch.to_pylist())
    except (ValueError, OverflowError) as error:
        if len(batch) == 1:
            return [RowError("bad_value", f"a value that Python cannot hold: {error}")]
        return [row for place in range(len(batch)) for row in _batch_rows(batch.slice(place, 1))]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of one file as they are written, for data of a known layout.

    Raises:
        DataError: a row is not an object; the message names its line.
    """
    rows = []
    for where, row in file_rows(path):
        if not isinstance(row, dict):
            raise DataError(f"{where}: {row.detail if isinstance(row, RowError) else 'not an object'}.")
        rows.append(row)
    return rows
