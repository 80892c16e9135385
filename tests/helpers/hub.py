"""A stand-in for the Hugging Face hub, which keeps what is pushed in a folder."""

import shutil

import huggingface_hub
import orjson
from huggingface_hub.errors import RepositoryNotFoundError


class Response:
    headers, request, status_code = {}, None, 404


def stand_in(monkeypatch, tmp_path):
    """A hub that keeps what is pushed in a folder, and what it was asked."""

    class Hub:
        folder, asked = tmp_path / "hub", []

        def __init__(self, token=None):
            self.asked.append(("token", token))

        def create_repo(self, repo_id, **given):
            if repo_id == "owner/forbidden":
                raise RepositoryNotFoundError("404 Client Error.\nRepository Not Found", response=Response())
            self.asked.append(("repo", given))
            return type("Url", (), {"repo_id": f"me/{repo_id}" if "/" not in repo_id else repo_id})

        def create_branch(self, repo_id, **given):
            self.asked.append(("branch", given))

        def upload_folder(self, *, repo_id, folder_path, **given):
            shutil.copytree(folder_path, self.folder / repo_id)
            self.asked.append(("upload", given))
            return f"https://hub/{repo_id}/commit/1"

    def download(name, *, allow_patterns, **given):
        Hub.asked.append(("download", given | {"patterns": allow_patterns}))
        return str(Hub.folder / name)

    Hub.asked = []
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return Hub


def write_proof(folder):
    """The numbers of a proof, as `influcoder prove` leaves them."""
    found = {"loss_change": 0.5, "changed": 0.8, "changed_interval": [0.6, 0.95]}
    metrics = {"removed": 20, "pool": 400, "queries": 16, "seeds": [0, 1, 2], "proof": {"found": 0.8}}
    folder.mkdir()
    (folder / "metrics.json").write_bytes(orjson.dumps(metrics | {"conditions": {"all": {}, "found": found}}))
