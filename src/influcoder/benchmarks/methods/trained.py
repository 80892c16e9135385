"""The decoders that a benchmark trains, cached in its folder for a run that is resumed."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from influcoder.data.examples import Example
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings, finetune
from influcoder.teachers.checkpoints import Checkpoint

LENGTH = "max_length"


def trained(
    base: Decoder, rows: Sequence[Example], folder: Path, settings: FinetuneSettings
) -> tuple[Decoder, list[Checkpoint]]:
    """The base decoder trained on some rows and the checkpoints of its training, from disk when they are there."""
    done = _checkpoints(folder)
    if len(done) < settings.epochs:
        finetune(base, rows, settings, checkpoints=folder)
        done = _checkpoints(folder)
    length = base.max_length
    return Decoder.load(done[-1], max_length=length), Checkpoint.read(done, max_length=length)


def cached_decoder(folder: Path, make: Callable[[], Decoder]) -> Decoder:
    """The decoder that `make` returns, cached in `folder`, whole or not at all."""
    if folder.exists():
        return Decoder.load(folder, max_length=int((folder / LENGTH).read_text()))
    decoder, temporary = make(), folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    decoder.model.save_pretrained(temporary)
    decoder.tokenizer.save_pretrained(temporary)
    (temporary / LENGTH).write_text(str(decoder.max_length))
    os.replace(temporary, folder)
    return decoder


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
