"""Write files so that a reader sees the whole file or none, whatever stops the writer.

A file is written under another name in the same folder, flushed to the disk, then renamed over its
place (atomic on POSIX), and the folder is flushed. `claim` opens an output folder for one writer.
"""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import filelock
import numpy as np
import orjson

from influcoder.errors import ConfigError, StoreError
from influcoder.runners import Share

_LOCK = ".lock"


def atomic_write(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all.

    Raises:
        StoreError: the folder is missing or cannot be written, or the disk is full; `path` then holds what
            it held before, or the whole of `data`.
    """
    with atomic_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write piece by piece, which is at `path` once the block ends well, and nowhere if it does not.

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
            f"{path}: cannot write: {error.strerror}. Expected an existing folder that can be written and has space; "
            "mend it or choose another."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON with sorted keys, atomically.

    Raises:
        StoreError: a number is not finite, a value is of a kind that JSON cannot hold, or the disk refuses.
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
        raise StoreError(f"{path}: cannot be read: {error.strerror}. Mend the file or make it again.") from error


@contextlib.contextmanager
def claim(
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    inputs: Sequence[Path] = (),
    share: Share = Share(),  # noqa: B008 - frozen
) -> Iterator[Path]:
    """Hold `folder` as the only writer while the block runs; or as the only one of a share of the job.

    A folder that holds anything is refused unless `resume` (keep what is there) or `overwrite` (empty
    it first) is given. Files that a killed writer left half-written are removed.
    Shares of one job may write together; a whole job, or shares of another number, may not join them.

    Args:
        inputs: what the writer reads; `overwrite` must not empty any of it.
        share: one of several writers expects what the others wrote, and removes nothing.

    Raises:
        ConfigError: the folder is or holds an input, or lies in one and would be emptied; or one of several
            writers would empty it.
        StoreError: not empty, not a folder, not writable, or another process is writing.
    """
    _refuse_inputs(folder, inputs, overwrite)
    shared = share.count > 1
    if shared and overwrite:
        raise ConfigError(
            f"{folder}: --overwrite would remove what the other shards write. Empty the folder before they start."
        )
    name = f"{_LOCK}-{share.index + 1}-of-{share.count}" if shared else _LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / name, timeout=0)
        lock.acquire()
    except filelock.Timeout as error:
        raise StoreError(f"{folder}: another run is writing here. Wait for it or choose another folder.") from error
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be used as output folder: {error.strerror}. Choose another --output-dir."
        ) from error
    try:
        _refuse_others(folder, share)
        if not shared:
            _clear(folder, resume, overwrite)
        yield folder
    finally:
        # Removed while it is still held: once released, the file may already be the next writer's.
        with contextlib.suppress(OSError):
            (folder / name).unlink()
        lock.release()


def remove_half_written(folder: Path) -> None:
    """Remove what killed writers left unfinished in a folder that nobody is writing to.

    Raises:
        StoreError: something cannot be removed.
    """
    _remove(folder.rglob("*.tmp-[0-9]*"))


def _refuse_inputs(folder: Path, inputs: Sequence[Path], overwrite: bool) -> None:
    output = Path(os.path.realpath(folder))  # unlike Path.resolve, no error where links go round
    for path in inputs:
        place = Path(os.path.realpath(path))
        if place.is_relative_to(output) or (overwrite and output.is_relative_to(place)):
            raise ConfigError(
                f"{folder}: the output folder is, holds or lies in the input {path}, which would be lost. "
                "Choose an --output-dir apart from every input."
            )


def _refuse_others(folder: Path, share: Share) -> None:
    """Refuse a folder where a job that is shared otherwise is being written."""
    mine = f"-of-{share.count}" if share.count > 1 else _LOCK
    for path in folder.glob(f"{_LOCK}*"):
        if not path.name.endswith(mine):
            try:
                with filelock.FileLock(path, timeout=0):
                    pass
            except filelock.Timeout as error:
                raise StoreError(
                    f"{folder}: another run is writing here ({path.name}). Wait for it or choose another folder."
                ) from error


def _clear(folder: Path, resume: bool, overwrite: bool) -> None:
    held = [entry for entry in folder.iterdir() if not entry.name.startswith(_LOCK)]
    if held and not (resume or overwrite):
        raise StoreError(
            f"{folder}: not empty ({len(held)} entries). Give --resume to go on with it or --overwrite to replace it."
        )
    if overwrite:
        _remove(held)
    else:
        remove_half_written(folder)


def _remove(entries: Iterable[Path]) -> None:
    for entry in list(entries):
        try:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{error.filename or entry}: cannot be removed to make room: {error.strerror}. "
                "Remove it yourself or choose another --output-dir."
            ) from error


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
