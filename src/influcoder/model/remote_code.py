"""Python code that comes with a model: run only where the user says so, and part of what made a folder."""

import hashlib
import inspect
from pathlib import Path
from typing import Any

_allowed = False


def allow(answer: bool) -> None:
    """Whether this process may run the code of the models it loads: what the user typed, --trust-remote-code."""
    global _allowed
    _allowed = answer


def allowed() -> bool:
    """What `allow` was told last; not without it."""
    return _allowed


def code_hash(model: Any) -> str | None:
    """SHA-256 of the code that came with a model and was run; None of a class of transformers' own."""
    own = [one for one in type(model).__mro__ if one.__module__.startswith("transformers_modules.")]
    if not own:
        return None
    digest = hashlib.sha256()
    for path in sorted(Path(inspect.getfile(own[0])).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def left_alone(model: Any) -> str | None:
    """What to say of code that came with a model for which transformers has a class of its own; None without any."""
    if "AutoModelForCausalLM" not in (getattr(model.config, "auto_map", None) or {}) or code_hash(model):
        return None
    return (
        f"comes with Python code of its own (auto_map), which is not run: it is read as transformers' own "
        f"{type(model).__name__}. If it was trained by that code, read the code and give --trust-remote-code."
    )


def refused(path: object, error: Exception) -> str | None:
    """What to say where loading failed because code was not to be run; None where it failed otherwise."""
    if "trust_remote_code" not in str(error):
        return None
    return (
        f"{path}: comes with Python code of its own (auto_map), which is not run unless you say so. Read it first; if "
        "you trust it, give --trust-remote-code (in Python: the argument trust_remote_code of Decoder.load)."
    )
