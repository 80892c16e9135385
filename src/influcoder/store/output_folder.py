"""The folder that a verb writes into, and holds as its only writer."""

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


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a verb writes, what it does with what is already there, and the inputs that it must not touch."""

    path: Path
    resume: bool = False
    overwrite: bool = False
    inputs: tuple[Path, ...] = ()
    share: Share = field(default_factory=Share)

    def claim(self) -> Any:
        return claim(self.path, resume=self.resume, overwrite=self.overwrite, inputs=self.inputs, share=self.share)


def local(place: str | Path) -> list[Path]:
    """The files and folders on this machine that a path or glob names; none of a hub id."""
    path = os.path.expanduser(place)
    return [Path(name) for name in ([path] if os.path.exists(path) else glob.glob(path, recursive=True))]
