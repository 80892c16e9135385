"""Folders on the Hugging Face hub: fetched and pushed whole, without files that may run code."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from influcoder.errors import ConfigError, ModelError, first_line

KINDS = (".json", ".jsonl", ".jinja", ".model", ".safetensors", ".parquet", ".txt", ".md", ".toml")
"""suffixes of the files that are fetched: none of them runs code"""
PATTERNS = tuple(f"*{kind}" for kind in KINDS)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where and how a folder is pushed; the fields are the arguments of `push_to_hub`."""

    repo_id: str
    commit_message: str
    private: bool | None = None
    token: str | None = None
    branch: str | None = None
    create_pr: bool = False


def fetch(
    name: str | Path,
    writer: str,
    marker: str,
    *,
    kind: str = "model",
    patterns: Collection[str] = PATTERNS,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """A folder of this name on this machine, otherwise a snapshot from the hub.

    Args:
        writer: the verb that writes such a folder, for messages.
        marker: the file that such a folder holds.
        kind: of the repository: model or dataset.
        patterns: of the files that are fetched.

    Raises:
        ModelError: there is no such folder, here or on the hub.
        ConfigError: a revision is asked for of a folder on this machine.
    """
    if isinstance(name, Path) or Path(name).expanduser().exists():
        if revision:
            raise ConfigError(f"{name} is a folder on this machine, which has no revision {revision!r}. Leave it out.")
        return Path(name).expanduser()
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(
                name,
                repo_type=kind,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                allow_patterns=list(patterns),
            )
        )
    except Exception as error:  # of every class: no such repository, no network, not a valid name
        raise ModelError(
            f"{name}: no folder with {marker} here, and the hub does not give it: {first_line(error)} "
            f"Expected a folder that {writer} wrote, or a hub id."
        ) from error


def push(folder: Path, to: Destination, content: str, *, kind: str = "model") -> str:
    """Upload a folder with an encoder, an index or other content; returns the commit's address.

    Raises:
        ModelError: the hub refuses, or a file may run code.
    """
    import huggingface_hub

    refuse_code(folder)
    repo_id = to.repo_id
    try:
        api = huggingface_hub.HfApi(token=to.token)
        repo_id = api.create_repo(repo_id, private=to.private, exist_ok=True, repo_type=kind).repo_id
        if to.branch:
            api.create_branch(repo_id, branch=to.branch, exist_ok=True, repo_type=kind)
        return str(
            api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=to.commit_message,
                revision=to.branch,
                create_pr=to.create_pr,
                repo_type=kind,
            )
        )
    except Exception as error:  # of every class, as above
        raise ModelError(
            f"{repo_id}: the hub refuses the {content}: {first_line(error)} Expected a name as in owner/name, a "
            "network, and a token that may write there (`hf auth login`)."
        ) from error


def refuse_code(folder: Path, known: Collection[str] = ()) -> None:
    """Refuse a folder with a file that may run code when it is read.

    Args:
        known: names of other files that are never read without a check.

    Raises:
        ModelError: there is such a file.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in KINDS and path.name not in known and not path.name.startswith("."):
            raise ModelError(f"{path}: a {path.suffix or 'nameless'} file may run code when it is read; not loaded.")
