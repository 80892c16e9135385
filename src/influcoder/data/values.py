"""The values of a row: what a text says in JSON, what is there at all, and lists where a library has arrays."""

import json
import math
from collections.abc import Mapping
from typing import Any

_LEAVES = frozenset({str, int, float, bool, type(None)})


def from_json(value: Any, kind: type) -> Any:
    """What a text says in JSON, if it says something of this kind; anything else as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found if isinstance(found, kind) else value


def as_lists(value: Any) -> Any:
    """A value with lists and plain numbers in the place of arrays, tensors and tuples, as pandas and NumPy have them.

    >>> as_lists({"weights": (0, 1), "messages": [{"role": "user"}]})
    {'weights': [0, 1], 'messages': [{'role': 'user'}]}
    """
    if type(value) in _LEAVES:
        return value
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: as_lists(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return list(value) if all(type(one) in _LEAVES for one in value) else [as_lists(one) for one in value]
    return value


def is_given(value: object) -> bool:
    """Whether there is a value; what pandas writes where there is none is not a number."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def shown(value: object) -> str:
    """The beginning of what a value looks like."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
