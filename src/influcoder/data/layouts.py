"""The layouts of rows: which columns make prompt, completion and loss (docs/rows.md)."""

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
from influcoder.data.values import common_length, from_json, is_given

_CONTEXTS = ("context", "input")
_RESPONSES = ("completion", "output", "response")
_SYSTEMS = ("system", "system_prompt")
_CHATS = ("messages", "conversations", "conversation")


def parts_of(row: Mapping[str, Any], columns: Columns, notes: Counter[str]) -> list[Parts]:
    """The parts of a row: of one example, or of two if both sides of a preference pair are read.

    Args:
        notes: changes to rows that their owner should know of are counted here.

    Raises:
        RowError: no known layout, a missing or empty part, or a value of the wrong type.
    """
    if columns.text:
        return [Parts("", text_in(row, columns.text), frozenset({columns.text}))]
    if columns.prompt or columns.completion:
        prompt, completion = columns.prompt or "prompt", columns.completion or "completion"
        question, answer = text_or_messages(row, prompt), text_or_messages(row, completion)
        return [dialogue_parts(row, columns, notes, question, answer, {prompt, completion})]
    if "chosen" in row and "rejected" in row:
        return _preferences(row, columns, notes)
    if name := next((name for name in _CHATS if name in row), None):
        system = _system(row) if name != "messages" else []
        messages = read_messages(row[name], name)
        messages = messages if messages[0]["role"] == "system" else [*system, *messages]
        return [chat_parts(row, columns, messages, None, {name, *(_SYSTEMS if system else ())})]
    if "prompt" in row:
        name = _first(row, ("completion", "response"), "prompt")
        question, answer = text_or_messages(row, "prompt"), text_or_messages(row, name)
        return [dialogue_parts(row, columns, notes, question, answer, {"prompt", name})]
    if name := next((name for name in ("instruction", "question") if name in row), None):
        response = _first(row, _RESPONSES if name == "instruction" else ("answer", *_RESPONSES), name)
        messages, used = _instruction(row, name)
        reply = {"role": "assistant", "content": text_in(row, response)}
        return [chat_parts(row, columns, [*messages, reply], len(messages), {*used, response})]
    if "text" in row:
        return [Parts("", text_in(row, "text"), frozenset({"text"}))]
    if "input_ids" in row:
        return [Parts("", "", TOKEN_COLUMNS, given=read_token_ids(row))]
    raise RowError(
        "unknown_layout",
        f"columns {sorted(map(str, row))} fit no known layout; name them with --prompt-column and --completion-column",
    )


def _preferences(row: Mapping[str, Any], columns: Columns, notes: Counter[str]) -> list[Parts]:
    """The side or sides of a preference pair, whose prompt may also be their common beginning."""
    if columns.pairs is None:
        raise RowError(
            "preference_data",
            "a pair of chosen and rejected: give --pairs chosen, --pairs rejected, or --pairs both for two rows",
        )
    used = {"chosen", "rejected"}
    prompt: str | list[Message] | None = None
    if is_given(row.get("prompt")):
        prompt, used = text_or_messages(row, "prompt"), used | {"prompt"}
    elif name := next((name for name in _CHATS if is_given(row.get(name))), None):
        prompt, used = read_messages(row[name], name), used | {name}
    elif name := next((name for name in ("instruction", "question") if is_given(row.get(name))), None):
        prompt, more = _instruction(row, name)
        used |= more
    sides = {name: text_or_messages(row, name) for name in ("chosen", "rejected")}
    if isinstance(prompt, str) and all(isinstance(side, str) for side in sides.values()):
        rest: dict[str, str | list[Message]] = {
            name: without_text(prompt, str(side), words=1) for name, side in sides.items()
        }
        sides = rest if all(rest[name] != sides[name] for name in rest) else sides
    if prompt is None or (
        isinstance(prompt, str)
        and any(isinstance(side, list) and holds_questions(prompt, side) for side in sides.values())
    ):
        prompt, sides = _shared(sides)
    wanted = ("chosen", "rejected") if columns.pairs == "both" else (columns.pairs,)
    return [replace(dialogue_parts(row, columns, notes, prompt, sides[side], set(used)), side=side) for side in wanted]


def _shared(sides: Mapping[str, str | list[Message]]) -> tuple[str | list[Message], dict[str, str | list[Message]]]:
    """The common beginning of both sides of a pair, which is the prompt, and the rest of each."""
    chosen, rejected = sides.values()
    if type(chosen) is not type(rejected):
        raise RowError("bad_pair", "of chosen and rejected one is text and one is messages; expected the same of both")
    size = common_length(chosen, rejected)
    size -= size > 0 and chosen[size - 1] == " "  # a space belongs to the word that follows it
    if size == min(len(chosen), len(rejected)):
        raise RowError("bad_pair", "one of chosen and rejected begins with the other; expected two different answers")
    return chosen[:size], {name: side[size:] for name, side in sides.items()}


def _instruction(row: Mapping[str, Any], column: str) -> tuple[list[Message], set[str]]:
    """The turns before the answer of a row with an instruction or a question, and the columns they come from."""
    parts, used = [text_in(row, column)], {column}
    contexts = _CONTEXTS if column == "instruction" else _CONTEXTS[:1]
    used |= set(contexts)
    parts += [text_in(row, name) for name in contexts if is_given(row.get(name)) and row[name] != ""]
    turns: list[Message] = _system(row)
    used |= set(_SYSTEMS) if turns else set()
    history = from_json(row.get("history"), list)
    if isinstance(history, list) and all(isinstance(pair, Sequence) and len(pair) == 2 for pair in history):
        used.add("history")
        for asked, answered in history:
            pair = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
            turns += read_messages(pair, "history")
    return [*turns, {"role": "user", "content": "\n\n".join(parts)}], used


def _system(row: Mapping[str, Any]) -> list[Message]:
    text = next((row[name] for name in _SYSTEMS if isinstance(row.get(name), str) and row[name].strip()), None)
    return [{"role": "system", "content": text}] if text else []


def _first(row: Mapping[str, Any], names: tuple[str, ...], beside: str) -> str:
    for name in names:
        if is_given(row.get(name)):
            return name
    raise RowError("missing_column", f"column {beside!r} needs one of {list(names)} beside it")
