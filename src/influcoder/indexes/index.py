"""A searchable pool: a store of embeddings and of the pool's texts.

    manifest.json, shard-*.safetensors, shard-*.parquet    vectors and texts (see `influcoder.store`)
    code.safetensors                                        the scales of the code that vectors are stored in
    index.faiss, index.json                                 made from these; can be rebuilt (see `faiss_index`)
    encoder/                                                the encoder that made it, for queries

The Parquet files hold each example whole, so an index needs no other file to show or re-check its rows.
Only the encoder that made an index can search it, so that encoder is kept with it and checked by fingerprint.
Opening an index reads the manifest alone: vectors are mapped into memory, texts are read by row group when they are
shown, and every file is checked when it is first read.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from influcoder.data.columns import from_columns
from influcoder.data.examples import Example
from influcoder.data.reading import Source, stream_examples
from influcoder.errors import StoreIncomplete, StoreMismatch
from influcoder.indexes import scan
from influcoder.indexes.build import Choice, build, query_rows
from influcoder.indexes.faiss_index import SHORTLIST, Approximate
from influcoder.indexes.filters import Condition
from influcoder.indexes.metadata import Metadata
from influcoder.indexes.on_hub import OnHub
from influcoder.indexes.own_encoder import encoder_in
from influcoder.indexes.scan import Block, Ranked, checked_queries
from influcoder.indexes.texts import EXAMPLE, Texts
from influcoder.maths.arrays import Floats
from influcoder.model.decoder import Decoder
from influcoder.store.scalar_code import CODES, ScalarCode
from influcoder.store.store import Store
from influcoder.student.encoder import InfluenceEncoder


class Index(OnHub):
    """A pool that has been embedded; open one with `Index(folder)`, make one with `influcoder.index`.

    Args:
        decoder: what an encoder of the short or forward tier reads queries with.

    Raises:
        StoreError: not an index, unfinished, or damaged.

    >>> len(Index("index"))
    60
    """

    def __init__(self, folder: str | Path, *, decoder: Decoder | None = None) -> None:
        self.folder = Path(folder)
        self._decoder = decoder
        self.store = Store(folder, lazily=True)
        if self.store.manifest["kind"] != "embeddings":
            raise StoreMismatch(f"{folder}: a store of {self.store.manifest['kind']}, expected embeddings.")
        self.shards: list[dict[str, Any]] = self.store.manifest["shards"]
        self.starts = np.cumsum([0, *(shard["rows"] for shard in self.shards)])

    @classmethod
    def build(
        cls,
        encoder: InfluenceEncoder,
        pool: Iterable[Example],
        folder: str | Path,
        *,
        code: Choice = "auto",
    ) -> "Index":
        """Embed `pool` into `folder`, which the caller has claimed; resumes an earlier run.

        `influcoder.index` does it from files, and claims the folder.
        """
        store, _ = build(encoder, pool, Path(folder), code=code)
        if store is None:
            raise StoreIncomplete(f"{folder}: shards of it are missing. Run the same command again with --resume.")
        return cls(folder).ready()

    def ready(self) -> "Index":
        """The same index, with an `index.faiss` beside it if the pool is small enough for an exact one."""
        self.approximate.refresh(self)
        return self

    def __len__(self) -> int:
        return len(self.store)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self.store.manifest["dim"])

    @cached_property
    def code(self) -> ScalarCode:
        """How vectors are stored."""
        return self.store.code(CODES)

    @cached_property
    def ids(self) -> list[str]:
        """The id of every row, in order; all of them in memory."""
        return [name for shard in self.shards for name in self.store.some(shard, ["id"])["id"].to_pylist()]

    @cached_property
    def vectors(self) -> Floats:
        """(rows, dim) float32, all of them in memory."""
        return np.concatenate([np.zeros((0, self.dim), np.float32), *self.parts()])

    def parts(self) -> Iterator[Floats]:
        """The vectors of each shard in turn, (rows, dim)."""
        return (self.code.decode(self.store.mapped(shard)[0]) for shard in self.shards)

    @cached_property
    def texts(self) -> Texts:
        """The texts of the rows."""
        return Texts(self.store, self.starts)

    def example(self, row: int) -> Example:
        """The pool example of a row, as it was indexed."""
        return self.texts.examples([row])[0]

    def examples_at(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Example]:
        """The pool examples of some rows, in their order."""
        return self.texts.examples(rows)

    def examples(self) -> Iterator[Example]:
        """The pool example of every row, in order, as they were indexed."""
        for shard in self.shards:
            yield from map(from_columns, self.store.some(shard, EXAMPLE).to_pylist())

    def add(self, pool: Source) -> "Index":
        """Append rows and return the index as it is then; a row with a known id is left as it is.

        Args:
            pool: whatever `influcoder.index` takes.
        """
        from influcoder.indexes.change import change

        return change(self, add=stream_examples(pool))[0]

    def remove(self, ids: Sequence[str]) -> "Index":
        """Delete rows from disk, and return the index as it is then; unknown ids are ignored."""
        from influcoder.indexes.change import change

        return change(self, remove=ids)[0]

    def refresh(self, encoder: InfluenceEncoder | None = None, pool: Source | None = None) -> "Index":
        """Update it to another encoder, to its pool as it is now, or both; only what changed is embedded.

        Args:
            pool: whatever `influcoder.index` takes.
        """
        from influcoder.indexes.refresh import refresh

        return refresh(self, encoder or self.encoder, None if pool is None else stream_examples(pool))[0]

    def reopened(self) -> "Index":
        """The index as its folder is now, with the encoder if this one has loaded it."""
        index = Index(self.folder, decoder=self._decoder)
        if "encoder" in vars(self):
            index.encoder = self.encoder
        return index

    def query_vectors(self) -> Floats:
        """(n, dim) vectors of some of its rows in the role of queries, to measure recall with."""
        return self.encoder.encode_query([self.example(row) for row in query_rows(len(self))])

    @cached_property
    def encoder(self) -> InfluenceEncoder:
        """The encoder that made this index.

        Raises:
            StoreMismatch: its folder holds another one.
        """
        return encoder_in(self.folder, self.store.provenance.encoder or "", self._decoder)

    @cached_property
    def approximate(self) -> Approximate:
        """The FAISS index beside this one."""
        return Approximate(self.folder, self.store.manifest["sha256"])

    def search(self, queries: Floats, k: int, *, opponents: bool = False, where: str | None = None) -> Ranked:
        """The `k` rows of highest inner product with each query, or of lowest for `opponents`; ties by row number.

        Args:
            queries: (n, dim) query vectors of the same encoder.
            where: score only rows whose metadata meets these conditions, as `genre=code,tokens<200`.

        Raises:
            ConfigError: k is below 1, the queries have another width or are not finite, or `where` cannot be read.
        """
        sign = np.float32(-1 if opponents else 1)
        queries, limit = checked_queries(queries, self.dim, k), self._limit(k)
        best = scan.top(self.code, self._blocks(where), sign * queries, limit)
        return Ranked(best.rows, sign * best.scores)

    def search_both_sides(self, queries: Floats, k: int, *, where: str | None = None) -> tuple[Ranked, Ranked]:
        """The `k` rows of highest inner product with each query, and the `k` of lowest; the index is read once."""
        return scan.both_ends(self.code, self._blocks(where), checked_queries(queries, self.dim, k), self._limit(k))

    def search_approximately(self, queries: Floats, k: int, *, opponents: bool = False) -> Ranked:
        """The same by `index.faiss`: it gives more candidates than `k`, whose exact scores choose among them.

        Raises:
            ConfigError: as `search`.
            StoreMismatch: there is none, or rows were added or removed since it was made.
        """
        queries, k = checked_queries(queries, self.dim, k), self._limit(k)
        rows = self.approximate.shortlist(queries, SHORTLIST * k, opponents=opponents)
        return self.best_of(queries, rows, k, opponents=opponents)

    def best_of(self, queries: Floats, rows: NDArray[np.int64], k: int, *, opponents: bool = False) -> Ranked:
        """The `k` best of some rows of each query, (n_queries, rows), by their exact scores."""
        unique, inverse = np.unique(rows, return_inverse=True)
        vectors = self.code.decode(self.stored(unique)) if len(unique) else np.zeros((0, self.dim), np.float32)
        # A query at a time: all shortlists together may be large.
        pairs = zip(inverse.reshape(rows.shape), queries, strict=True)
        scores = np.array([vectors[shortlist] @ query for shortlist, query in pairs], np.float32).reshape(rows.shape)
        order = np.lexsort((rows, scores if opponents else -scores), axis=1)[:, :k]
        return Ranked(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))

    def stored(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(n, width) vectors of some rows, in any order, as the code stores them."""
        shards = np.searchsorted(self.starts, rows, side="right") - 1
        vectors = np.empty((len(rows), 0))
        for shard in np.unique(shards):
            part = self.store.mapped(self.shards[shard])[0][rows[shards == shard] - self.starts[shard]]
            vectors = vectors if vectors.shape[1] else np.empty((len(rows), part.shape[1]), part.dtype)
            vectors[shards == shard] = part
        return vectors

    def scores(self, queries: Floats) -> Floats:
        """(n_queries, rows) the score of every row, all of them in memory."""
        parts = [scores for _, scores in self.iter_scores(queries)]
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(queries), 0), np.float32)

    def iter_scores(self, queries: Floats, *, where: str | None = None) -> Iterator[tuple[pa.ChunkedArray, Floats]]:
        """(ids, (n_queries, rows) scores) of each shard in turn."""
        queries, conditions = checked_queries(queries, self.dim), self.metadata.conditions(where)
        for number, shard in enumerate(self.shards):
            block = self._block(number, conditions)
            ids = self.store.some(shard, ["id"])["id"]
            scored = ids if block.places is None else ids.take(block.places)
            yield scored, scan.scores(self.code, block.stored, queries)

    def verify(self) -> None:
        """Read every file and check its hash.

        Raises:
            StoreCorrupt: one is not what was written.
        """
        self.store.verify()
        self.approximate.verify()
        _ = self.code, self.encoder

    def _limit(self, k: int) -> int:
        """How many rows can be found."""
        return min(k, max(1, len(self)))

    def _blocks(self, where: str | None) -> list[Callable[[], Block]]:
        """What loads the vectors of each shard."""
        conditions = self.metadata.conditions(where)
        return [partial(self._block, number, conditions) for number in range(len(self.shards))]

    def _block(self, number: int, conditions: Sequence[Condition]) -> Block:
        """A shard's stored vectors: all, or those of the rows that meet all conditions."""
        shard, start = self.shards[number], int(self.starts[number])
        places = np.flatnonzero(self.metadata.holding(shard, conditions)) if conditions else None
        stored, facts = self.store.mapped(shard)
        return Block(start, stored if places is None else stored[places], facts["reach"], places)

    @cached_property
    def metadata(self) -> Metadata:
        """What of the rows' metadata can be filtered by."""
        return Metadata(self.store)

    @property
    def filterable(self) -> list[str]:
        """The names that a filter may use: those of the pool's metadata."""
        return self.metadata.names
