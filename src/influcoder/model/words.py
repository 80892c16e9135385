"""Whether the words of a row stand in a text, whatever was done to their case, spacing and escapes."""

import html
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from influcoder.data.messages import Message, calls_of

_THOUGHTS = re.compile(r"^.*</(think|thinking|reasoning|thought)>", re.DOTALL)


def says(text: str, words: str, after: int = -1) -> bool:
    """Whether some words stand in a text so that they end after a place.

    >>> says("USER: hi ASSISTANT:  four ", "Four", after=9), says("USER: four ASSISTANT: ", "four", after=11)
    (True, False)
    """
    words = words.strip()
    if not words or _ends_after(text, words, after):
        return True
    in_json = json.dumps(words, ensure_ascii=False)[1:-1]
    for form, plain in product((_squeezed, _letters), (False, True)):
        shown, before = (html.unescape(one) if plain else one for one in (text, text[: max(after, 0)]))
        place = len(form(before)) if after >= 0 else -1
        if any((found := form(one)) and _ends_after(form(shown), found, place) for one in (words, in_json)):
            return True
    return False


def _ends_after(text: str, words: str, after: int) -> bool:
    place = text.rfind(words)
    return place >= 0 and place + len(words) > after


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


def _letters(text: str) -> str:
    return "".join(one for one in unicodedata.normalize("NFKD", text).casefold() if one.isalnum())


def without_thoughts(words: str) -> str:
    """Words without the thoughts that stand before them in tags, which many templates take out.

    >>> without_thoughts("<think>France, then.</think>Paris")
    'Paris'
    """
    return _THOUGHTS.sub("", words)


def pieces_of(message: Message) -> list[str]:
    """The texts of which the content of a message is made: one, its parts, or what a tool's JSON value holds."""
    return [one for one in _leaves(message.get("content")) if one.strip()]


def called_words(message: Message) -> tuple[list[str], list[str]]:
    """The names of the functions that a message calls, and the texts and numbers that they are called with."""
    calls = calls_of(message)
    return [name for name, _ in calls if name], [one for _, values in calls for one in _leaves(values) if one.strip()]


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = [value["text"]] if value.get("type") == "text" and "text" in value else list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _leaves(one)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(value)


def excerpt(text: str, characters: int = 240) -> str:
    """A text for a message, its middle left out where it is long.

    >>> excerpt("abcdefgh", 4)
    "'ab ... gh'"
    """
    half = characters // 2
    return repr(text if len(text) <= characters else f"{text[:half]} ... {text[-half:]}")


def common_length(one: str, other: str) -> int:
    """How many characters two texts have in common from their beginning."""
    if other.startswith(one):
        return len(one)
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))
