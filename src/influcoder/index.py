"""A searchable pool: a store of embeddings, the pool's texts, and a FAISS index over them.

    manifest.json, shard-*.safetensors, shard-*.parquet    the truth (see `influcoder.store`)
    index.faiss                                             made from it; can be made again
    encoder/                                                the encoder that made it, for queries

The sidecars hold each example whole, so an index needs no other file to show or re-check what it finds.
An index belongs to the encoder that made it: another encoder's vectors mean nothing here, so its own is
kept with it and checked by fingerprint. FAISS files carry no checksum; ours is kept beside them and checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import orjson
from numpy.typing import NDArray

from influcoder.atomic import atomic_write, sha256, write_json
from influcoder.decoder import Decoder
from influcoder.encoder import InfluenceEncoder
from influcoder.errors import ConfigError, StoreCorrupt, StoreMismatch
from influcoder.examples import Example, from_columns, to_columns
from influcoder.progress import progress
from influcoder.store import Store, StoreWriter

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Found:
    """The rows a search found, best first: (n_queries, k) row numbers and scores."""

    rows: NDArray[np.int64]
    scores: Floats


class Index:
    """A pool that has been embedded; open one with `Index(folder)`, make one with `Index.build`.

    Args:
        decoder: what an encoder of the short or forward tier reads queries with.

    Raises:
        StoreError: not an index, unfinished, or damaged.
    """

    def __init__(self, folder: str | Path, *, decoder: Decoder | None = None) -> None:
        self.folder = Path(folder)
        self._decoder = decoder
        self.store = Store(folder)
        if self.store.manifest["kind"] != "embeddings":
            raise StoreMismatch(f"{folder}: a store of {self.store.manifest['kind']}, expected embeddings.")

    @classmethod
    def build(cls, encoder: InfluenceEncoder, pool: Sequence[Example], folder: str | Path) -> "Index":
        """Embed `pool` into `folder`, which the caller has claimed; goes on where an earlier run stopped."""
        folder = Path(folder)
        writer = StoreWriter(
            folder,
            kind="embeddings",
            dim=encoder.dim,
            dtype="float16",
            ids=[example.id for example in pool],
            made_by={"encoder": encoder.fingerprint},
            shard_rows=4096,
        )
        with progress("embedding the pool", len(pool)) as advance:
            for shard in writer.missing():
                part = pool[shard.start : shard.stop]
                writer.write(shard, encoder.encode_pool(part), to_columns(part))
                advance(len(part))
        encoder.save(folder / "encoder")
        index = cls(writer.finish().folder)
        index._write_faiss()
        return index

    def __len__(self) -> int:
        return len(self.store)

    @property
    def ids(self) -> list[str]:
        return self.store.ids

    @cached_property
    def vectors(self) -> Floats:
        """(rows, dim) float32."""
        return self.store.vectors()

    def example(self, row: int) -> Example:
        """The pool example of a row, as it was indexed."""
        return from_columns(self.store.columns.slice(row, 1).to_pylist()[0])

    @cached_property
    def encoder(self) -> InfluenceEncoder:
        """The encoder that made this index.

        Raises:
            StoreMismatch: another one lies in its place.
        """
        encoder = InfluenceEncoder.load(self.folder / "encoder", decoder=self._decoder)
        made_by = self.store.manifest["made_by"]["encoder"]
        if made_by != encoder.fingerprint:
            raise StoreMismatch(
                f"{self.folder}: embedded by encoder {made_by[:12]}, in it lies {encoder.fingerprint[:12]}. "
                "Put the encoder that made it there, or index the pool again."
            )
        return encoder

    def search(self, queries: Floats, k: int, *, opponents: bool = False) -> Found:
        """The `k` rows of highest inner product with each query, or of lowest for `opponents`.

        Args:
            queries: (n, dim) query vectors of the same encoder.

        Raises:
            ConfigError: k is below 1, or the queries have another width or are not finite.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        if k < 1:
            raise ConfigError(f"k is {k}, expected at least 1.")
        if queries.ndim != 2 or queries.shape[1] != self.store.manifest["dim"]:
            raise ConfigError(f"queries are {queries.shape}, expected (n, {self.store.manifest['dim']}).")
        if not np.isfinite(queries).all():
            raise ConfigError("a query vector is not finite.")
        sign = np.float32(-1 if opponents else 1)
        k = min(k, len(self))
        wanted = k
        while True:
            scores, rows = self._faiss.search(sign * queries, wanted)
            if wanted == len(self) or (scores[:, -1] < scores[:, k - 1]).all():
                break
            wanted = min(2 * wanted + 1, len(self))  # a tie runs over the edge: see all of it
        order = np.lexsort((rows, -scores), axis=1)[:, :k]  # ties by row number, not by FAISS's whim
        return Found(np.take_along_axis(rows, order, 1), sign * np.take_along_axis(scores, order, 1))

    def scores(self, queries: Floats) -> Floats:
        """(n_queries, rows) the score of every row."""
        return np.asarray(queries, np.float32) @ self.vectors.T

    @cached_property
    def _faiss(self) -> Any:
        path, recorded = self.folder / "index.faiss", self.folder / "index.json"
        if not path.exists() or not recorded.exists():
            self._write_faiss()
        try:
            expected = orjson.loads(recorded.read_bytes())["sha256"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise StoreCorrupt(f"{recorded}: not the record of an index. Delete it: it is made again.") from error
        if sha256(path) != expected:
            raise StoreCorrupt(f"{path}: its bytes are not those that were written. Delete it: it is made again.")
        return faiss.read_index(str(path))

    def _write_faiss(self) -> None:
        path = self.folder / "index.faiss"
        flat = faiss.IndexScalarQuantizer(
            self.store.manifest["dim"], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        flat.train(self.vectors)
        flat.add(self.vectors)
        atomic_write(path, faiss.serialize_index(flat).tobytes())
        write_json(self.folder / "index.json", {"sha256": sha256(path), "kind": "exact float16"})
