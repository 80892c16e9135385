"""The values of a row: read from JSON, checked for being there, and with lists in place of arrays."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

_LEAVES = frozenset({str, int, float, bool, type(None)})


def from_json(value: Any, kind: type) -> Any:
    """The value of a text that is JSON of this kind; anything else as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return parsed if isinstance(parsed, kind) else value


def as_lists(value: Any) -> Any:
    """A value with lists and plain numbers in place of arrays, tensors and tuples.

    >>> as_lists({"weights": (0, 1), "messages": [{"role": "user"}]})
    {'weights': [0, 1], 'messages': [{'role': 'user'}]}
    """
    if type(value) in _LEAVES:
        return value
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: as_lists(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return list(value) if all(type(item) in _LEAVES for item in value) else [as_lists(item) for item in value]
    return value


def is_given(value: object) -> bool:
    """Whether there is a value; where there is none, pandas writes NaN."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def shown(value: object) -> str:
    """A value as a message shows it, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def common_length(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many elements two sequences have in common from their beginning: characters, tokens, messages ..."""
    if second[: len(first)] == first:
        return len(first)
    return next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(second))
