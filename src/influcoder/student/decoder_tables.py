"""What a student reads of a decoder, kept in a features folder: put in place whole, and checked by hash.

backbone/              its tokenizer and its table of input embeddings
expected.safetensors   what it expects after each token, and its output embeddings where they are others
tables.json            SHA-256 of each of their files
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import torch

from influcoder.errors import StoreCorrupt, StoreError
from influcoder.maths.arrays import Floats
from influcoder.model.decoder import Decoder
from influcoder.store.files import atomic_write, read_sealed, sha256, write_sealed
from influcoder.store.output_folder import remove_half_written
from influcoder.student.encoder import EXPECTED
from influcoder.teachers.fitted import read_tensors

FORMAT = 1
_RECORD = "tables.json"
CONTEXTS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class DecoderTables:
    """What a student reads of a decoder.

    Attributes:
        backbone: of `backbone_of`.
        expected: of `expected_embeddings`, which takes a forward pass of the whole vocabulary.
    """

    backbone: Any
    expected: Mapping[str, Floats]

    @classmethod
    def of(cls, decoder: Decoder) -> "DecoderTables":
        return cls(backbone_of(decoder), expected_embeddings(decoder))


def write_decoder_tables(tables: DecoderTables, folder: Path) -> None:
    """Write a decoder's tables into a features folder, which the caller has claimed.

    Raises:
        StoreError: the disk refuses.
    """
    temporary = folder / f"tables.tmp-{os.getpid()}"
    try:
        temporary.mkdir()
        tables.backbone.save(str(temporary / "backbone"), create_model_card=False)
        atomic_write(temporary / EXPECTED, safetensors.numpy.save(dict(tables.expected)))
        (folder / _RECORD).unlink(missing_ok=True)
        for entry in sorted(temporary.iterdir()):
            if (folder / entry.name).is_dir():
                shutil.rmtree(folder / entry.name)
            os.replace(entry, folder / entry.name)
        temporary.rmdir()
    except (OSError, safetensors.SafetensorError) as error:
        remove_half_written(folder)
        raise StoreError(
            f"{folder}: cannot write the decoder's tables: {getattr(error, 'strerror', None) or error}. Expected a "
            "writable folder with enough space; fix this and run the same command with --resume."
        ) from error
    files = [folder / EXPECTED, *sorted((folder / "backbone").rglob("*"))]
    hashes = {str(path.relative_to(folder)): sha256(path) for path in files if path.is_file()}
    write_sealed(folder / _RECORD, {"format": FORMAT, "files": hashes})


def check_decoder_tables(folder: Path) -> None:
    """Check a decoder's tables against their recorded hashes; folders of an earlier version have no record.

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


def backbone_of(decoder: Decoder) -> Any:
    """The static backbone of a decoder: its own tokenizer and embedding table."""
    return static_backbone(decoder.tokenizer, decoder.model.get_input_embeddings().weight.float().cpu().numpy())


def static_backbone(tokenizer: Any, table: Floats) -> Any:
    """A Sentence Transformers model that looks tokens up in a decoder's embedding table.

    Args:
        tokenizer: the decoder's, a fast one.
        table: (vocabulary, d) its input embeddings.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    module = StaticEmbedding(tokenizer, embedding_weights=np.asarray(table, np.float32).copy())
    return SentenceTransformer(modules=[module], device="cpu")


def read_expected(folder: Path) -> dict[str, Floats]:
    """The expected embeddings that `write_decoder_tables` wrote; empty where an earlier version wrote the folder.

    Raises:
        StoreCorrupt: it is damaged.
    """
    return {name: tensor.numpy() for name, tensor in read_tensors(folder / EXPECTED).items()}


@torch.no_grad()
def expected_embeddings(decoder: Decoder) -> dict[str, Floats]:
    """What a decoder expects after each token of its vocabulary on its own: tables for the `error` features.

    Returns:
        predicted: (vocabulary, d) Σ_u p(u | v) w_u, with w the output embeddings.
        head: (vocabulary, d) w, where it is not the input embedding's own table.
    """
    table, head = decoder.model.get_input_embeddings().weight, decoder.model.get_output_embeddings().weight
    rows = []
    for start in range(0, len(table), CONTEXTS_AT_ONCE):
        ids = torch.arange(start, min(start + CONTEXTS_AT_ONCE, len(table)), device=decoder.device)
        logits = decoder.model(input_ids=ids[:, None], use_cache=False).logits[:, 0]
        rows.append((torch.softmax(logits.float(), dim=-1)[:, : len(head)] @ head.float()).cpu())
    tables = {"predicted": torch.cat(rows).numpy()}
    if head.data_ptr() != table.data_ptr():
        tables["head"] = head.float().cpu().numpy()
    return {name: values.astype(np.float16) for name, values in tables.items()}
