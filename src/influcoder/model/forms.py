"""The forms in which a chat template may take the same messages: templates differ in contents and arguments."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

from influcoder.data.messages import Message, are_parts, words_of
from influcoder.data.values import from_json
from influcoder.model.template import ChatTemplate


def forms_of(messages: Sequence[Message], template: ChatTemplate) -> Iterator[list[Message]]:
    """The messages in the form that the template most likely takes, then in other forms.

    Contents are text, or lists of parts. Where the template fails on the row as it is, a missing content becomes an
    empty text, and arguments become objects, then JSON. Parts of the row are kept where the template takes them.
    """
    repairs: list[Callable[[Message], Message]] = [lambda message: message]
    if any(not isinstance(message.get("content"), str) or "tool_calls" in message for message in messages):
        repairs += [partial(_repaired, change=change) for change in (_as_object, _as_json)]
    keeps_parts = (True, True) in template.part_forms
    for repair, (asks_in_parts, answers_in_parts) in product(repairs, template.part_forms):
        yield [
            _with_content(
                repair(message),
                parts=answers_in_parts if message["role"] == "assistant" else asks_in_parts,
                keep=keeps_parts,
            )
            for message in messages
        ]


def _with_content(message: Message, *, parts: bool, keep: bool) -> Message:
    """The message with its content as a list of parts, or as text; with `keep`, parts of the row stay parts."""
    content = message.get("content")
    if isinstance(content, str) and parts:
        return {**message, "content": [{"type": "text", "text": content}]}
    return {**message, "content": words_of(message)} if are_parts(content) and not (parts or keep) else message


def _as_object(arguments: Any) -> Any:
    return from_json(arguments, dict)


def _as_json(arguments: Any) -> Any:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _repaired(message: Message, change: Callable[[Any], Any]) -> Message:
    """The message with text where it has no content, and its calls' arguments changed."""
    calls = [_with_arguments(call, change) for call in message.get("tool_calls", ())]
    content = message.get("content")
    text = content if isinstance(content, str) or are_parts(content) else words_of(message)
    return {**message, "content": text} | ({"tool_calls": calls} if calls else {})


def _with_arguments(call: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _with_arguments(call["function"], change)}
    return {**call, "arguments": change(call["arguments"])} if "arguments" in call else dict(call)
