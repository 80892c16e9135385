"""The parts of which a row makes an example: prompt and completion, as text or as a chat, and what of them has loss."""

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
"""of a prompt that a completion's text must begin with to be taken without it"""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns to read where the names of a dataset are not the usual ones, and what of them carries loss.

    Give `text` alone, or `prompt` with `completion`; `id` may always be given.

    Attributes:
        pairs: which side of a row with `chosen` and `rejected` is read; "both" makes two examples of it. Such rows
            are refused when omitted.
        loss: "completion": of a chat the last turn, which must be the assistant's; "assistant": all of its turns;
            "all": the whole text. What a row says of its own turns comes first.
    """

    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    id: str | None = None
    pairs: Pairs | None = None
    loss: Loss = "completion"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a row holds: an example without its id; `used` are the columns it was read from."""

    prompt: str
    completion: str
    used: frozenset[str]
    turns: tuple[tuple[str, str], ...] = ()
    given: Chat | TokenIds | None = None
    side: str = ""


def chat_parts(
    row: Mapping[str, Any], columns: Columns, messages: list[Message], prompt: int | None, used: set[str]
) -> Parts:
    """The parts of a chat whose first `prompt` messages are asked; all but the last where that is None."""
    variables, names = _variables(row)
    weights = turn_weights(messages, row)
    loss = columns.loss
    if weights:
        prompt = 0 if prompt is None or any(weights[:prompt]) else prompt
    elif loss == "assistant":
        first = prompt or 0
        weights = tuple(float(one["role"] == "assistant" and n >= first) for n, one in enumerate(messages))
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
        turns = tuple((one["role"], one["content"]) for one in messages[:-1])
        words = "\n\n".join(content for _, content in turns)
        return Parts(words, messages[-1]["content"], frozenset(used), turns)
    counted = [number for number in range(len(messages)) if chat.carries_loss(number)]
    texts = [text_of(one) for one in messages]
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
    asked: str | list[Message],
    said: str | list[Message],
    used: set[str],
) -> Parts:
    """The parts of a prompt and a completion, each text or messages: text alone is read as it is written."""
    if isinstance(asked, str) and isinstance(said, str):
        rest = without_text(asked, said)
        if rest != said:
            notes["a completion begins with its whole prompt and is taken without it"] += 1
        if columns.loss == "all":
            return Parts("", asked + rest, frozenset(used))
        return Parts(asked, rest, frozenset(used))
    reply: list[Message] = [{"role": "assistant", "content": said}] if isinstance(said, str) else said
    turns: list[Message] = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    if isinstance(asked, str) and holds_questions(asked, reply):
        turns = []
    elif turns and reply:
        turns, reply = without_prompt(turns, reply)
    whole = not reply or reply[0]["role"] in ("system", "developer", "user")
    return chat_parts(row, columns, [*turns, *reply], None if whole else len(turns), used)


def holds_questions(text: str, reply: list[Message]) -> bool:
    """Whether a completion begins with all that its prompt asks: its user's words are in that text, or it is empty."""
    if reply and reply[0]["role"] != "assistant" and not text.strip():
        return True
    asked = [" ".join(words_of(one).split()) for one in reply[:-1] if one["role"] == "user"]
    return bool(asked) and reply[0]["role"] != "assistant" and all(one in " ".join(text.split()) for one in asked)


def without_text(prompt: str, completion: str, words: int = _REPEATED_WORDS) -> str:
    """A completion without the whole prompt, of so many words or more, that it begins with."""
    start = prompt.rstrip()
    if len(start.split()) >= words and completion.startswith(start) and completion[len(start) :].strip():
        return completion[len(prompt if completion.startswith(prompt) else start) :]
    return completion


def _variables(row: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """What a row hands the chat template beside messages, and the columns that hold it."""
    found: dict[str, Any] = {}
    for name in ("tools", "documents"):
        value = from_json(row.get(name), list)
        value = from_json(value, dict)
        value = [value] if isinstance(value, Mapping) else value
        if not is_given(value) or value in ([], ""):
            continue
        if not isinstance(value, list):
            raise RowError(f"bad_{name}", f"column {name!r} is {shown(value)}, expected a list of objects, or its JSON")
        value = [from_json(one, dict) for one in value]
        if not all(isinstance(one, Mapping) for one in value):
            raise RowError(f"bad_{name}", f"column {name!r} is {shown(value)}, expected a list of objects, or its JSON")
        found[name] = plain(value, name)
    more = from_json(row.get("chat_template_kwargs"), dict)
    if isinstance(row.get("functions"), list) and "tools" not in found:  # OpenAI's older name for them
        known = [from_json(one, dict) for one in row["functions"]]
        if known and all(isinstance(one, Mapping) and isinstance(one.get("name"), str) for one in known):
            found["tools"] = plain([{"type": "function", "function": one} for one in known], "functions")
    if isinstance(more, Mapping):
        found |= {key: item for key, item in plain(more, "chat_template_kwargs").items() if item is not None}
    return found, {name for name in _VARIABLES if name in row} if found else set()


def text_or_messages(row: Mapping[str, Any], column: str) -> str | list[Message]:
    """The text in a column, or the messages; a single message is a list of one.

    Raises:
        RowError: neither.
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
