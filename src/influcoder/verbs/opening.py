"""Open what a verb is given: a path, a hub id, or a loaded object.

Python and the command line both come through here, so a decoder reads as many tokens as the folder it goes with
records, an encoder of a slow tier reads with its decoder, and an index is found wherever its rows are.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from influcoder.data.examples import Example
from influcoder.data.reading import read_examples, stream_examples
from influcoder.data.row_files import find_files
from influcoder.errors import ConfigError, DataError
from influcoder.indexes.index import Index
from influcoder.indexes.lance import LanceIndex, open_index
from influcoder.model.decoder import Decoder
from influcoder.provenance import IMPORTED, Provenance
from influcoder.store.output_folder import local
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import read_with, teacher_of
from influcoder.student.features_folder import FeaturesFolder
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.teacher import Teacher

Rows = str | Path | Iterable[Any]
"""files, folders, globs or URLs; `datasets.Dataset`; or a list of rows or of `Example`s"""
AnyDecoder = Decoder | str | Path
"""a loaded decoder, a Hugging Face folder or a hub id"""
AnyCheckpoints = str | Path | Sequence[Checkpoint | str | Path]
"""folders that training saved, or globs of them"""
AnyFeatures = FeaturesFolder | str | Path
AnyEncoder = InfluenceEncoder | str | Path
"""a loaded encoder, its folder or a hub id"""
AnyIndex = Index | LanceIndex | str | Path


def read_rows(rows: Rows, label: str, decoder: Decoder | None = None) -> list[Example]:
    """The examples of some rows.

    Args:
        label: begins the message where they are no rows.
        decoder: reads them: a row that it cannot read is refused here, where its place is known.

    Raises:
        DataError: no rows, or one that cannot be used.
    """
    _refuse_no_rows(rows, label)
    return read_examples(rows, prepare=decoder.prepare if decoder else None)


def stream_rows(rows: Rows, label: str, decoder: Decoder | None = None) -> Iterable[Example]:
    """The same, read one after the other; missing files are refused at once."""
    _refuse_no_rows(rows, label)
    prepare = decoder.prepare if decoder else None
    places = [rows] if isinstance(rows, str | Path) else rows
    if isinstance(places, list) and places and isinstance(places[0], str | Path):
        return stream_examples([file for place in places for file in find_files(place)], prepare=prepare)
    return stream_examples(rows, prepare=prepare)


def _refuse_no_rows(rows: object, label: str) -> None:
    if not isinstance(rows, Path | Iterable) or isinstance(rows, bytes):
        raise DataError(
            f"{label}: {rows!r} is {type(rows).__name__}, expected files, a list of rows or examples, or a Dataset."
        )


def open_decoder(
    decoder: AnyDecoder, adapter: str | Path | None, length: int | Provenance, device: str | None = None
) -> Decoder:
    """The decoder, loaded if it is not yet.

    Args:
        length: tokens of an example that are read, or the record of a decoder that read as many.

    Raises:
        ConfigError: an adapter of a decoder that is loaded already, or it is no decoder at all.
        ModelError: it cannot be loaded.
    """
    if isinstance(decoder, Decoder):
        if adapter is not None:
            raise ConfigError(f"{decoder.name} is loaded already. Load it with Decoder.load(path, adapter=...).")
        return decoder
    _refuse_no_place(decoder, "decoder", "a Decoder, its folder or a hub id")
    return Decoder.load(decoder, adapter=adapter, max_length=_tokens(length), device=device)


def open_decoder_of(
    maker: Provenance, decoder: AnyDecoder | None, adapter: str | Path | None = None, **needs: object
) -> Decoder | None:
    """The decoder, if one is given, reading as many tokens as the one in `maker`; see `open_decoder`.

    Args:
        needs: other arguments by name that are of no use without a decoder.
    """
    refuse_without_decoder(decoder, adapter=adapter, **needs)
    return None if decoder is None else open_decoder(decoder, adapter, maker)


def open_checkpoints(
    checkpoints: AnyCheckpoints | None, decoder: AnyDecoder | None, length: int | Provenance
) -> list[Checkpoint]:
    """Checkpoints by folder or glob, in the order of their steps; adapters among them are of `decoder`."""
    places = [checkpoints] if isinstance(checkpoints, str | Path) else list(checkpoints or [])
    loaded = [place for place in places if isinstance(place, Checkpoint)]
    if loaded and len(loaded) == len(places):
        return loaded
    for place in places:
        _refuse_no_place(place, "checkpoints", "folders that training saved")
    paths = [path for place in map(str, places) for path in sorted(local(place), key=_by_number) or [Path(place)]]
    base = decoder.model.config.name_or_path if isinstance(decoder, Decoder) else decoder
    return Checkpoint.read(paths, base=str(base or ""), max_length=_tokens(length))


def open_teacher(encoder: InfluenceEncoder, decoder: Decoder, checkpoints: AnyCheckpoints | None = None) -> Teacher:
    """The teacher that an encoder was distilled from.

    Raises:
        StoreMismatch: decoder or checkpoints are not those that it was distilled from.
        ConfigError: its attribution was imported, or it was distilled from checkpoints and none are given.
    """
    return teacher_of(encoder, decoder, open_checkpoints(checkpoints, decoder, encoder.provenance))


def open_asking_teacher(
    encoder: InfluenceEncoder, decoder: Decoder | None, checkpoints: AnyCheckpoints | None = None
) -> Teacher | None:
    """The same, to take the queries' gradients; None without a decoder, or where the encoder cannot use gradients."""
    record = encoder.provenance.teacher
    if decoder is None or encoder.query_projector is None or record is None or record.name == IMPORTED:
        return None
    return open_teacher(encoder, decoder, checkpoints)


