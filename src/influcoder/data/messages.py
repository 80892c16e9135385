"""The messages of a chat: how rows write them, their plain text, and which of them carry loss."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from influcoder.data.values import from_json, is_given, shown

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function", "ipython", "observation"})
SHAREGPT = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "function_response": "tool",
    "observation": "tool",
}
"""the names of roles in ShareGPT's `from`, where they are not the usual ones"""
REASONING = ("reasoning_content", "thinking", "reasoning")
"""keys of the assistant's thoughts before its answer"""
SWITCHES = ("train", "training", "train_on", "loss")
"""keys of a message whose true or false says whether it counts in the loss; `weight` says how much"""
LEAST, MOST = 1e-6, 1e6
"""weights of messages that are not 0"""
PLAIN = frozenset({"role", "content"})
Message = Mapping[str, Any]


class RowError(Exception):
    """A row that cannot become an example: a short code for counting, and the details."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation with all that a chat template may read of it.

    Attributes:
        messages: objects with role and content, and whatever else the row has: tool_calls, reasoning_content, name.
        prompt: how many messages come before the completion. If it is 0, the whole text carries loss.
        weights: how much each message counts in the loss; () if all messages after the prompt count alike.
        variables: what the template is given besides the messages: tools, documents, chat_template_kwargs.
    """

    messages: tuple[Message, ...] = field(hash=False)
    prompt: int
    weights: tuple[float, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def is_plain(self) -> bool:
        """Whether (role, content) pairs and a last answer are all that it holds."""
        return (
            self.prompt == len(self.messages) - 1 > 0
            and not self.weights
            and not self.variables
            and all(set(message) == PLAIN and isinstance(message["content"], str) for message in self.messages)
        )

    def carries_loss(self, number: int) -> bool:
        """Whether a message counts in the loss."""
        return self.weights[number] > 0 if self.weights else number >= self.prompt


def read_messages(value: object, column: str) -> list[Message]:
    """The messages of a column: a list of objects with role and content, or from and value; or its JSON.

    Contents are text, or a list of parts if there are several; a tool's may be any JSON value. Keys without a value
    are left out.

    Raises:
        RowError: it is not such a list, a role is unknown, or a content is not text.
    """
    value = from_json(value, list)
    value = _messages_of_columns(value) if isinstance(value, Mapping) else value
    if not isinstance(value, list) or not value:
        raise RowError("no_messages", f"{column}: expected a non-empty list of messages, got {shown(value)}")
    return [_message(message, f"{column}[{number}]") for number, message in enumerate(value)]


def _messages_of_columns(columns: Mapping[str, Any]) -> list[Any]:
    """A message for each row of the columns, as `datasets` stores a list of objects; or the message itself."""
    values = list(columns.values())
    if not all(isinstance(column, list) for column in values) or len({len(column) for column in values}) != 1:
        return [columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _message(value: object, where: str) -> Message:
    value = from_json(value, dict)
    if isinstance(value, Mapping) and "role" not in value and "from" in value:
        renamed = {"role": value["from"], "content": value.get("value")}
        value = renamed | {key: item for key, item in value.items() if key not in ("from", "value")}
    if not isinstance(value, Mapping) or "role" not in value:
        raise RowError("bad_message", f"{where}: expected an object with role and content")
    role = value["role"]
    role = SHAREGPT.get(role, role) if isinstance(role, str) else role
    if not isinstance(role, str) or role not in ROLES:
        raise RowError("unknown_role", f"{where}: role {shown(role)} is none of {sorted(ROLES)}")
    message = {"role": role, "content": _content(value, where)}
    message |= {key: item for key, item in value.items() if key not in PLAIN}
    message = {key: item for key, item in message.items() if item is not None}
    if calls := _tool_calls(message.pop("tool_calls", None), where):
        message["tool_calls"] = calls
    if calls := _tool_calls(message.pop("function_call", None), where):
        message["function_call"] = calls[0]
    return message if set(message) <= PLAIN and isinstance(message.get("content"), str) else plain(message, where)


def _content(message: Mapping[str, Any], where: str) -> Any:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None and (message.get("tool_calls") or message.get("function_call")):
        return None
    if isinstance(content, Mapping) and content.get("type") == "text":
        content = [content]
    if isinstance(content, list) and content and all(_is_part(part) for part in content):
        texts = [_text_of_part(part, where) for part in content]
        return texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]
    if message["role"] in ("tool", "function", "ipython", "observation") and content is not None:
        return content  # what a tool returned may be any JSON value
    raise RowError("content_not_text", f"{where}: content is {shown(content)}; only text can be attributed")


def _is_part(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, Mapping) and ("type" in value or "text" in value))


def _text_of_part(part: str | Mapping[str, Any], where: str) -> str:
    if isinstance(part, str):
        return part
    kind, text = part.get("type", "text"), part.get("text")
    if kind not in ("text", "input_text", "output_text") or not isinstance(text, str):
        raise RowError(
            "content_not_text", f"{where}: content holds a part of type {shown(kind)}; only text can be attributed"
        )
    return text


def _tool_calls(value: object, where: str) -> list[Any]:
    calls = from_json(from_json(value, list), dict) or []
    calls = [from_json(call, dict) for call in (calls if isinstance(calls, list) else [calls])]
    if not all(isinstance(call, Mapping) and _called(call)[0] for call in calls):
        raise RowError(
            "bad_tool_calls", f"{where}: tool_calls is {shown(value)}, expected objects that name a function"
        )
    return calls


