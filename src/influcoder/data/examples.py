"""The example, and how a row of any common Hugging Face layout becomes one.

A row's layout follows from its column names; docs/rows.md has the table of all layouts. Chats are rendered with the
decoder's chat template; plain text is not. Columns that are not used are kept as metadata. A missing `id` becomes a
hash of prompt and completion, so it does not depend on file name or order; a repeated text gets `-2`, `-3` ...
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from influcoder.data.layouts import parts_of
from influcoder.data.messages import Chat, RowError
from influcoder.data.parts import Columns
from influcoder.data.token_ids import TokenIds
from influcoder.data.values import as_lists, shown

SIDE = "preference"
"""the metadata column that says which side of a preference pair an example is: chosen or rejected"""


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt (no loss) and a completion (loss), with an id.

    `turns` holds the (role, content) pairs of a chat up to the completion; without turns the prompt is
    raw text. `prompt` and `completion` are always plain text. `given` is what the decoder reads if there is more than
    these: a chat with tools, tool calls, reasoning or loss by turn, or token ids. `row` is the row it was read from,
    or None.

    >>> Example("a", "What is the capital of France?", "Paris").completion
    'Paris'
    """

    id: str
    prompt: str
    completion: str
    turns: tuple[tuple[str, str], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)
    given: Chat | TokenIds | None = None
    row: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def question(cls, prompt: str, completion: str, *, id: str = "query") -> "Example":
        """A question to a model, as a user's turn, and its answer.

        >>> Example.question("What is the capital of France?", "Paris").turns
        (('user', 'What is the capital of France?'),)
        """
        return cls(id, prompt, completion, (("user", prompt),))


def examples_from_row(row: object, columns: Columns | None = None, notes: Counter[str] | None = None) -> list[Example]:
    """The example of a row, or the two of a preference pair if both sides are read.

    The id is "" if the row has none. The ids of a pair end in -chosen or -rejected, and the metadata column
    `preference` says which side an example is.

    Args:
        notes: changes to rows that their owner should know of are counted here.

    Raises:
        RowError: no known layout, a missing or empty part, or a value of the wrong type.
    """
    columns = columns or Columns()
    if not isinstance(row, Mapping):
        raise RowError("not_an_object", f"expected an object with columns, got {type(row).__name__}")
    examples = []
    for parts in parts_of(_plain(row), columns, Counter() if notes is None else notes):
        used = parts.used | {columns.id or "id"}
        metadata = {name: value for name, value in row.items() if name not in used}
        name = _row_id(row, columns)
        if parts.side:
            name, metadata = f"{name}-{parts.side}" if name else "", metadata | {SIDE: parts.side}
        examples.append(checked(Example(name, parts.prompt, parts.completion, parts.turns, metadata, parts.given, row)))
    return examples


def _plain(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with lists in place of arrays."""
    try:
        return {name: as_lists(value) for name, value in row.items()}
    except RecursionError:  # a value that holds itself, which is refused where it is used
        return row


def example_from_row(row: object, columns: Columns | None = None) -> Example:
    """The example of a row, or the first of two; see `examples_from_row`.

    >>> example_from_row({"question": "2 + 2?", "answer": "4"}).turns
    (('user', '2 + 2?'),)
    """
    return examples_from_row(row, columns)[0]


def checked(example: Example) -> Example:
    """The example itself, after checks that it can be attributed and stored; an empty id is allowed.

    Raises:
        RowError: an empty completion, an id that is not a short line, or text that UTF-8 cannot hold.
    """
    if not example.completion.strip() and not isinstance(example.given, TokenIds):
        raise RowError("empty_completion", "the completion is empty, so there is no loss to attribute")
    if len(example.id) > 512 or any(ord(character) < 32 for character in example.id):
        raise RowError("bad_id", f"id {shown(example.id)}: ids are one line of at most 512 characters")
    texts = [example.id, example.prompt, example.completion, *(part for turn in example.turns for part in turn)]
    if isinstance(example.given, Chat):
        texts.append(json.dumps([example.given.messages, example.given.variables], ensure_ascii=False))
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RowError(
                "bad_unicode", f"a lone surrogate at character {error.start} cannot be written as UTF-8"
            ) from error
    return example


def plain_text(example: Example) -> str:
    """Prompt and completion as one text, for methods that do not distinguish them."""
    return f"{example.prompt}\n{example.completion}"


def content_id(example: Example) -> str:
    """The id of an example that has none: 16 hex digits of its prompt and completion."""
    text = "\x00".join([example.prompt, example.completion])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _row_id(row: Mapping[str, Any], columns: Columns) -> str:
    column = columns.id or "id"
    value = row.get(column)
    if value is None:
        if columns.id:
            raise RowError("missing_id", f"column {column!r} is missing or null")
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise RowError("bad_id", f"column {column!r} is {shown(value)}, expected text or a whole number")
    return str(value)


def normalised(example: Example) -> str:
    """A hash of prompt and completion without case and spacing."""
    prompt, completion = (" ".join(text.lower().split()) for text in (example.prompt, example.completion))
    return content_id(Example("", prompt, completion))


Role = Literal["query", "pool"]
