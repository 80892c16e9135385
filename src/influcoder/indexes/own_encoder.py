"""The encoder in an index's folder: where it is, and a check that it made the index."""

from pathlib import Path

from influcoder.errors import StoreMismatch
from influcoder.model.decoder import Decoder
from influcoder.student.encoder import InfluenceEncoder


def encoder_in(folder: Path, fingerprint: str, decoder: Decoder | None) -> InfluenceEncoder:
    """The encoder in an index's folder, with the fingerprint of the one that made it.

    Raises:
        StoreMismatch: it is another one.
    """
    encoder = InfluenceEncoder.load(encoder_folder(folder, fingerprint), decoder=decoder)
    if fingerprint != encoder.fingerprint:
        raise StoreMismatch(
            f"{folder}: embedded by encoder {fingerprint[:12]}, but it holds {encoder.fingerprint[:12]}. "
            "Put the encoder that made it there, or index the pool again."
        )
    return encoder


def encoder_folder(folder: Path, fingerprint: str, *, new: bool = False) -> Path:
    """Where an encoder is in an index's folder; one that came with a refresh has its fingerprint in the name."""
    refreshed = folder / f"encoder-{fingerprint[:12]}"
    return refreshed if new or refreshed.exists() else folder / "encoder"
