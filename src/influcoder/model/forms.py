"""The ways to hand a chat template the same messages: templates differ in what they take contents and arguments for."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from influcoder.data.messages import Message, words_of
from influcoder.data.values import from_json
from influcoder.model.template import ChatTemplate


def forms_of(messages: Sequence[Message], template: ChatTemplate) -> Iterator[list[Message]]:
    """Some messages as the template is likeliest to take them, then in other ways.

    Contents are text, or lists of parts; what is not there is text without words, and arguments are objects or JSON,
    where the template fails on the row as it is. Parts that the row has are kept where the template takes them.
    """
    repairs: list[Callable[[Message], Message]] = [_as_it_is]
    if any(not isinstance(one.get("content"), str) or "tool_calls" in one for one in messages):
        repairs += [_with_objects, _with_texts]
    keeps_parts = (True, True) in template.part_forms
    for repair, (asked, said) in product(repairs, template.part_forms):
        yield [
            with_content(repair(one), parts=said if one["role"] == "assistant" else asked, keep=keeps_parts)
            for one in messages
        ]


def with_content(message: Message, *, parts: bool, keep: bool = False) -> Message:
    """A message with its content as a list of parts, or as text; parts that a row has are left where they are kept."""
    content = message.get("content")
    if isinstance(content, str) and parts:
        return {**message, "content": [{"type": "text", "text": content}]}
    return {**message, "content": words_of(message)} if _are_parts(content) and not (parts or keep) else message


def _are_parts(content: object) -> bool:
    return isinstance(content, list) and all(isinstance(one, Mapping) and "text" in one for one in content)


def _as_it_is(message: Message) -> Message:
    return message


def _with_objects(message: Message) -> Message:
    """Text where there is no content, and objects where arguments are JSON."""
    return _mended(message, lambda value: from_json(value, dict))


def _with_texts(message: Message) -> Message:
    """Text where there is no content, and JSON where arguments are objects."""
    return _mended(message, lambda value: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _mended(message: Message, change: Callable[[Any], Any]) -> Message:
    calls = [_with_arguments(one, change) for one in message.get("tool_calls", ())]
    content = message.get("content")
    text = content if isinstance(content, str) or _are_parts(content) else words_of(message)
    return {**message, "content": text} | ({"tool_calls": calls} if calls else {})


def _with_arguments(call: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _with_arguments(call["function"], change)}
    return {**call, "arguments": change(call["arguments"])} if "arguments" in call else dict(call)
