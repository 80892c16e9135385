"""Questions: prompts with the model's answers, which it gives now where only the prompt is known."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from influcoder.data.examples import Example
from influcoder.data.row_files import file_rows, find_files
from influcoder.errors import DataError
from influcoder.model.decoder import Decoder
from influcoder.verbs.opening import Rows, read_rows

ANSWER_TOKENS = 64
"""tokens of an answer that the model gives, at most"""
_PROMPTS = {"prompt": "completion", "question": "answer", "instruction": "output"}
"""columns of prompts, and the columns of their answers"""
_ANSWERS = ("completion", "response", "answer", "output", "chosen", "rejected", "messages", "conversations")
_PLACEHOLDER = "?"


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and whether its completion is the model's own answer."""

    example: Example
    generated: bool


def one_question(decoder: Decoder, prompt: str, completion: str | None) -> Question:
    """A prompt, as a user's turn, with its completion or the model's own.

    Raises:
        DataError: the model answers with nothing.
    """
    if completion is not None:
        return Question(Example.question(prompt, completion), False)
    return _answered(decoder, Example.question(prompt, _PLACEHOLDER))


def read_questions(decoder: Decoder, rows: Rows, label: str) -> list[Question]:
    """The questions of some rows; the model answers those that hold a prompt alone.

    Args:
        label: names the rows in messages.

    Raises:
        DataError: a row cannot be used, or the model answers with nothing.
    """
    marked_rows = [_with_placeholder(row) for row in _rows(rows)]
    examples = read_rows([row for row, _ in marked_rows], label, decoder)
    return [
        _answered(decoder, example) if needs_answer else Question(example, False)
        for example, (_, needs_answer) in zip(examples, marked_rows, strict=True)
    ]


def _rows(rows: Rows) -> Iterable[Any]:
    places = [rows] if isinstance(rows, str | Path) else rows
    for place in places:
        if isinstance(place, str | Path):
            yield from (row for file in find_files(place) for _, row in file_rows(file))
        else:
            yield place


def _with_placeholder(row: Any) -> tuple[Any, bool]:
    """A row, and whether it had a prompt alone and got a placeholder for its answer."""
    if isinstance(row, Mapping) and not any(row.get(name) for name in _ANSWERS):
        for prompt, answer in _PROMPTS.items():
            if row.get(prompt):
                return {**row, answer: _PLACEHOLDER}, True
    return row, False


def _answered(decoder: Decoder, question: Example) -> Question:
    answer = decoder.answer(question, ANSWER_TOKENS)
    if not answer:
        raise DataError(
            f"{decoder.name} answers {question.prompt[:60]!r} with nothing. Give an answer with --completion, or "
            "in the row."
        )
    return Question(replace(question, completion=answer), True)
