"""Examples as the columns of a table, and back; how many bytes they take; their fingerprint."""

import hashlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from influcoder.data.examples import Example


def to_columns(examples: Sequence[Example]) -> dict[str, list[str]]:
    """Examples as columns of text, beside which a store keeps their vectors; ids are kept elsewhere."""
    return {
        "prompt": [example.prompt for example in examples],
        "completion": [example.completion for example in examples],
        "turns": [orjson.dumps(example.turns).decode() for example in examples],
        "metadata": [to_json(example.metadata).decode() for example in examples],
    }


def from_columns(record: Mapping[str, Any]) -> Example:
    """The example of a row of `to_columns`, its id in the column `id`."""
    turns = tuple((role, content) for role, content in orjson.loads(record["turns"]))
    return Example(record["id"], record["prompt"], record["completion"], turns, orjson.loads(record["metadata"]))


def data_fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 of everything a store keeps of the examples: ids, texts, turns and metadata."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(to_json((example.id, example.prompt, example.completion, example.turns, example.metadata)))
    return digest.hexdigest()


def to_json(value: object) -> bytes:
    """JSON of any value on one line; what JSON cannot hold is there as the text Python shows for it."""
    return orjson.dumps(_plain(value))


def _plain(value: object, depth: int = 100) -> object:
    if isinstance(value, Mapping) and depth:
        return {_utf8(str(key)): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [_plain(item, depth - 1) for item in value]
    if hasattr(value, "tolist"):  # NumPy's and torch's, whose text leaves out the middle
        return _plain(value.tolist(), depth)
    fits = (
        value is None
        or isinstance(value, bool)
        or (isinstance(value, int) and -(2**63) <= value < 2**64)
        or (isinstance(value, float) and math.isfinite(value))
    )
    return value if fits else _utf8(str(value))


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


SAMPLE = 256
"""examples by which the size of all is told"""


Columns = Callable[[Sequence[Example]], Mapping[str, Any]]
"""what is kept of examples: a column a name"""


def text_bytes(examples: Sequence[Example], columns: Columns = to_columns) -> float:
    """What a store keeps of an example beside its vector, in bytes a row: measured on some of them."""
    some = examples[:: -(-len(examples) // SAMPLE) or 1]
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": [one.id for one in some], **columns(some)}), sink)
    return sink.tell() / max(len(some), 1)
