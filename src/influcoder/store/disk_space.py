"""Free space on the disk, checked before a long job begins."""

import shutil
from pathlib import Path

from influcoder.errors import StoreError


def free_bytes(folder: Path) -> int:
    """The free bytes on the disk of a folder, which need not exist yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def refuse_full_disk(folder: Path, needed: int) -> None:
    """Refuse to begin a job whose output the disk cannot hold.

    Raises:
        StoreError: fewer than `needed` bytes are free; the message has both numbers.
    """
    free = free_bytes(folder)
    if needed > free:
        raise StoreError(
            f"{folder}: about {in_words(needed)} are to be written, {in_words(free)} are free. Make room or "
            "choose another --output-dir; a smaller --width or fewer rows take less."
        )


def held_bytes(folder: Path) -> int:
    """The size of the files in a folder: those of an earlier run, which are kept."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def in_words(size: float) -> str:
    """A number of bytes with a unit.

    >>> in_words(1_234_567)
    '1.2 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
