"""The peers' own environment, made when it is missing, so that this project need not depend on them."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

LOCK = Path(__file__).parents[3] / "requirements.lock"
SHARED = ("transformers", "peft", "datasets", "safetensors", "numpy", "scipy")
PEERS = {
    "bergson": [
        "bergson==2.5.1",
        "jaxtyping==0.3.11",
        "wadler-lindig==0.1.8",
        "ml_dtypes==0.6.0",
        "petname==2.9",
        "simple-parsing==0.1.9",
        "docstring_parser",
    ],
    "dattri": ["dattri==0.3.0"],
}
"""What each needs to be imported, beside SHARED; what else it declares would bring gigabytes of CUDA."""


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def install(folder: Path, peers: set[str], say: Callable[[str], None]) -> dict[str, str]:
    """Make the environment able to import the peers; returns the reasons for those that it cannot import."""
    python = python_of(folder)
    if not python.exists():
        say(f"making {folder} for {', '.join(sorted(peers))}")
        try:
            _run([sys.executable, "-m", "venv", str(folder)])
            # torch first: from then on every requirement is satisfied by the same build.
            _pip(python, _locked("torch"))
            _pip(python, "--constraint", str(LOCK), *map(_locked, SHARED))
        except subprocess.CalledProcessError as error:
            return dict.fromkeys(peers, f"environment: {_reason(error)}")
    failed = {}
    for peer in sorted(peers):
        try:
            _import(python, peer)
        except subprocess.CalledProcessError:
            try:
                say(f"installing {PEERS[peer][0]}")
                _pip(python, "--no-deps", *(one if "==" in one else _locked(one) for one in PEERS[peer]))
                _import(python, peer)
            except subprocess.CalledProcessError as error:
                failed[peer] = _reason(error)
    return failed


def _import(python: Path, peer: str) -> None:
    _run([str(python), "-c", f"import {peer}"])


def _locked(name: str) -> str:
    found = re.search(rf"^{re.escape(name)}==.*$", LOCK.read_text(), re.MULTILINE)
    return found.group() if found else name


def _pip(python: Path, *arguments: str) -> None:
    _run([str(python), "-m", "pip", "install", "--quiet", *arguments])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _reason(error: subprocess.CalledProcessError) -> str:
    lines = [line for line in error.stderr.strip().splitlines() if not line.startswith(("WARNING", "[notice]"))]
    return lines[-1] if lines else f"exit status {error.returncode}"