def open_features(features: AnyFeatures) -> FeaturesFolder:
    """The features folder, opened and hashed if it is not yet."""
    if isinstance(features, FeaturesFolder):
        return features
    _refuse_no_place(features, "features", "a FeaturesFolder or its path")
    return FeaturesFolder(Path(features).expanduser())


def open_encoder(
    encoder: AnyEncoder, decoder: AnyDecoder | None = None, adapter: str | Path | None = None, **needs: object
) -> tuple[InfluenceEncoder, Decoder | None]:
    """An encoder, and the decoder, with which it reads texts if its tier does."""
    if isinstance(encoder, str | Path):
        encoder = InfluenceEncoder.from_pretrained(encoder)
    if not isinstance(encoder, InfluenceEncoder):
        raise ConfigError(f"encoder is {encoder!r}, expected an InfluenceEncoder, its folder or a hub id.")
    loaded = open_decoder_of(encoder.provenance, decoder, adapter, **needs)
    if loaded is not None:
        read_with(encoder, loaded)
    return encoder, loaded


def open_any_index(
    index: AnyIndex, decoder: AnyDecoder | None = None, adapter: str | Path | None = None, **needs: object
) -> tuple[Index | LanceIndex, Decoder | None]:
    """An index, wherever its rows are, and the decoder, with which its encoder reads texts if its tier does."""
    if not isinstance(index, Index | LanceIndex):
        _refuse_no_place(index, "index", "an Index or its folder")
        index = open_index(Path(index).expanduser())
    refuse_without_decoder(decoder, adapter=adapter, **needs)
    if decoder is None:
        return index, None
    return index, open_encoder(index.encoder, decoder, adapter)[1]


def open_whole_index(index: AnyIndex, decoder: AnyDecoder | None = None, adapter: str | Path | None = None) -> Index:
    """An index whose rows are on this machine.

    Raises:
        ConfigError: they are in LanceDB.
    """
    opened, _ = open_any_index(index, decoder, adapter)
    if not isinstance(opened, Index):
        raise ConfigError(
            f"{opened.folder}: its rows are in LanceDB, to be searched. Give the index it was exported from."
        )
    return opened


def refuse_without_decoder(decoder: object, **flags: object) -> None:
    """Refuse flags that go with a decoder when there is none: they would be ignored."""
    useless = [f"--{name}" for name, value in flags.items() if value]
    if useless and decoder is None:
        raise ConfigError(f"{' and '.join(useless)} was given without a decoder. Name it with --decoder as well.")


def _refuse_no_place(place: object, label: str, expected: str) -> None:
    if not isinstance(place, str | Path):
        raise ConfigError(f"{label} is {place!r}, expected {expected}.")


def _tokens(length: int | Provenance) -> int:
    if isinstance(length, int):
        return length
    return length.decoder.max_length if length.decoder else 1024


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Sorts checkpoint-9 before checkpoint-10, as training saved them."""
    return [(int(piece) if piece.isdecimal() else -1, piece) for piece in re.split(r"(\d+)", str(path))]
