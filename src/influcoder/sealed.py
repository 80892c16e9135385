"""Small JSON files that describe a folder, sealed with a hash of their own content."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from influcoder.atomic import write_json
from influcoder.errors import StoreCorrupt, StoreError


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` with the SHA-256 of the rest of it under "sha256"."""
    write_json(path, {**value, "sha256": _seal(value)})


def read_sealed(path: Path, format_number: int) -> dict[str, Any]:
    """Read what `write_sealed` wrote; another format than `format_number` is left for the caller to refuse.

    Raises:
        StoreCorrupt: not JSON, or not what was written.
        StoreError: it cannot be read at all.
    """
    value = read_json(path, "Make the folder again.")
    # Another format may be sealed otherwise.
    if value.get("format") == format_number and value.get("sha256") != _seal(value):
        raise StoreCorrupt(f"{path}: its bytes are not those that were written. Make the folder again.")
    return value


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object; `remedy` is the sentence that tells the user what to do when it is damaged.

    Raises:
        StoreCorrupt: not a JSON object.
        StoreError: it cannot be read at all.
    """
    try:
        value = orjson.loads(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}. {remedy}") from error
    except orjson.JSONDecodeError as error:
        raise StoreCorrupt(f"{path}: not JSON: {error}. {remedy}") from error
    if not isinstance(value, dict):
        raise StoreCorrupt(f"{path}: expected a JSON object, found {type(value).__name__}. {remedy}")
    return value


def _seal(value: Mapping[str, Any]) -> str:
    rest = {key: item for key, item in value.items() if key != "sha256"}
    return hashlib.sha256(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)).hexdigest()
