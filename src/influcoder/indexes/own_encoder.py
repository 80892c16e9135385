"""The encoder in an index's folder: where it lies, and that it is the one that made the index."""

from pathlib import Path

from influcoder.errors import StoreMismatch
from influcoder.model.decoder import Decoder
from influcoder.student.encoder import InfluenceEncoder


def encoder_in(folder: Path, fingerprint: str, decoder: Decoder | None) -> InfluenceEncoder:
    """The encoder in an index's folder, with the fingerprint of the one that made it.

    Raises:
        StoreMismatch: another one lies in its place.
    """
    encoder = InfluenceEncoder.load(encoder_folder(folder, fingerprint), decoder=decoder)
    if fingerprint != encoder.fingerprint:
        raise StoreMismatch(
            f"{folder}: embedded by encoder {fingerprint[:12]}, in it lies {encoder.fingerprint[:12]}. "
            "Put the encoder that made it there, or index the pool again."
        )
    return encoder


def encoder_folder(folder: Path, fingerprint: str, *, new: bool = False) -> Path:
    """Where in an index's folder an encoder lies: one that came with a refresh has a folder of its own name."""
    own = folder / f"encoder-{fingerprint[:12]}"
    return own if new or own.exists() else folder / "encoder"
