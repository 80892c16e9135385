"""Examples as the columns of a table, and back; how many bytes they take; their fingerprint."""

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from influcoder.data.examples import Example
from influcoder.data.messages import Chat
from influcoder.data.token_ids import TokenIds


def to_columns(examples: Sequence[Example]) -> dict[str, list[str]]:
    """Examples as the columns of text that a store keeps beside their vectors; ids are kept elsewhere."""
    return {
        "prompt": [example.prompt for example in examples],
        "completion": [example.completion for example in examples],
        "turns": [_turns(example) for example in examples],
        "metadata": [to_json(example.metadata).decode() for example in examples],
    }


def from_columns(record: Mapping[str, Any]) -> Example:
    """The example of a row of `to_columns`, its id in the column `id`."""
    metadata = orjson.loads(record["metadata"])
    stored = json.loads(record["turns"])
    stored = stored if isinstance(stored, dict) else {"turns": stored}
    turns = tuple((role, content) for role, content in stored["turns"])
    given: Chat | TokenIds | None = None
    if "chat" in stored:
        chat = stored["chat"]
        given = Chat(tuple(chat["messages"]), chat["prompt"], tuple(chat["weights"]), chat["variables"])
    if "tokens" in stored:
        given = TokenIds(tuple(stored["tokens"]["ids"]), tuple(stored["tokens"]["weights"]))
    return Example(record["id"], record["prompt"], record["completion"], turns, metadata, given)


def _turns(example: Example) -> str:
    """The turns as JSON; if the decoder reads more than them, an object with the turns and the rest."""
    match example.given:
        case Chat() as chat:
            fields = {name: getattr(chat, name) for name in ("messages", "prompt", "weights", "variables")}
            # The standard library's json, which keeps whole numbers of any size.
            return json.dumps({"turns": example.turns, "chat": fields}, ensure_ascii=False)
        case TokenIds() as tokens:
            return json.dumps({"turns": [], "tokens": {"ids": tokens.ids, "weights": tokens.weights}})
    return orjson.dumps(example.turns).decode()


def data_fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 of everything a store keeps of the examples: ids, texts, turns and metadata."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(to_json((example.id, example.prompt, example.completion, example.turns, example.metadata)))
        digest.update(_turns(example).encode() if example.given else b"")
    return digest.hexdigest()


def to_json(value: object) -> bytes:
    """Any value as one line of JSON; what JSON cannot hold is written as the text that Python shows for it."""
    return orjson.dumps(_plain(value))


def _plain(value: object, depth: int = 100) -> object:
    if isinstance(value, Mapping) and depth:
        return {_utf8(str(key)): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [_plain(item, depth - 1) for item in value]
    if hasattr(value, "tolist"):  # NumPy's and torch's arrays, whose text leaves out the middle
        return _plain(value.tolist(), depth)
    if value is None or isinstance(value, bool):
        return value
    fits = -(2**63) <= value < 2**64 if isinstance(value, int) else isinstance(value, float) and math.isfinite(value)
    return value if fits else _utf8(str(value))


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


SAMPLE = 256
"""examples from which the size of all is estimated"""

ColumnsOf = Callable[[Sequence[Example]], Mapping[str, Any]]
"""examples -> the columns that are kept of them, by name"""


def text_bytes(examples: Sequence[Example], columns: ColumnsOf = to_columns) -> float:
    """The bytes per row that a store keeps of an example beside its vector: measured on a sample."""
    sample = examples[:: -(-len(examples) // SAMPLE) or 1]
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": [example.id for example in sample], **columns(sample)}), sink)
    return sink.tell() / max(len(sample), 1)