def _called(call: Mapping[str, Any]) -> tuple[str, Any]:
    """(name, arguments) of a tool call, with or without OpenAI's `function` around them."""
    inner = call.get("function")
    inner = inner if isinstance(inner, Mapping) else call
    name = inner.get("name")
    return (name if isinstance(name, str) else ""), inner.get("arguments", inner.get("parameters"))


def calls_of(message: Message) -> list[tuple[str, Any]]:
    """(name, arguments) of each tool call of a message; arguments in JSON are parsed."""
    calls = list(message.get("tool_calls") or [])
    if isinstance(message.get("function_call"), Mapping):
        calls.append(message["function_call"])
    return [(name, from_json(arguments, dict)) for name, arguments in map(_called, calls)]


def reasoning_of(message: Message) -> str:
    """The assistant's thoughts before its answer; "" if the row has none."""
    return next((message[key] for key in REASONING if isinstance(message.get(key), str)), "")


def are_parts(content: object) -> bool:
    """Whether a content is a list of parts with text."""
    return isinstance(content, list) and all(isinstance(part, Mapping) and "text" in part for part in content)


def words_of(message: Message) -> str:
    """The content of a message as one text; a tool's JSON value as JSON."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    if are_parts(content):
        return "".join(str(part["text"]) for part in content)
    return json.dumps(content, ensure_ascii=False)


def text_of(message: Message) -> str:
    """The whole of a message in plain text: thoughts, words, and tool calls as JSON.

    >>> text_of({"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]})
    '{"name": "add", "arguments": {"a": 1}}'
    """
    if set(message) <= PLAIN:
        return words_of(message)
    calls = [json.dumps({"name": name, "arguments": value}, ensure_ascii=False) for name, value in calls_of(message)]
    return "\n".join(part for part in (reasoning_of(message), words_of(message), *calls) if part)


def turn_weights(messages: Sequence[Message], row: Mapping[str, Any]) -> tuple[float, ...]:
    """How much each message counts in the loss, if the row says so; otherwise ().

    A message says so by `weight`, or by one of `SWITCHES`; the row by a list in a column `train_on`, `weights` or
    `weight`, a value per message, or by roles in `train_on`. If only some messages have a weight, the assistant's
    others count 1, and all others 0.

    Raises:
        RowError: a weight is not a number or truth value, or is negative; there are not as many as messages; all are 0.
    """
    column, given = _column_of_weights(row)
    stated = [_stated_weight(message) for message in messages]
    if isinstance(given, frozenset):
        given = [message["role"] in given for message in messages]
    if given is not None:
        if len(given) != len(messages):
            raise RowError("bad_weight", f"column {column!r} holds {len(given)} values for {len(messages)} messages")
        stated = [
            _weight(value) if weight is None and value is not None else weight
            for weight, value in zip(stated, given, strict=True)
        ]
    if all(weight is None for weight in stated):
        return ()
    weights = tuple(
        float(message["role"] == "assistant") if weight is None else weight
        for message, weight in zip(messages, stated, strict=True)
    )
    if not any(weights):
        raise RowError("no_loss", "no message counts in the loss: all weights are 0")
    return weights


def _column_of_weights(row: Mapping[str, Any]) -> tuple[str, list[Any] | frozenset[str] | None]:
    """(name, content) of the column with a value per message, or with the roles that count; ("", None) without one."""
    given = from_json(row.get("train_on"), list)
    if is_given(given) and given is not True:
        names = [given] if isinstance(given, str) else given
        roles = [SHAREGPT.get(name, name) for name in names if isinstance(name, str)] if isinstance(names, list) else []
        if roles and len(roles) == len(names) and set(roles) <= ROLES:
            return "train_on", frozenset(roles)
        if not isinstance(given, list):
            expected = "expected roles, or a list with a value per message"
            raise RowError("bad_weight", f"column 'train_on' is {shown(given)}, {expected}")
        return "train_on", given
    columns = {name: from_json(row.get(name), list) for name in ("weights", "weight")}
    return next(((name, values) for name, values in columns.items() if isinstance(values, list)), ("", None))


def _stated_weight(message: Message) -> float | None:
    if "weight" in message:
        return _weight(message["weight"])
    return next((float(message[key]) for key in SWITCHES if isinstance(message.get(key), bool)), None)


def _weight(value: object) -> float:
    if not isinstance(value, bool | int | float) or (value != 0 and not LEAST <= value <= MOST):
        raise RowError(
            "bad_weight",
            f"the weight of a message is {shown(value)}, expected 0 or a number from {LEAST:g} to {MOST:g}",
        )
    return float(value)


def without_prompt(prompt: list[Message], completion: list[Message]) -> tuple[list[Message], list[Message]]:
    """Prompt and completion without the messages of the prompt with which the completion may begin.

    >>> user, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    >>> without_prompt([user], [user, answer]) == ([user], [answer])
    True
    """
    if completion[0]["role"] == "assistant":
        return prompt, completion
    asked, answered = (
        [(turn["role"], " ".join(text_of(turn).split())) for turn in side] for side in (prompt, completion)
    )
    for size in range(min(len(asked), len(answered)), 0, -1):
        if asked[-size:] == answered[:size]:
            return prompt, completion[size:]
    for start in range(1, len(answered) - len(asked)):
        if answered[start : (stop := start + len(asked))] == asked:  # the completion is the whole chat
            return completion[:stop], completion[stop:]
    return prompt, completion


def plain(value: Any, where: str) -> Any:
    """A value as JSON; what JSON cannot hold becomes text.

    Raises:
        RowError: it holds itself, or is nested too deep.
    """
    try:
        return json.loads(json.dumps(value, default=str))
    except (ValueError, RecursionError, TypeError) as error:
        raise RowError("bad_value", f"{where}: cannot be written as JSON: {error}") from error
