"""The vectors of a shard as a job for whoever does it: this process, a worker beside it, another machine."""

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from influcoder.codes import Floats
from influcoder.decoder import Decoder
from influcoder.encoder import InfluenceEncoder
from influcoder.errors import ConfigError
from influcoder.examples import Example, to_columns
from influcoder.filters import metadata_columns
from influcoder.runners import Advance
from influcoder.store import refuse_difference
from influcoder.stream import StreamWriter

AT_ONCE = 2048
"""rows that are embedded together"""
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Part:
    """A shard's number, its examples and their hash."""

    number: int
    examples: list[Example]
    stamp: str


@dataclass(frozen=True)
class IndexJob:
    """Embeds examples and writes them into the store of an index.

    Attributes:
        encoder: what embeds them. A worker loads its own from where this one came from.
        writer: of the store.
    """

    encoder: "InfluenceEncoder | _Elsewhere"
    writer: StreamWriter

    def make(self) -> Callable[[Part, Advance], None]:
        """What embeds and writes a part, and then forgets its examples.

        Raises:
            StoreMismatch: the worker's encoder is not that of the job.
        """
        encoder = self.encoder.load() if isinstance(self.encoder, _Elsewhere) else self.encoder

        def work(part: Part, advance: Advance) -> None:
            rows, ids = part.examples, [one.id for one in part.examples]
            self.writer.write(part.number, ids, embed(encoder, rows), shard_columns(rows), part.stamp)
            advance(len(ids))
            rows.clear()  # before the next shard is read, not after
            pa.default_memory_pool().release_unused()

        return work

    def __getstate__(self) -> dict[str, Any]:
        """What travels to a worker: no model."""
        if isinstance(self.encoder, _Elsewhere):
            return vars(self)
        return vars(self) | {"encoder": _Elsewhere.of(self.encoder)}


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """How a worker comes by the same encoder."""

    folder: Path
    decoder: Callable[[], Decoder] | None
    fingerprint: str

    @classmethod
    def of(cls, encoder: InfluenceEncoder) -> "_Elsewhere":
        if encoder.folder is None:
            raise ConfigError(
                "the encoder was made in memory, where no worker finds it. Save it and take it from there with "
                "InfluenceEncoder.load."
            )
        return cls(encoder.folder, encoder.decoder.again if encoder.decoder else None, encoder.fingerprint)

    def load(self) -> InfluenceEncoder:
        encoder = InfluenceEncoder.load(self.folder, decoder=self.decoder() if self.decoder else None)
        what, remedy = f"the worker on {socket.gethostname()} has another encoder", "Give all machines the same files."
        refuse_difference(what, {"encoder": self.fingerprint}, {"encoder": encoder.fingerprint}, remedy)
        return encoder


def embed(encoder: InfluenceEncoder, examples: Sequence[Example]) -> Floats:
    """(n, dim) vectors of pool examples, embedded a few at a time."""
    vectors = np.empty((len(examples), encoder.dim), np.float32)
    for start in range(0, len(examples), AT_ONCE):
        vectors[start : start + AT_ONCE] = encoder.encode_pool(examples[start : start + AT_ONCE])
    return vectors


def shard_columns(examples: Sequence[Example]) -> dict[str, Any]:
    """What an index keeps of its rows beside the vectors: texts and metadata."""
    return {**to_columns(examples), **metadata_columns(examples)}


def parts_of(rows: "Sequence[Row] | Iterator[Row]", size: int) -> Iterator[list[Row]]:
    """Rows in lists of `size`, the last one shorter."""
    following = iter(rows)
    while part := list(islice(following, size)):
        yield part
