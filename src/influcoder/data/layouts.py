"""The layouts of rows: which columns hold what, and what of it is prompt, completion and loss (docs/rows.md)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from influcoder.data.messages import (
    Chat,
    Message,
    RowError,
    from_json,
    is_given,
    plain,
    read_messages,
    shown,
    text_of,
    turn_weights,
    without_prompt,
    words_of,
)
from influcoder.data.token_ids import TOKEN_COLUMNS, TokenIds, read_token_ids

Loss = Literal["completion", "assistant", "all"]
Pairs = Literal["chosen", "rejected", "both"]
_CONTEXTS = ("context", "input")
_RESPONSES = ("completion", "output", "response")
_SYSTEMS = ("system", "system_prompt")
_CHATS = ("messages", "conversations", "conversation")
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


def parts_of(row: Mapping[str, Any], columns: Columns, notes: Counter[str]) -> list[Parts]:
    """The parts of a row: of one example, or of two where both sides of a preference pair are read.

    Args:
        notes: what was done to rows that their owner should know of is counted here.

    Raises:
        RowError: no known layout, a missing or empty part, or a value of the wrong type.
    """
    if columns.text:
        return [Parts("", _string(row, columns.text), frozenset({columns.text}))]
    if columns.prompt or columns.completion:
        prompt, completion = columns.prompt or "prompt", columns.completion or "completion"
        said = _text_or_messages(row, completion)
        return [_dialogue(row, columns, notes, _text_or_messages(row, prompt), said, {prompt, completion})]
    if "chosen" in row and "rejected" in row:
        return _preferences(row, columns, notes)
    if name := next((name for name in _CHATS if name in row), None):
        system = _system(row) if name != "messages" else []
        messages = read_messages(row[name], name)
        messages = messages if messages[0]["role"] == "system" else [*system, *messages]
        return [_chat(row, columns, messages, None, {name, *(_SYSTEMS if system else ())})]
    if "prompt" in row:
        name = _first(row, ("completion", "response"), "prompt")
        asked, said = _text_or_messages(row, "prompt"), _text_or_messages(row, name)
        return [_dialogue(row, columns, notes, asked, said, {"prompt", name})]
    if name := next((name for name in ("instruction", "question") if name in row), None):
        answers = _RESPONSES if name == "instruction" else ("answer", *_RESPONSES)
        answer = _first(row, answers, name)
        said = [{"role": "assistant", "content": _string(row, answer)}]
        asked, used = _instruction(row, name)
        return [_chat(row, columns, [*asked, *said], len(asked), {*used, answer})]
    if "text" in row:
        return [Parts("", _string(row, "text"), frozenset({"text"}))]
    if "input_ids" in row:
        return [Parts("", "", TOKEN_COLUMNS, given=read_token_ids(row))]
    raise RowError(
        "unknown_layout",
        f"columns {sorted(map(str, row))} fit no known layout; name them with --prompt-column and --completion-column",
    )


def _chat(
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


def _dialogue(
    row: Mapping[str, Any],
    columns: Columns,
    notes: Counter[str],
    asked: str | list[Message],
    said: str | list[Message],
    used: set[str],
) -> Parts:
    """The parts of a prompt and a completion, each text or messages: text alone is read as it is written."""
    if isinstance(asked, str) and isinstance(said, str):
        rest = _without_text(asked, said)
        if rest != said:
            notes["a completion begins with its whole prompt and is taken without it"] += 1
        if columns.loss == "all":
            return Parts("", asked + rest, frozenset(used))
        return Parts(asked, rest, frozenset(used))
    reply: list[Message] = [{"role": "assistant", "content": said}] if isinstance(said, str) else said
    turns: list[Message] = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    if isinstance(asked, str) and _holds(asked, reply):
        turns = []
    elif turns and reply:
        turns, reply = without_prompt(turns, reply)
    whole = not reply or reply[0]["role"] in ("system", "developer", "user")
    return _chat(row, columns, [*turns, *reply], None if whole else len(turns), used)


def _holds(text: str, reply: list[Message]) -> bool:
    """Whether a prompt's text holds the user's words with which a completion begins: a chat that was rendered."""
    asked = [" ".join(words_of(one).split()) for one in reply[:-1] if one["role"] == "user"]
    return bool(asked) and reply[0]["role"] != "assistant" and all(one in " ".join(text.split()) for one in asked)


def _without_text(prompt: str, completion: str, words: int = _REPEATED_WORDS) -> str:
    start = prompt.rstrip()
    if len(start.split()) >= words and completion.startswith(start) and completion[len(start) :].strip():
        return completion[len(prompt if completion.startswith(prompt) else start) :]
    return completion


def _preferences(row: Mapping[str, Any], columns: Columns, notes: Counter[str]) -> list[Parts]:
    if columns.pairs is None:
        raise RowError(
            "preference_data",
            "a pair of chosen and rejected: give --pairs chosen, --pairs rejected, or --pairs both for two rows",
        )
    used = {"chosen", "rejected"}
    asked: str | list[Message] | None = None
    if row.get("prompt") is not None:
        asked, used = _text_or_messages(row, "prompt"), used | {"prompt"}
    elif name := next((name for name in _CHATS if row.get(name) is not None), None):
        asked, used = read_messages(row[name], name), used | {name}
    elif name := next((name for name in ("instruction", "question") if row.get(name) is not None), None):
        asked, more = _instruction(row, name)
        used |= more
    sides = {name: _text_or_messages(row, name) for name in ("chosen", "rejected")}
    if isinstance(asked, str) and all(isinstance(one, str) for one in sides.values()):
        rest: dict[str, str | list[Message]] = {
            name: _without_text(asked, str(said), words=1) for name, said in sides.items()
        }
        sides = rest if all(rest[name] != sides[name] for name in rest) else sides
    if asked is None or (
        isinstance(asked, str) and any(isinstance(s, list) and _holds(asked, s) for s in sides.values())
    ):
        asked, sides = _shared(sides)
    chosen = ("chosen", "rejected") if columns.pairs == "both" else (columns.pairs,)
    return [replace(_dialogue(row, columns, notes, asked, sides[side], set(used)), side=side) for side in chosen]


def _shared(sides: Mapping[str, str | list[Message]]) -> tuple[str | list[Message], dict[str, str | list[Message]]]:
    """What both sides of a pair begin with, which is the prompt, and what is left of each."""
    one, other = sides.values()
    if isinstance(one, str) and isinstance(other, str):
        size = _common(one, other)
        size -= size > 0 and one[size - 1] == " "  # a space belongs to the word that follows it
    elif isinstance(one, list) and isinstance(other, list):
        size = _common(one, other)
    else:
        raise RowError("bad_pair", "of chosen and rejected one is text and one is messages; expected the same of both")
    if size == min(len(one), len(other)):
        raise RowError("bad_pair", "chosen and rejected are the same as far as they go; expected two different answers")
    return one[:size], {name: side[size:] for name, side in sides.items()}


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How long two sequences are the same from their beginning."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _instruction(row: Mapping[str, Any], column: str) -> tuple[list[Message], set[str]]:
    """The turns before the answer of a row with an instruction or a question, and the columns they come from."""
    parts, used = [_string(row, column)], {column}
    if column == "instruction":
        used |= set(_CONTEXTS)
        context = next((name for name in _CONTEXTS if is_given(row.get(name)) and row[name] != ""), None)
        parts += [_string(row, context)] if context else []
    turns: list[Message] = _system(row)
    used |= set(_SYSTEMS) if turns else set()
    history = from_json(row.get("history"), list)
    if isinstance(history, list) and all(isinstance(one, Sequence) and len(one) == 2 for one in history):
        used.add("history")
        for pair in history:
            turns += read_messages(
                [{"role": role, "content": text} for role, text in zip(("user", "assistant"), pair, strict=True)],
                "history",
            )
    return [*turns, {"role": "user", "content": "\n\n".join(parts)}], used


def _system(row: Mapping[str, Any]) -> list[Message]:
    text = next((row[name] for name in _SYSTEMS if isinstance(row.get(name), str) and row[name].strip()), None)
    return [{"role": "system", "content": text}] if text else []


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
    if isinstance(more, Mapping):
        found |= {key: item for key, item in plain(more, "chat_template_kwargs").items() if item is not None}
    return found, {name for name in ("tools", "documents", "chat_template_kwargs") if name in row} if found else set()


def _text_or_messages(row: Mapping[str, Any], column: str) -> str | list[Message]:
    value = row.get(column)
    if isinstance(value, list):
        return read_messages(value, column)
    return read_messages([value], column) if isinstance(value, Mapping) else _string(row, column)


def _first(row: Mapping[str, Any], names: tuple[str, ...], beside: str) -> str:
    for name in names:
        if is_given(row.get(name)):
            return name
    raise RowError("missing_column", f"column {beside!r} needs one of {list(names)} beside it")


def _string(row: Mapping[str, Any], column: str) -> str:
    if column not in row:
        raise RowError("missing_column", f"column {column!r} is missing; the row has {sorted(map(str, row))}")
    value = row[column]
    if not isinstance(value, str):
        raise RowError("not_text", f"column {column!r} is {shown(value)}, expected text")
    return value
