"""Write files so that a reader sees the whole file or none, whatever stops the writer.

A file is written under another name in the same folder, flushed to the disk, then renamed over its
place (atomic on POSIX), and the folder is flushed. `claim` opens an output folder for one writer.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import filelock
import orjson

from influcoder.errors import StoreError

_LOCK = ".lock"


def atomic_write(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all.

    Raises:
        StoreError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot write: {error.strerror}. Free space or choose another folder.") from error


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON with sorted keys, atomically; non-finite numbers are refused."""
    _refuse_non_finite(value, str(path))
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    atomic_write(path, orjson.dumps(value, option=options))


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def claim(folder: Path, *, resume: bool = False, overwrite: bool = False) -> Iterator[Path]:
    """Hold `folder` as the only writer while the block runs.

    A folder that holds anything is refused unless `resume` (keep what is there) or `overwrite` (empty
    it first) is given. Files that a killed writer left half-written are removed.

    Raises:
        StoreError: not empty, not a folder, not writable, or another process is writing.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / _LOCK, timeout=0)
        lock.acquire()
    except filelock.Timeout as error:
        raise StoreError(f"{folder}: another run is writing here. Wait for it or choose another folder.") from error
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be used as output folder: {error.strerror}. Choose another --output-dir."
        ) from error
    try:
        held = [entry for entry in folder.iterdir() if entry.name != _LOCK]
        if held and overwrite:
            for entry in held:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        elif held and not resume:
            raise StoreError(
                f"{folder}: not empty ({len(held)} entries). Give --resume to go on with it or --overwrite to replace it."
            )
        for leftover in folder.rglob("*.tmp-*"):
            leftover.unlink(missing_ok=True)
        yield folder
    finally:
        lock.release()
        (folder / _LOCK).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_non_finite(value: object, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_non_finite(item, f"{where}: {key}")
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_non_finite(item, where)
    elif isinstance(value, float) and not value - value == 0:
        raise StoreError(f"{where}: {value} is not a finite number and JSON cannot hold it.")
