"""The example, and how a row of any common Hugging Face layout becomes one.

A row's layout is told from its column names, in this order:

| columns | becomes |
|---|---|
| `messages` | a chat; the last message must be the assistant's: it is the completion |
| `prompt` + `completion` or `response` | as written; lists of messages are a chat |
| `instruction` (+ `context` or `input`) + `output` or `response` | one user turn, one assistant turn |
| `question` + `answer` | one user turn, one assistant turn |
| `text` | no prompt; the whole text is the completion |

Chats are rendered with the decoder's chat template; text "as written" is not. Columns that are not used
are kept as metadata. A missing `id` becomes a hash of prompt and completion, so it does not depend on
file name or order; a repeated text gets `-2`, `-3` ...
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_CONTEXTS = ("context", "input")
_RESPONSES = ("completion", "output", "response")


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt (no loss) and a completion (loss), with an id.

    `turns` holds the (role, content) pairs of a chat up to the completion; without turns the prompt is
    raw text. `prompt` always reads as plain text. `row` is the row it was read from, or None.

    >>> Example("a", "What is the capital of France?", "Paris").completion
    'Paris'
    """

    id: str
    prompt: str
    completion: str
    turns: tuple[tuple[str, str], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)
    row: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def question(cls, prompt: str, completion: str, *, id: str = "query") -> "Example":
        """What a model is asked, as a user's turn, and what it says.

        >>> Example.question("What is the capital of France?", "Paris").turns
        (('user', 'What is the capital of France?'),)
        """
        return cls(id, prompt, completion, (("user", prompt),))


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns to read where the names of a dataset are not the usual ones.

    Give `text` alone, or `prompt` with `completion`; `id` may always be given.
    """

    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    id: str | None = None


class RowError(Exception):
    """A row that cannot become an example: a short code for counting, and the details."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def example_from_row(row: object, columns: Columns | None = None) -> Example:
    """The example a row holds; its id is "" when the row has none.

    Raises:
        RowError: no known layout, a missing or empty part, or a value of the wrong type.

    >>> example_from_row({"question": "2 + 2?", "answer": "4"}).turns
    (('user', '2 + 2?'),)
    """
    columns = columns or Columns()
    if not isinstance(row, Mapping):
        raise RowError("not_an_object", f"expected an object with columns, got {type(row).__name__}")
    prompt, completion, turns, used = _parts(row, columns)
    id_column = columns.id or "id"
    metadata = {name: value for name, value in row.items() if name not in used and name != id_column}
    return checked(Example(_row_id(row, columns), prompt, completion, turns, metadata, row))


def checked(example: Example) -> Example:
    """The example itself, once it is sure that it can be attributed and stored; an empty id is allowed.

    Raises:
        RowError: an empty completion, an id that is no short line, or text that UTF-8 cannot hold.
    """
    if not example.completion.strip():
        raise RowError("empty_completion", "the completion is empty, so there is no loss to attribute")
    if len(example.id) > 512 or any(ord(character) < 32 for character in example.id):
        raise RowError("bad_id", f"id {_shown(example.id)}: ids are one line of at most 512 characters")
    for text in (example.id, example.prompt, example.completion, *(part for turn in example.turns for part in turn)):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RowError(
                "bad_unicode", f"a lone surrogate at character {error.start} cannot be written as UTF-8"
            ) from error
    return example


def plain_text(example: Example) -> str:
    """Prompt and completion as one text: what a method reads that does not tell them apart."""
    return f"{example.prompt}\n{example.completion}"


def content_id(example: Example) -> str:
    """The id of an example that has none: 16 hex digits of its prompt and completion."""
    text = "\x00".join([example.prompt, example.completion])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


Parts = tuple[str, str, tuple[tuple[str, str], ...], set[str]]


