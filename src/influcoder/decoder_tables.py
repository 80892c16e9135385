"""What a student reads of a decoder, kept in a features folder: put in place whole, and known by its hashes.

backbone/, expected.safetensors   see `influcoder.distill.write_tables`
tables.json                       SHA-256 of each of their files
"""

import os
import shutil
from pathlib import Path

import safetensors

from influcoder.atomic import remove_half_written, sha256
from influcoder.decoder import Decoder
from influcoder.distill import write_tables
from influcoder.errors import StoreCorrupt, StoreError
from influcoder.sealed import read_sealed, write_sealed

FORMAT = 1
_RECORD = "tables.json"


def write_decoder_tables(decoder: Decoder, folder: Path) -> None:
    """Write a decoder's tables into a features folder, which the caller has claimed.

    Raises:
        StoreError: the disk refuses.
    """
    half = folder / f"tables.tmp-{os.getpid()}"
    try:
        half.mkdir()
        write_tables(decoder, half)
        (folder / _RECORD).unlink(missing_ok=True)
        for entry in sorted(half.iterdir()):
            if (folder / entry.name).is_dir():
                shutil.rmtree(folder / entry.name)
            os.replace(entry, folder / entry.name)
        half.rmdir()
    except (OSError, safetensors.SafetensorError) as error:
        remove_half_written(folder)
        raise StoreError(
            f"{folder}: cannot write the decoder's tables: {getattr(error, 'strerror', None) or error}. Expected a "
            "folder that can be written and has space; mend it and run the same command with --resume."
        ) from error
    files = [folder / "expected.safetensors", *sorted((folder / "backbone").rglob("*"))]
    hashes = {str(path.relative_to(folder)): sha256(path) for path in files if path.is_file()}
    write_sealed(folder / _RECORD, {"format": FORMAT, "files": hashes})


def check_decoder_tables(folder: Path) -> None:
    """Hold a decoder's tables against what was written; folders of an earlier version have no record of it.

    Raises:
        StoreCorrupt: a file is missing or has changed; the message names it.
    """
    if not (folder / _RECORD).exists():
        return
    for name, expected in read_sealed(folder / _RECORD, FORMAT)["files"].items():
        path = folder / name
        if not path.exists() or sha256(path) != expected:
            raise StoreCorrupt(
                f"{path}: missing, or its bytes are not those that were written. Run `influcoder features` again with "
                "--resume: finished shards are kept."
            )


def bytes_of_tables(decoder: Decoder) -> int:
    """What they take on disk: the table in float32, what it expects and perhaps its head in half precision."""
    table, head = decoder.model.get_input_embeddings().weight, decoder.model.get_output_embeddings().weight
    return 6 * int(table.numel()) + (2 * int(head.numel()) if head.data_ptr() != table.data_ptr() else 0)
