"""Packages that only some verbs need: imported where they are used, named with their pip command where missing."""

import importlib
from importlib.util import find_spec
from typing import Any

from influcoder.errors import MissingDependency

EXTRAS = {
    "bm25s": "eval",
    "cryptography": "sign",
    "datasets": "datasets",
    "fastapi": "serve",
    "lancedb": "lance",
    "matplotlib": "report",
    "psutil": "eval",
    "ray": "ray",
    "sklearn": "eval",
    "uvicorn": "serve",
}
"""the extra of this package that brings each"""


def optional(module: str) -> Any:
    """Import a module of an optional package.

    Raises:
        MissingDependency: the package is not installed; the message holds the pip command.
    """
    require(module.split(".")[0])
    return importlib.import_module(module)


def require(*packages: str) -> None:
    """Refuse to begin what needs packages that are not there.

    Raises:
        MissingDependency: some are not installed; the message holds the pip command.
    """
    missing = [package for package in packages if not is_installed(package)]
    if missing:
        raise MissingDependency(f"not installed: {', '.join(missing)}. Install with: {pip_command(*missing)}")


def is_installed(package: str) -> bool:
    """Whether a package is there; it is not imported."""
    return find_spec(package) is not None


def pip_command(*packages: str) -> str:
    """What installs optional packages.

    >>> pip_command("matplotlib", "bm25s")
    "pip install 'influcoder[eval,report]'"
    """
    return f"pip install 'influcoder[{','.join(sorted({EXTRAS[package] for package in packages}))}]'"
