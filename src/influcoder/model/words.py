"""Whether a text contains the words of a row, whatever was done to their case, spacing and escapes."""

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
    """Whether a text contains some words that end after a place.

    >>> says("USER: hi ASSISTANT:  four ", "Four", after=9), says("USER: four ASSISTANT: ", "four", after=11)
    (True, False)
    """
    words = words.strip()
    if not words or _ends_after(text, words, after):
        return True
    in_json = json.dumps(words, ensure_ascii=False)[1:-1]
    before = text[: max(after, 0)]
    shown = ((text, before), (html.unescape(text), html.unescape(before)))
    for normalise, (haystack, skipped) in product((_without_spaces, _letters), shown):
        place = len(normalise(skipped)) if after >= 0 else -1
        needles = (normalise(words), normalise(in_json))
        if any(needle and _ends_after(normalise(haystack), needle, place) for needle in needles):
            return True
    return False


def _ends_after(text: str, words: str, after: int) -> bool:
    place = text.rfind(words)
    return place >= 0 and place + len(words) > after


def _without_spaces(text: str) -> str:
    return "".join(text.split()).casefold()


def _letters(text: str) -> str:
    return "".join(character for character in unicodedata.normalize("NFKD", text).casefold() if character.isalnum())


def without_thoughts(words: str) -> str:
    """Words without the thoughts in tags before them, which many templates take out.

    >>> without_thoughts("<think>France, then.</think>Paris")
    'Paris'
    """
    return _THOUGHTS.sub("", words)


def pieces_of(message: Message) -> list[str]:
    """The texts in the content of a message: the content itself, its parts, or the values in a tool's JSON."""
    return [text for text in _leaves(message.get("content")) if text.strip()]


def called_words(message: Message) -> tuple[list[str], list[str]]:
    """The names of the functions that a message calls, and the texts and numbers that they are called with."""
    calls = calls_of(message)
    values = [text for _, arguments in calls for text in _leaves(arguments) if text.strip()]
    return [name for name, _ in calls if name], values


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = [value["text"]] if value.get("type") == "text" and "text" in value else list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(value)


def excerpt(text: str, characters: int = 240) -> str:
    """A text as a message quotes it, without its middle where it is long.

    >>> excerpt("abcdefgh", 4)
    "'ab ... gh'"
    """
    half = characters // 2
    return repr(text if len(text) <= characters else f"{text[:half]} ... {text[-half:]}")
