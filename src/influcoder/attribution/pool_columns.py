"""What an index knows of its rows beside their vectors: length, who speaks, twins, metadata.

A column is read when it is first needed, and kept: a column of metadata takes about 30 MB for a million rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from influcoder.errors import ConfigError
from influcoder.indexes.filters import PREFIX
from influcoder.indexes.index import Index

PLAIN = "plain text"
"""the role of a row without turns"""


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows by a value that they have.

    Attributes:
        of_row: (n,) the number of each row's group; -1 where it has no value.
        names: of the groups, most frequent first.
    """

    of_row: NDArray[np.int32]
    names: tuple[str, ...]


class PoolColumns:
    """The columns of an index's rows."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._metadata: dict[str, pa.ChunkedArray] = {}

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) characters of prompt and completion."""
        parts = [
            pc.add(pc.utf8_length(texts["prompt"]), pc.utf8_length(texts["completion"])).to_numpy()
            for texts in self._read("prompt", "completion")
        ]
        return np.concatenate([np.empty(0, np.int64), *parts])

    @cached_property
    def twins(self) -> NDArray[np.int64]:
        """(n,) the first row with the same text but for case and spacing: its own number where none is before."""
        hashes = [
            hash((" ".join(prompt.casefold().split()), " ".join(completion.casefold().split())))
            for texts in self._read("prompt", "completion")
            for prompt, completion in zip(texts["prompt"].to_pylist(), texts["completion"].to_pylist(), strict=True)
        ]
        _, first, places = np.unique(np.array(hashes, np.int64), return_index=True, return_inverse=True)
        return first[places]

    @cached_property
    def roles(self) -> Groups:
        """Rows by who speaks before the completion, as "system+user"."""
        named: dict[str, str] = {}

        def role(turns: str) -> str:
            if turns not in named:
                parsed = orjson.loads(turns)
                pairs = parsed["turns"] if isinstance(parsed, dict) else parsed
                speakers = "+".join(dict.fromkeys(speaker for speaker, _ in pairs)) or PLAIN
                if len(turns) > 64:  # most are different
                    return speakers
                named[turns] = speakers
            return named[turns]

        return _grouped([role(turns) for texts in self._read("turns") for turns in texts["turns"].to_pylist()])

    @cached_property
    def metadata_names(self) -> list[str]:
        """The metadata that rows can be filtered by."""
        return self.index.filterable

    def metadata(self, name: str) -> pa.ChunkedArray:
        """(n,) the values under a name of the rows' metadata, null where a row has none.

        Raises:
            ConfigError: no row has any.
        """
        if name not in self.metadata_names:
            names = ", ".join(self.metadata_names) or "none"
            raise ConfigError(f"{name}: no row has such a column; the index has {names}.")
        if name not in self._metadata:
            kind = self.index.metadata.kinds[name]
            chunks: list[pa.Array] = []
            for shard in self.index.shards:
                table = self.index.store.some(shard, [PREFIX + name])
                has_column = table.column_names == [PREFIX + name]
                chunks += table.column(0).cast(kind).chunks if has_column else [pa.nulls(shard["rows"], kind)]
            self._metadata[name] = pa.chunked_array(chunks, kind)
        return self._metadata[name]

    def groups(self, name: str) -> Groups:
        """Rows by a column of their metadata."""
        return _grouped(self.as_text(name))

    def as_text(self, name: str) -> list[str | None]:
        """(n,) the values under a name of the metadata as text, None where a row has none."""
        return [None if value is None else _text(value) for value in self.metadata(name).to_pylist()]

    def matching(self, test: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> NDArray[np.bool_]:
        """(n,) the rows whose prompt or completion passes a test of a column of texts."""
        parts = [
            pc.or_(test(texts["prompt"]), test(texts["completion"])).to_numpy()
            for texts in self._read("prompt", "completion")
        ]
        return np.concatenate([np.empty(0, bool), *parts]).astype(bool)

    def _read(self, *names: str) -> Iterator[pa.Table]:
        return (self.index.store.some(shard, names) for shard in self.index.shards)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _grouped(values: Sequence[str | None]) -> Groups:
    encoded = pa.array(values, pa.string()).dictionary_encode()
    codes = np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), np.int32)
    names = encoded.dictionary.to_pylist()
    order = np.argsort(-np.bincount(codes[codes >= 0], minlength=len(names)), kind="stable")
    renumbered = np.full(len(names) + 1, -1, np.int32)
    renumbered[order] = np.arange(len(names))
    return Groups(renumbered[codes], tuple(names[number] for number in order))
