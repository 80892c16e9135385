"""Python code that comes with a model: run only if the user says so, and recorded by its hash."""

import hashlib
import inspect
from pathlib import Path
from typing import Any

_allowed = False


def allow(answer: bool) -> None:
    """Set whether this process may run the code of the models it loads: the flag --trust-remote-code."""
    global _allowed
    _allowed = answer


def allowed() -> bool:
    """Whether `allow` has allowed it; False unless it was called."""
    return _allowed


def code_hash(model: Any) -> str | None:
    """SHA-256 of the code that came with a model and was run; None for transformers' own classes."""
    classes = [base for base in type(model).__mro__ if base.__module__.startswith("transformers_modules.")]
    if not classes:
        return None
    digest = hashlib.sha256()
    for path in sorted(Path(inspect.getfile(classes[0])).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def left_alone(model: Any) -> str | None:
    """A warning if code came with a model for which transformers has its own class; None otherwise."""
    if "AutoModelForCausalLM" not in (getattr(model.config, "auto_map", None) or {}) or code_hash(model):
        return None
    return (
        f"comes with Python code of its own (auto_map), which is not run: it is read as transformers' own "
        f"{type(model).__name__}. If it was trained by that code, read the code and give --trust-remote-code."
    )


def refused(path: object, error: Exception) -> str | None:
    """The message if loading failed because code was not to be run; None if it failed for another reason."""
    if "trust_remote_code" not in str(error):
        return None
    return (
        f"{path}: comes with Python code of its own (auto_map), which is not run unless you say so. Read it first; if "
        "you trust it, give --trust-remote-code (in Python: the argument trust_remote_code of Decoder.load)."
    )
