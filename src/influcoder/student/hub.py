"""An encoder on the Hugging Face hub: fetched as a folder, pushed as a folder."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from influcoder.errors import StoreMismatch
from influcoder.store import hub
from influcoder.store.files import read_json, read_sealed
from influcoder.store.hub import Destination
from influcoder.student.card import CARD
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import FORMAT, KINDS, model_card, save

TRAINING = "training.parquet"
"""what an encoder was trained on, as hashes, so that no test is held on it"""


def fetch(
    name: str | Path, *, revision: str | None = None, token: str | None = None, cache_dir: str | Path | None = None
) -> Path:
    """The folder of an encoder: a local one of this name, otherwise a snapshot from the hub.

    Raises:
        ModelError: there is no such folder, and the hub does not give it.
        ConfigError: a revision of a folder on this machine is asked for.
    """
    patterns = [*(f"*{kind}" for kind in KINDS), TRAINING]
    options: dict[str, Any] = {"revision": revision, "token": token, "cache_dir": cache_dir}
    return hub.fetch(name, "`influcoder distill`", "influcoder.json", patterns=patterns, **options)


def push(encoder: InfluenceEncoder, to: Destination, *, proof: Path | None = None, license: str | None = None) -> str:
    """Upload an encoder's folder, and what it was trained on where that is known; returns the commit's address.

    Args:
        proof: the folder of an `influcoder prove`, for the card.
        license: for the card.

    Raises:
        ModelError: the hub refuses.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save(encoder, folder)
        description = read_sealed(folder / "influcoder.json", FORMAT)
        card = model_card(description, to.repo_id, proof=evidence(proof), license_name=license)
        (folder / CARD).write_text(card, encoding="utf-8")
        if encoder.folder and (encoder.folder / TRAINING).exists():
            shutil.copy(encoder.folder / TRAINING, folder)
        return hub.push(folder, to, "encoder")


def evidence(proof: str | Path | None) -> dict[str, object] | None:
    """The metrics of a proof, for a card.

    Raises:
        StoreError: there is no proof in that folder.
    """
    if proof is None:
        return None
    remedy = "Give the folder of `influcoder prove`."
    metrics = read_json(Path(proof) / "metrics.json", remedy)
    if "proof" not in metrics or "conditions" not in metrics:
        raise StoreMismatch(f"{proof}: no proof. {remedy}")
    return metrics
