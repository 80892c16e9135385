"""The folder that a verb writes into, as its only writer."""

import contextlib
import glob
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock

from influcoder.errors import ConfigError, StoreError
from influcoder.runners.share import Share

_LOCK = ".lock"


@contextlib.contextmanager
def claim(
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    inputs: Sequence[Path] = (),
    share: Share = Share(),  # noqa: B008 - frozen
) -> Iterator[Path]:
    """Hold `folder` as the only writer while the block runs; or as the only writer of a share of the job.

    A folder that is not empty is refused unless `resume` (keep what is there) or `overwrite` (empty it first) is
    given. Files that a killed writer left half-written are removed. The shares of a job may write together; a whole
    job, or a job with another number of shares, may not join them.

    Args:
        inputs: what the writer reads; `overwrite` must not delete any of it.
        share: one of several writers expects the files of the others, and removes nothing.

    Raises:
        ConfigError: the folder is, holds or lies in an input that would be deleted; or one of several writers would
            empty the folder.
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
        # Removed while still locked: once released, the file may already be the next writer's.
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
    output = Path(os.path.realpath(folder))  # unlike Path.resolve, no error where links form a loop
    for path in inputs:
        place = Path(os.path.realpath(path))
        if place.is_relative_to(output) or (overwrite and output.is_relative_to(place)):
            raise ConfigError(
                f"{folder}: the output folder is, holds or lies in the input {path}, which would be lost. "
                "Choose an --output-dir apart from every input."
            )


def _refuse_others(folder: Path, share: Share) -> None:
    """Refuse a folder into which a job with another number of shares is writing."""
    ending = f"-of-{share.count}" if share.count > 1 else _LOCK
    for path in folder.glob(f"{_LOCK}*"):
        if not path.name.endswith(ending):
            try:
                with filelock.FileLock(path, timeout=0):
                    pass
            except filelock.Timeout as error:
                raise StoreError(
                    f"{folder}: another run is writing here ({path.name}). Wait for it or choose another folder."
                ) from error


def _clear(folder: Path, resume: bool, overwrite: bool) -> None:
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(_LOCK)]
    if entries and not (resume or overwrite):
        raise StoreError(
            f"{folder}: not empty ({len(entries)} entries). Give --resume to continue it or --overwrite to replace it."
        )
    if overwrite:
        _remove(entries)
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


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a verb writes, whether it keeps or replaces what is there, and the inputs that it must not touch."""

    path: Path
    resume: bool = False
    overwrite: bool = False
    inputs: tuple[Path, ...] = ()
    share: Share = field(default_factory=Share)

    def claim(self) -> Any:
        return claim(self.path, resume=self.resume, overwrite=self.overwrite, inputs=self.inputs, share=self.share)


def local(place: str | Path) -> list[Path]:
    """The files and folders on this machine that a path or glob names; none for a hub id."""
    path = os.path.expanduser(place)
    return [Path(path)] if os.path.exists(path) else [Path(name) for name in glob.glob(path, recursive=True)]


def local_inputs(*inputs: object) -> tuple[Path, ...]:
    """The files and folders on this machine among some inputs, each a path, a list of them, or something else."""
    places = [place for value in inputs for place in (value if isinstance(value, list | tuple) else [value])]
    return tuple(path for place in places if isinstance(place, str | Path) for path in local(place))
