"""The encoder that is kept with an index, for queries."""

from pathlib import Path

from influcoder.errors import StoreMismatch
from influcoder.model.decoder import Decoder
from influcoder.student.encoder import InfluenceEncoder


def encoder_in(folder: Path, fingerprint: str, decoder: Decoder | None) -> InfluenceEncoder:
    """The encoder in an index's folder, with the fingerprint of the one that made it.

    Raises:
        StoreMismatch: another one lies in its place.
    """
    encoder = InfluenceEncoder.load(folder / "encoder", decoder=decoder)
    if fingerprint != encoder.fingerprint:
        raise StoreMismatch(
            f"{folder}: embedded by encoder {fingerprint[:12]}, in it lies {encoder.fingerprint[:12]}. "
            "Put the encoder that made it there, or index the pool again."
        )
    return encoder
