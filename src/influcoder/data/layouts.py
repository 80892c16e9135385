"""The layouts of rows: which columns hold what, and what of it is prompt, completion and loss (docs/rows.md)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from influcoder.data.messages import Message, RowError, read_messages
from influcoder.data.parts import (
    Columns,
    Parts,
    chat_parts,
    dialogue_parts,
    holds_questions,
    text_in,
    text_or_messages,
    without_text,
)
from influcoder.data.token_ids import TOKEN_COLUMNS, read_token_ids
from influcoder.data.values import from_json, is_given

_CONTEXTS = ("context", "input")
_RESPONSES = ("completion", "output", "response")
_SYSTEMS = ("system", "system_prompt")
_CHATS = ("messages", "conversations", "conversation")


def parts_of(row: Mapping[str, Any], columns: Columns, notes: Counter[str]) -> list[Parts]:
    """The parts of a row: of one example, or of two where both sides of a preference pair are read.

    Args:
        notes: what was done to rows that their owner should know of is counted here.

    Raises:
        RowError: no known layout, a missing or empty part, or a value of the wrong type.
    """
    if columns.text:
        return [Parts("", text_in(row, columns.text), frozenset({columns.text}))]
    if columns.prompt or columns.completion:
        prompt, completion = columns.prompt or "prompt", columns.completion or "completion"
        said = text_or_messages(row, completion)
        return [dialogue_parts(row, columns, notes, text_or_messages(row, prompt), said, {prompt, completion})]
    if "chosen" in row and "rejected" in row:
        return _preferences(row, columns, notes)
    if name := next((name for name in _CHATS if name in row), None):
        system = _system(row) if name != "messages" else []
        messages = read_messages(row[name], name)
        messages = messages if messages[0]["role"] == "system" else [*system, *messages]
        return [chat_parts(row, columns, messages, None, {name, *(_SYSTEMS if system else ())})]
    if "prompt" in row:
        name = _first(row, ("completion", "response"), "prompt")
        asked, said = text_or_messages(row, "prompt"), text_or_messages(row, name)
        return [dialogue_parts(row, columns, notes, asked, said, {"prompt", name})]
    if name := next((name for name in ("instruction", "question") if name in row), None):
        answers = _RESPONSES if name == "instruction" else ("answer", *_RESPONSES)
        answer = _first(row, answers, name)
        said = [{"role": "assistant", "content": text_in(row, answer)}]
        asked, used = _instruction(row, name)
        return [chat_parts(row, columns, [*asked, *said], len(asked), {*used, answer})]
    if "text" in row:
        return [Parts("", text_in(row, "text"), frozenset({"text"}))]
    if "input_ids" in row:
        return [Parts("", "", TOKEN_COLUMNS, given=read_token_ids(row))]
    raise RowError(
        "unknown_layout",
        f"columns {sorted(map(str, row))} fit no known layout; name them with --prompt-column and --completion-column",
    )


def _preferences(row: Mapping[str, Any], columns: Columns, notes: Counter[str]) -> list[Parts]:
    """The side or sides of a preference pair, whose prompt may also be what both begin with."""
    if columns.pairs is None:
        raise RowError(
            "preference_data",
            "a pair of chosen and rejected: give --pairs chosen, --pairs rejected, or --pairs both for two rows",
        )
    used = {"chosen", "rejected"}
    asked: str | list[Message] | None = None
    if is_given(row.get("prompt")):
        asked, used = text_or_messages(row, "prompt"), used | {"prompt"}
    elif name := next((name for name in _CHATS if is_given(row.get(name))), None):
        asked, used = read_messages(row[name], name), used | {name}
    elif name := next((name for name in ("instruction", "question") if is_given(row.get(name))), None):
        asked, more = _instruction(row, name)
        used |= more
    sides = {name: text_or_messages(row, name) for name in ("chosen", "rejected")}
    if isinstance(asked, str) and all(isinstance(one, str) for one in sides.values()):
        rest: dict[str, str | list[Message]] = {
            name: without_text(asked, str(said), words=1) for name, said in sides.items()
        }
        sides = rest if all(rest[name] != sides[name] for name in rest) else sides
    if asked is None or (
        isinstance(asked, str) and any(isinstance(s, list) and holds_questions(asked, s) for s in sides.values())
    ):
        asked, sides = _shared(sides)
    chosen = ("chosen", "rejected") if columns.pairs == "both" else (columns.pairs,)
    return [replace(dialogue_parts(row, columns, notes, asked, sides[side], set(used)), side=side) for side in chosen]


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
    parts, used = [text_in(row, column)], {column}
    contexts = _CONTEXTS if column == "instruction" else _CONTEXTS[:1]
    used |= set(contexts)
    parts += [text_in(row, name) for name in contexts if is_given(row.get(name)) and row[name] != ""]
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


def _first(row: Mapping[str, Any], names: tuple[str, ...], beside: str) -> str:
    for name in names:
        if is_given(row.get(name)):
            return name
    raise RowError("missing_column", f"column {beside!r} needs one of {list(names)} beside it")
