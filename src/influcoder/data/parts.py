"""The parts of a row that make an example: prompt and completion, as text or as a chat, and which of them has loss."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from influcoder.data.messages import (
    Chat,
    Message,
    RowError,
    plain,
    read_messages,
    text_of,
    turn_weights,
    without_prompt,
    words_of,
)
from influcoder.data.token_ids import TokenIds
from influcoder.data.values import from_json, is_given, shown

Loss = Literal["completion", "assistant", "all"]
Pairs = Literal["chosen", "rejected", "both"]
_VARIABLES = ("tools", "functions", "documents", "chat_template_kwargs")
_REPEATED_WORDS = 3
"""the least length of a prompt that is removed from a completion that begins with it"""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns to read if the names of a dataset are not the usual ones, and which text carries loss.

    Give `text` alone, or `prompt` with `completion`; `id` may always be given.

    Attributes:
        pairs: which side of a row with `chosen` and `rejected` is read; "both" makes two examples of it. Such rows
            are refused when omitted.
        loss: "completion": the last turn of a chat, which must be the assistant's; "assistant": all of its turns;
            "all": the whole text. Weights in a row take precedence.
    """

    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    id: str | None = None
    pairs: Pairs | None = None
    loss: Loss = "completion"


@dataclass(frozen=True, slots=True)
class Parts:
    """The content of a row: an example without its id; `used` are the columns it was read from."""

    prompt: str
    completion: str
    used: frozenset[str]
    turns: tuple[tuple[str, str], ...] = ()
    given: Chat | TokenIds | None = None
    side: str = ""


def chat_parts(
    row: Mapping[str, Any], columns: Columns, messages: list[Message], prompt: int | None, used: set[str]
) -> Parts:
    """The parts of a chat whose first `prompt` messages are the prompt; all but the last if that is None."""
    variables, names = _variables(row)
    weights = turn_weights(messages, row)
    loss = columns.loss
    if weights:
        prompt = 0 if prompt is None or any(weights[:prompt]) else prompt
    elif loss == "assistant":
        first = prompt or 0
        weights = tuple(float(message["role"] == "assistant" and n >= first) for n, message in enumerate(messages))
        prompt = first
    elif loss == "all":
        prompt = 0
    else:
        prompt = len(messages) - 1 if prompt is None else prompt
    if loss != "all" and not any(weights) and (len(messages) == prompt or messages[-1]["role"] != "assistant"):
        raise RowError(
            "no_assistant_turn", f"the last message is the {messages[-1]['role']}'s; the assistant's is the completion"
        )
    chat = Chat(tuple(messages), prompt, weights, variables)
    used |= names | ({"train_on"} if weights else set())
    if chat.is_plain and loss != "all":
        turns = tuple((message["role"], message["content"]) for message in messages[:-1])
        words = "\n\n".join(content for _, content in turns)
        return Parts(words, messages[-1]["content"], frozenset(used), turns)
    counted = [number for number in range(len(messages)) if chat.carries_loss(number)]
    texts = [text_of(message) for message in messages]
    return Parts(
        "\n\n".join(texts[n] for n in range(counted[-1]) if n not in counted and texts[n]),
        "\n\n".join(texts[n] for n in counted if texts[n]),
        frozenset(used),
        tuple((messages[n]["role"], texts[n]) for n in range(counted[0])),
        chat,
    )


def dialogue_parts(
    row: Mapping[str, Any],
    columns: Columns,
    notes: Counter[str],
    prompt: str | list[Message],
    completion: str | list[Message],
    used: set[str],
) -> Parts:
    """The parts of a prompt and a completion, each text or messages; if both are text, they are read as they are."""
    if isinstance(prompt, str) and isinstance(completion, str):
        rest = without_text(prompt, completion)
        if rest != completion:
            notes["a completion begins with its whole prompt and is taken without it"] += 1
        if columns.loss == "all":
            return Parts("", prompt + rest, frozenset(used))
        return Parts(prompt, rest, frozenset(used))
    reply: list[Message] = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion
    turns: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if isinstance(prompt, str) and holds_questions(prompt, reply):
        turns = []
    elif turns and reply:
        turns, reply = without_prompt(turns, reply)
    whole = not reply or reply[0]["role"] in ("system", "developer", "user")
    return chat_parts(row, columns, [*turns, *reply], None if whole else len(turns), used)


def holds_questions(text: str, reply: list[Message]) -> bool:
    """Whether a completion begins with the questions of its prompt: the prompt contains them, or is empty."""
    if not reply or reply[0]["role"] == "assistant":
        return False
    if not text.strip():
        return True
    questions = [" ".join(words_of(message).split()) for message in reply[:-1] if message["role"] == "user"]
    return bool(questions) and all(question in " ".join(text.split()) for question in questions)


def without_text(prompt: str, completion: str, words: int = _REPEATED_WORDS) -> str:
    """A completion without the whole prompt with which it begins, if that has so many words or more."""
    start = prompt.rstrip()
    if len(start.split()) >= words and completion.startswith(start) and completion[len(start) :].strip():
        return completion[len(prompt if completion.startswith(prompt) else start) :]
    return completion


def _variables(row: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """What a row gives the chat template besides messages, and the columns that hold it."""
    variables: dict[str, Any] = {}
    for name in ("tools", "documents"):
        value = from_json(from_json(row.get(name), list), dict)
        value = [value] if isinstance(value, Mapping) else value
        if not is_given(value) or value in ([], ""):
            continue
        objects = [from_json(item, dict) for item in value] if isinstance(value, list) else [value]
        if not all(isinstance(item, Mapping) for item in objects):
            raise RowError(f"bad_{name}", f"column {name!r} is {shown(value)}, expected a list of objects, or its JSON")
        variables[name] = plain(objects, name)
    more = from_json(row.get("chat_template_kwargs"), dict)
    if isinstance(row.get("functions"), list) and "tools" not in variables:  # OpenAI's older name for them
        functions = [from_json(function, dict) for function in row["functions"]]
        if functions and all(isinstance(item, Mapping) and isinstance(item.get("name"), str) for item in functions):
            tools = [{"type": "function", "function": function} for function in functions]
            variables["tools"] = plain(tools, "functions")
    if isinstance(more, Mapping):
        variables |= {key: item for key, item in plain(more, "chat_template_kwargs").items() if item is not None}
    return variables, {name for name in _VARIABLES if name in row} if variables else set()


def text_or_messages(row: Mapping[str, Any], column: str) -> str | list[Message]:
    """The text in a column, or the messages; a single message is a list of one.

    Raises:
        RowError: it holds neither.
    """
    value = row.get(column)
    return read_messages(value, column) if isinstance(value, list | Mapping) else text_in(row, column)


def text_in(row: Mapping[str, Any], column: str) -> str:
    """The text in a column.

    Raises:
        RowError: there is none.
    """
    if column not in row:
        raise RowError("missing_column", f"column {column!r} is missing; the row has {sorted(map(str, row))}")
    value = row[column]
    if not isinstance(value, str):
        raise RowError("not_text", f"column {column!r} is {shown(value)}, expected text")
    return value
