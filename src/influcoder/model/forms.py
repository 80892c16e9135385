"""The ways to hand a chat template the same messages: templates differ in what they take contents and arguments for."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from influcoder.data.messages import Message, from_json, words_of
from influcoder.model.template import ChatTemplate


def forms_of(messages: Sequence[Message], template: ChatTemplate) -> Iterator[list[Message]]:
    """Some messages as the template is likeliest to take them, then in other ways.

    Contents are text, or lists of parts; what is not there is text without words, and arguments are objects or JSON,
    where the template fails on the row as it is.
    """
    as_written = _as_it_is if template.takes_parts else _as_text
    contents = (_as_parts, _as_text) if template.wants_parts else (as_written, _as_parts)
    repairs: list[Callable[[Message], Message]] = [_as_it_is]
    if any(not isinstance(one.get("content"), str) or "tool_calls" in one for one in messages):
        repairs += [_with_objects, _with_texts]
    for repair in repairs:
        for form in contents:
            yield [form(repair(one)) for one in messages]


def _as_it_is(message: Message) -> Message:
    return message


def _as_text(message: Message) -> Message:
    return {**message, "content": words_of(message)} if isinstance(message.get("content"), list) else message


def _as_parts(message: Message) -> Message:
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _with_objects(message: Message) -> Message:
    """Text where there is no content, and objects where arguments are JSON."""
    return _mended(message, lambda value: from_json(value, dict))


def _with_texts(message: Message) -> Message:
    """Text where there is no content, and JSON where arguments are objects."""
    return _mended(message, lambda value: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _mended(message: Message, change: Callable[[Any], Any]) -> Message:
    calls = [_with_arguments(one, change) for one in message.get("tool_calls", ())]
    content = message.get("content") if isinstance(message.get("content"), str | list) else words_of(message)
    return {**message, "content": content} | ({"tool_calls": calls} if calls else {})


def _with_arguments(call: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _with_arguments(call["function"], change)}
    return {**call, "arguments": change(call["arguments"])} if "arguments" in call else dict(call)
