"""The hits of a search as a file: a row for each, with the shares of its tokens."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from influcoder.attribution.hits import Hits
from influcoder.data.columns import to_json
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.store.files import atomic_file

_SHARES = pa.list_(pa.struct([("text", pa.string()), ("share", pa.float32())]))
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("query_id", "query_prompt", "query_completion")),
        ("rank", pa.int32()),
        ("id", pa.string()),
        ("score", pa.float32()),
        ("exact", pa.float32()),
        *((name, pa.string()) for name in ("prompt", "completion")),
        ("memorised", pa.bool_()),
        ("tokens", _SHARES),
        ("answer_tokens", _SHARES),
    ]
)


def refuse_other_file(path: Path) -> None:
    """See that hits can be written there.

    Raises:
        ConfigError: the file is of another kind.
    """
    if path.suffix not in (".jsonl", ".parquet"):
        raise ConfigError(f"--output {path}: expected a file that ends in .jsonl or .parquet.")


def write_hits(path: Path, queries: Sequence[Example], hits_of_queries: Sequence[Hits]) -> None:
    """Write a row for each hit of each query, as Parquet or JSONL.

    Raises:
        ConfigError: the file is of another kind.
    """
    refuse_other_file(path)
    rows = list(_rows(queries, hits_of_queries))
    with atomic_file(path) as file:
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file, write_page_checksum=True)
        else:
            file.writelines(to_json(row) + b"\n" for row in rows)


def _rows(queries: Sequence[Example], hits_of_queries: Sequence[Hits]) -> Iterator[Mapping[str, Any]]:
    for query, hits in zip(queries, hits_of_queries, strict=True):
        query_columns = {"query_id": query.id, "query_prompt": query.prompt, "query_completion": query.completion}
        for hit in hits:
            is_memorised = None if hits.memorised is None else hit.example.id in hits.memorised
            shares = {
                name: [{"text": text, "share": share} for text, share in tokens]
                for name, tokens in hit.shares().items()
            }
            yield query_columns | hit.json() | {"memorised": is_memorised} | shares
