"""An encoder on the Hugging Face hub: fetched as a folder, pushed as a folder."""

import shutil
import tempfile
from pathlib import Path

from influcoder.errors import ConfigError, ModelError, first_line
from influcoder.store.files import read_sealed
from influcoder.student.card import CARD
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import FORMAT, KINDS, model_card, save

TRAINING = "training.parquet"
"""what an encoder was trained on, as hashes, so that no test is held on it"""


def fetch(
    name: str | Path, *, revision: str | None = None, token: str | None = None, cache_dir: str | Path | None = None
) -> Path:
    """The folder of an encoder: the one of this name on this machine, otherwise a snapshot from the hub.

    Raises:
        ModelError: there is no such folder, and the hub does not give it.
        ConfigError: a revision of a folder on this machine is asked for.
    """
    if isinstance(name, Path) or Path(name).expanduser().exists():
        if revision:
            raise ConfigError(f"{name} is a folder on this machine, which has no revision {revision!r}. Leave it out.")
        return Path(name).expanduser()
    import huggingface_hub

    patterns = [f"*{kind}" for kind in KINDS] + [TRAINING]
    try:
        found = huggingface_hub.snapshot_download(
            name, revision=revision, token=token, cache_dir=cache_dir, allow_patterns=patterns
        )
    except Exception as error:  # of every class: no such repository, no network, a name that is none
        raise ModelError(
            f"{name}: no folder with influcoder.json here, and the hub does not give it: {first_line(error)} "
            "Expected a folder that `influcoder distill` wrote, or a hub id."
        ) from error
    return Path(found)


def push(
    encoder: InfluenceEncoder,
    repo_id: str,
    *,
    commit_message: str,
    private: bool | None,
    token: str | None,
    branch: str | None,
    create_pr: bool,
) -> str:
    """Upload an encoder's folder, and what it was trained on where that is known; returns the commit's address.

    Raises:
        ModelError: the hub refuses.
    """
    import huggingface_hub

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save(encoder, folder)
        description = read_sealed(folder / "influcoder.json", FORMAT)
        (folder / CARD).write_text(model_card(description, repo_id), encoding="utf-8")
        if encoder.folder and (encoder.folder / TRAINING).exists():
            shutil.copy(encoder.folder / TRAINING, folder)
        try:
            api = huggingface_hub.HfApi(token=token)
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if branch:
                api.create_branch(repo_id, branch=branch, exist_ok=True)
            return str(
                api.upload_folder(
                    repo_id=repo_id,
                    folder_path=folder,
                    commit_message=commit_message,
                    revision=branch,
                    create_pr=create_pr,
                )
            )
        except Exception as error:  # of every class, as above
            raise ModelError(
                f"{repo_id}: the hub refuses the encoder: {first_line(error)} Expected a name as in owner/name, a "
                "network, and a token that may write there (`hf auth login`)."
            ) from error
