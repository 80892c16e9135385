"""Folders on the Hugging Face hub: fetched and pushed whole, and of kinds of files that run no code."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from influcoder.errors import ConfigError, ModelError, first_line

KINDS = (".json", ".jsonl", ".jinja", ".model", ".safetensors", ".parquet", ".txt", ".md", ".toml")
"""of files that are fetched: none of them runs code"""
PATTERNS = tuple(f"*{kind}" for kind in KINDS)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a folder is pushed to, and how; the fields are the arguments of `push_to_hub`."""

    repo_id: str
    commit_message: str
    private: bool | None = None
    token: str | None = None
    branch: str | None = None
    create_pr: bool = False


def fetch(
    name: str | Path,
    what: str,
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
        what: it is, for messages, with the verb that writes it.
        marker: the file that such a folder holds.
        kind: of repository: model or dataset.
        patterns: of the files that are fetched.

    Raises:
        ModelError: there is no such folder, and the hub does not give it.
        ConfigError: a revision of a folder on this machine is asked for.
    """
    if isinstance(name, Path) or Path(name).expanduser().exists():
        if revision:
            raise ConfigError(f"{name} is a folder on this machine, which has no revision {revision!r}. Leave it out.")
        return Path(name).expanduser()
    import huggingface_hub

    try:
        found = huggingface_hub.snapshot_download(
            name,
            repo_type=kind,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            allow_patterns=list(patterns),
        )
    except Exception as error:  # of every class: no such repository, no network, a name that is none
        raise ModelError(
            f"{name}: no folder with {marker} here, and the hub does not give it: {first_line(error)} "
            f"Expected a folder that {what} wrote, or a hub id."
        ) from error
    return Path(found)


def push(folder: Path, to: Destination, what: str, *, kind: str = "model") -> str:
    """Upload a folder; returns the commit's address.

    Raises:
        ModelError: the hub refuses, or a file is of a kind that may run code.
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
            f"{repo_id}: the hub refuses the {what}: {first_line(error)} Expected a name as in owner/name, a "
            "network, and a token that may write there (`hf auth login`)."
        ) from error


def refuse_code(folder: Path, known: Collection[str] = ()) -> None:
    """See that a folder holds no file of a kind that may run code when it is read.

    Args:
        known: names of other files that are never read without a check.

    Raises:
        ModelError: it does.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in KINDS and path.name not in known and not path.name.startswith("."):
            raise ModelError(f"{path}: a {path.suffix or 'nameless'} file may run code when it is read; not loaded.")
