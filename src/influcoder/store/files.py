"""Write files so that a reader sees the whole file or none, whatever stops the writer.

A file is written under another name in the same folder, flushed to the disk, then renamed (atomic on POSIX), and the
folder is flushed.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

from influcoder.errors import StoreCorrupt, StoreError


def atomic_write(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all.

    Raises:
        StoreError: the folder is missing or cannot be written, or the disk is full; `path` then has its old content
            or all of `data`.
    """
    with atomic_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write piece by piece, which is at `path` once the block ends without an error, and nowhere otherwise.

    Raises:
        StoreError: as `atomic_write`.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot write: {error.strerror}. Expected an existing, writable folder with space; make room "
            "or choose another."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON with sorted keys, atomically.

    Raises:
        StoreError: a number is not finite, JSON cannot hold a value, or the file cannot be written.
    """
    _refuse_non_finite(value, str(path))
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    try:
        data = orjson.dumps(value, option=options)
    except orjson.JSONEncodeError as error:
        raise StoreError(f"{path}: JSON cannot hold the value: {error}.") from error
    atomic_write(path, data)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes.

    Raises:
        StoreError: the file is missing or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}. Repair the file or make it again.") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def _refuse_non_finite(value: object, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_non_finite(item, f"{where}: {key}")
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_non_finite(item, where)
    elif isinstance(value, float | np.floating | np.ndarray):
        numbers = np.asarray(value)
        if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            raise StoreError(f"{where}: {value} is not a finite number and JSON cannot hold it.")


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` with its own SHA-256 under "sha256"."""
    write_json(path, {**value, "sha256": _seal(value)})


def read_sealed(path: Path, format_number: int) -> dict[str, Any]:
    """Read what `write_sealed` wrote; it is for the caller to refuse another format than `format_number`.

    Raises:
        StoreCorrupt: not JSON, or not what was written.
        StoreError: it cannot be read at all.
    """
    value = read_json(path, "Make the folder again.")
    # Another format may be sealed otherwise.
    if value.get("format") == format_number and value.get("sha256") != _seal(value):
        raise StoreCorrupt(f"{path}: its bytes are not those that were written. Make the folder again.")
    return value


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object; `remedy` is the sentence that tells the user what to do if it is damaged.

    Raises:
        StoreCorrupt: not a JSON object.
        StoreError: it cannot be read at all.
    """
    try:
        value = orjson.loads(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}. {remedy}") from error
    except orjson.JSONDecodeError as error:
        raise StoreCorrupt(f"{path}: not JSON: {error}. {remedy}") from error
    if not isinstance(value, dict):
        raise StoreCorrupt(f"{path}: expected a JSON object, found {type(value).__name__}. {remedy}")
    return value


def _seal(value: Mapping[str, Any]) -> str:
    rest = {key: item for key, item in value.items() if key != "sha256"}
    return hashlib.sha256(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)).hexdigest()