def _parts(row: Mapping[str, Any], columns: Columns) -> Parts:
    """(prompt, completion, turns, the columns used)."""
    if columns.text:
        return "", _string(row, columns.text), (), {columns.text}
    if columns.prompt or columns.completion:
        return _pair(row, columns.prompt or "prompt", columns.completion or "completion")
    if "chosen" in row and "rejected" in row:
        raise RowError("preference_data", "chosen/rejected pairs: pass the side to attribute with --completion-column")
    if "messages" in row:
        turns = _messages(row["messages"], "messages")
        return _chat(turns, {"messages"})
    if "prompt" in row:
        return _pair(row, "prompt", _first(row, ("completion", "response"), "prompt"))
    if "instruction" in row:
        response = _first(row, _RESPONSES, "instruction")
        parts = [_string(row, "instruction")]
        context = next((name for name in _CONTEXTS if row.get(name)), None)
        if context:
            parts.append(_string(row, context))
        prompt = "\n\n".join(parts)
        return prompt, _string(row, response), (("user", prompt),), {"instruction", response, *_CONTEXTS}
    if "question" in row:
        prompt, answer = _string(row, "question"), _string(row, _first(row, ("answer",), "question"))
        return prompt, answer, (("user", prompt),), {"question", "answer"}
    if "text" in row:
        return "", _string(row, "text"), (), {"text"}
    raise RowError(
        "unknown_layout",
        f"columns {sorted(map(str, row))} fit no known layout; name them with --prompt-column and --completion-column",
    )


def _pair(row: Mapping[str, Any], prompt_column: str, completion_column: str) -> Parts:
    used = {prompt_column, completion_column}
    prompt, completion = row.get(prompt_column), row.get(completion_column)
    if isinstance(prompt, list) or isinstance(completion, list):
        turns = (
            _messages(prompt, prompt_column) if isinstance(prompt, list) else [("user", _string(row, prompt_column))]
        )
        if isinstance(completion, list):
            turns += _messages(completion, completion_column)
        else:
            turns.append(("assistant", _string(row, completion_column)))
        return _chat(turns, used)
    return _string(row, prompt_column), _string(row, completion_column), (), used


def _chat(turns: list[tuple[str, str]], used: set[str]) -> Parts:
    if turns[-1][0] != "assistant":
        raise RowError(
            "no_assistant_turn", f"the last message is the {turns[-1][0]}'s; the assistant's is the completion"
        )
    before = tuple(turns[:-1])
    return "\n\n".join(content for _, content in before), turns[-1][1], before, used


def _messages(value: object, column: str) -> list[tuple[str, str]]:
    if not isinstance(value, list) or not value:
        raise RowError("no_messages", f"{column}: expected a non-empty list of messages, got {_shown(value)}")
    turns = []
    for number, message in enumerate(value):
        if not isinstance(message, Mapping) or "role" not in message:
            raise RowError("bad_message", f"{column}[{number}]: expected an object with role and content")
        role, content = message["role"], message.get("content")
        if not isinstance(role, str) or role not in ROLES:
            raise RowError("unknown_role", f"{column}[{number}]: role {_shown(role)} is none of {sorted(ROLES)}")
        if not isinstance(content, str):
            raise RowError(
                "content_not_text", f"{column}[{number}]: content is {_shown(content)}; only text can be attributed"
            )
        turns.append((role, content))
    return turns


def _first(row: Mapping[str, Any], names: tuple[str, ...], beside: str) -> str:
    for name in names:
        if row.get(name) is not None:
            return name
    raise RowError("missing_column", f"column {beside!r} needs one of {list(names)} beside it")


def _string(row: Mapping[str, Any], column: str) -> str:
    if column not in row:
        raise RowError("missing_column", f"column {column!r} is missing; the row has {sorted(map(str, row))}")
    value = row[column]
    if not isinstance(value, str):
        raise RowError("not_text", f"column {column!r} is {_shown(value)}, expected text")
    return value


def _row_id(row: Mapping[str, Any], columns: Columns) -> str:
    column = columns.id or "id"
    value = row.get(column)
    if value is None:
        if columns.id:
            raise RowError("missing_id", f"column {column!r} is missing or null")
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise RowError("bad_id", f"column {column!r} is {_shown(value)}, expected text or a whole number")
    return str(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def normalised(example: Example) -> str:
    """A hash of prompt and completion without case and spacing."""
    return content_id(
        Example("", " ".join(example.prompt.lower().split()), " ".join(example.completion.lower().split()))
    )


Role = Literal["query", "pool"]
