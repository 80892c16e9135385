"""The row that an example was read from: recorded in few bytes beside the example, and restored.

A store keeps an example's id, prompt, completion, turns and metadata. Its origin says which of these each column of
the row held, as a list with an entry for each column, in the order of the row:

    "genre"                            the metadata of that name
    ["question", "prompt"]             the prompt; in the same way "completion", "id", or "number": an id that is one
    ["instruction", "prompt", 0, 21]   these characters of the prompt
    ["messages", "messages"]           turns and completion as messages; "turns" or "answer": only these
    ["context", "value", null]         anything else, as it is

Rows of the same layout have nearly the same origin, so it adds next to nothing to a Parquet file.
"""

from typing import Any

import orjson

from influcoder.data.columns import to_json
from influcoder.data.examples import Example
from influcoder.data.messages import Chat
from influcoder.data.token_ids import IGNORED, TokenIds


def origin_of(example: Example) -> str:
    """How to restore the row that an example was read from, or to make a row for an example made by hand.

    >>> from influcoder.data.examples import example_from_row
    >>> origin_of(example_from_row({"question": "2 + 2?", "answer": "4", "level": 1}))
    '[["question","prompt"],["answer","completion"],"level"]'
    """
    row = example.row if example.row is not None else row_of(example) | dict(example.metadata)
    return to_json([_entry(str(name), value, example) for name, value in row.items()]).decode()


def restored_row(example: Example, origin: str) -> dict[str, Any]:
    """The row that an example was read from, by its `origin_of`; values are as in JSON, so a date is text.

    >>> restored_row(Example("7", "2 + 2?", "4"), '[["id","number"],["text","prompt",0,5],["answer","completion"]]')
    {'id': 7, 'text': '2 + 2', 'answer': '4'}
    """
    row: dict[str, Any] = {}
    for entry in orjson.loads(origin):
        if isinstance(entry, str):
            row[entry] = example.metadata.get(entry)
        else:
            row[entry[0]] = _value(example, *entry[1:])
    return row


def row_of(example: Example) -> dict[str, Any]:
    """A row of the usual columns that is read as this example, whatever its original columns were.

    >>> row_of(Example.question("2 + 2?", "4"))["messages"][1]
    {'role': 'assistant', 'content': '4'}
    """
    match example.given:
        case TokenIds(ids, weights):
            labels = [token if weight else IGNORED for token, weight in zip(ids, weights, strict=True)]
            columns: dict[str, Any] = {"input_ids": list(ids), "labels": labels}
        case Chat() as chat:
            messages = list(chat.messages)
            if not chat.weights and 0 < chat.prompt < len(messages):
                columns = {"prompt": messages[: chat.prompt], "completion": messages[chat.prompt :]}
            else:
                columns = {"messages": messages}
            columns |= {"weights": list(chat.weights)} if chat.weights else {}
            columns |= {"chat_template_kwargs": dict(chat.variables)} if chat.variables else {}
        case _ if example.turns:
            columns = {"messages": _chat(example)["messages"]}
        case _:
            columns = {"prompt": example.prompt, "completion": example.completion}
    return {"id": example.id} | columns


def _entry(name: str, value: Any, example: Example) -> Any:
    if name in example.metadata and example.metadata[name] is value:
        return name
    if isinstance(value, str):
        for part in ("id", "prompt", "completion"):
            if value == getattr(example, part):
                return [name, part]
        if value and example.prompt.startswith(value):
            return [name, "prompt", 0, len(value)]
        if value and example.prompt.endswith(value):
            return [name, "prompt", len(example.prompt) - len(value), len(example.prompt)]
    elif isinstance(value, int) and not isinstance(value, bool) and str(value) == example.id:
        return [name, "number"]
    elif isinstance(value, list):
        for part, messages in _chat(example).items():
            if value == messages:
                return [name, part]
    return [name, "value", value]


def _value(example: Example, part: str, *more: Any) -> Any:
    if part == "value":
        return more[0]
    if part == "number":
        return int(example.id)
    if part in ("id", "prompt", "completion"):
        text: str = getattr(example, part)
        return text[slice(*more)] if more else text
    return _chat(example)[part]


def _chat(example: Example) -> dict[str, list[dict[str, str]]]:
    turns = [{"role": role, "content": content} for role, content in example.turns]
    answer = [{"role": "assistant", "content": example.completion}]
    return {"messages": turns + answer, "turns": turns, "answer": answer}
