"""An index in LanceDB, for a pool too large for one machine: exported there and searched there, with the same results.

    lance.json   which table, and what it was exported from
    encoder/     the encoder that made it, for queries

The table has a row for every row of the index: `row`, `id`, `vector` (float32, decoded), the example's texts, and a
struct `meta` of the columns that can be filtered by. It appears in one step, so a killed export leaves the earlier
table, or none.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from influcoder.data.columns import from_columns
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, StoreError, StoreMismatch
from influcoder.extras import optional
from influcoder.indexes.faiss_index import LEAST_RECALL
from influcoder.indexes.filters import PREFIX, Condition, parse_filter
from influcoder.indexes.index import Index
from influcoder.indexes.own_encoder import encoder_in
from influcoder.indexes.scan import Ranked, checked_queries
from influcoder.indexes.texts import EXAMPLE
from influcoder.maths.arrays import Floats
from influcoder.model.decoder import Decoder
from influcoder.progress import progress
from influcoder.store.files import read_sealed, write_sealed
from influcoder.store.output_folder import Folder
from influcoder.student.encoder import InfluenceEncoder

RECORD, FORMAT = "lance.json", 1
BATCH_ROWS = 4096
REFINE = 10
"""candidates of LanceDB's own index per requested row; their exact scores choose among them"""
TIE = 1e-5
"""scores that differ by less than this share of them count as equal"""


def export(
    index: Index, uri: str, folder: Folder, *, table: str = "influcoder", approximate: bool = False
) -> dict[str, Any]:
    """Write an index as a table of LanceDB, and the folder that is opened to search it.

    Args:
        uri: of the database: a folder, or what LanceDB connects to, as s3://bucket/path.
        table: its name there; one of that name is replaced.
        approximate: let LanceDB make its IVF-PQ index of the table; its recall is measured and recorded.

    Raises:
        MissingDependency: LanceDB is not installed.
        StoreError: LanceDB cannot write there; the message quotes it.
    """
    uri = uri if "://" in uri else str(Path(uri).absolute())
    with folder.claim() as path, _lance_errors(uri):
        index.encoder.save(path / "encoder")
        schema = _schema(index)
        with progress("exporting", len(index)) as advance:
            batches = pa.RecordBatchReader.from_batches(schema, _batches(index, schema, advance))
            created = _connect(uri).create_table(table, data=batches, mode="overwrite")
        facts = {"uri": uri, "table": table, "rows": len(index), "dim": index.dim}
        if approximate:
            from lancedb.index import IvfPq

            created.create_index("vector", config=IvfPq(distance_type="dot"))
            facts["recall_at_10"] = _recalls(index, created)
        source = {"manifest": index.store.manifest["sha256"], "encoder": index.encoder.fingerprint}
        write_sealed(path / RECORD, {"format": FORMAT} | facts | source)
    return facts


class LanceIndex:
    """An index that was exported to LanceDB, searched like an `Index`.

    Args:
        folder: what `export` wrote beside the table.
        decoder: what an encoder of the short or forward tier reads queries with.

    Raises:
        MissingDependency: LanceDB is not installed.
        StoreError: no such database or table.
        StoreMismatch: the table is not the one that was exported.
    """

    def __init__(self, folder: str | Path, *, decoder: Decoder | None = None) -> None:
        self.folder, self._decoder = Path(folder), decoder
        self.record = read_sealed(self.folder / RECORD, FORMAT)
        if self.record.get("format") != FORMAT:
            raise StoreMismatch(f"{self.folder / RECORD}: another format than {FORMAT}. Export the index again.")
        with self._errors():
            self._table = _connect(self.record["uri"]).open_table(self.record["table"])
            manifest = (self._table.schema.metadata or {}).get(b"influcoder", b"").decode()
            rows = self._table.count_rows()
        if (manifest, rows) != (self.record["manifest"], self.record["rows"]):
            raise StoreMismatch(
                f"{self.record['uri']}: table {self.record['table']!r} has {rows:,} rows of index "
                f"{manifest[:12] or '-'}; {self.folder} was exported with {self.record['rows']:,} of "
                f"{self.record['manifest'][:12]}. Export the index again."
            )

    def __len__(self) -> int:
        return int(self.record["rows"])

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self.record["dim"])

    @cached_property
    def encoder(self) -> InfluenceEncoder:
        """The encoder that made the index.

        Raises:
            StoreMismatch: its folder holds another one.
        """
        return encoder_in(self.folder, self.record["encoder"], self._decoder)

    @cached_property
    def filterable(self) -> list[str]:
        """The names that a filter may use: those of the pool's metadata."""
        return sorted(_metadata_types(self._table.schema))

    def search(self, queries: Floats, k: int, *, opponents: bool = False, where: str | None = None) -> Ranked:
        """The `k` rows of highest inner product with each query, or of lowest for `opponents`. See `Index.search`."""
        return self._search(queries, k, opponents, self.condition(where))

    def search_approximately(self, queries: Floats, k: int, *, opponents: bool = False) -> Ranked:
        """The same by LanceDB's own index of the table.

        Raises:
            StoreMismatch: it has none.
        """
        if "recall_at_10" not in self.record:
            raise StoreMismatch(
                f"{self.folder}: exported without --approximate. Export it again with that flag, or search without it."
            )
        probes = int(list(self.record["recall_at_10"])[-1])
        return self._search(queries, k, opponents, None, probes)

    def search_both_sides(self, queries: Floats, k: int, *, where: str | None = None) -> tuple[Ranked, Ranked]:
        """The `k` rows of highest inner product with each query, and the `k` of lowest."""
        condition = self.condition(where)
        return self._search(queries, k, False, condition), self._search(queries, k, True, condition)

    def example(self, row: int) -> Example:
        """The pool example of a row, as it was indexed."""
        return self.examples_at([row])[0]

    def examples_at(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Example]:
        """The pool examples of some rows, in their order."""
        numbers = [int(row) for row in rows]
        condition = f"row IN ({', '.join(map(str, numbers or [-1]))})"
        records = {record.pop("row"): record for record in self.select(["row", *EXAMPLE], condition).to_pylist()}
        return [from_columns(records[row]) for row in numbers]

    def select(self, columns: Sequence[str], condition: str | None = None) -> pa.Table:
        """Some columns of the rows that meet a condition in SQL."""
        with self._errors():
            query = self._table.search()
            query = query.where(condition) if condition else query
            return query.select(list(columns)).limit(max(1, len(self))).to_arrow()

    def verify(self) -> None:
        """Check the encoder; LanceDB checks what it reads by itself."""
        _ = self.encoder

    def _search(self, queries: Floats, k: int, opponents: bool, condition: str | None, probes: int = 0) -> Ranked:
        queries = checked_queries(queries, self.dim, k)
        sign = np.float32(-1 if opponents else 1)
        with self._errors():
            best = [_best(self._table, sign * query, min(k, len(self)), condition, probes) for query in queries]
        rows, scores = (np.stack(part) for part in zip(*best, strict=True))
        return Ranked(rows, sign * scores)

    def condition(self, where: str | None) -> str | None:
        """A filter as SQL, in which all parts of it are quoted as names and values."""
        if where is None:
            return None
        columns = _metadata_types(self._table.schema)
        return " AND ".join(_in_sql(condition, columns) for condition in parse_filter(where))

    def _errors(self) -> AbstractContextManager[None]:
        return _lance_errors(self.record["uri"])


def open_index(folder: Path, decoder: Decoder | None = None) -> "Index | LanceIndex":
    """The index of a folder, with its rows there or in LanceDB."""
    return LanceIndex(folder, decoder=decoder) if (folder / RECORD).exists() else Index(folder, decoder=decoder)


def _best(table: Any, query: Floats, k: int, condition: str | None, probes: int) -> tuple[Any, Any]:
    """Rows and scores of the `k` best rows for one query; by LanceDB's own index if any of its lists are probed."""
    request = table.search(query, vector_column_name="vector").distance_type("dot")
    request = request.nprobes(probes).refine_factor(REFINE) if probes else request.bypass_vector_index()
    if condition:
        request = request.where(condition, prefilter=True)
    hits = request.limit(k).select(["row", "vector", "_distance"]).to_arrow()
    rows = hits["row"].to_numpy()
    vectors = hits["vector"].combine_chunks().flatten().to_numpy().reshape(len(rows), len(query))
    # Not 1 - `_distance`, in which a small score has lost its last digits.
    scores = np.asarray(vectors @ query, np.float32)
    order = np.lexsort((rows, -scores))
    return rows[order], scores[order]


def _recalls(index: Index, table: Any) -> dict[str, float]:
    """Recall of the ten best by the number of lists probed, doubled until `LEAST_RECALL` is reached."""
    queries = index.query_vectors()
    truth = index.search(queries, 10).scores[:, -1:]
    recalls: dict[str, float] = {}
    for probes in (2**power for power in range(4, 13)):
        scores = np.stack([_best(table, query, 10, None, probes)[1] for query in queries])
        recalls[str(probes)] = float((scores >= truth - TIE * np.abs(truth)).mean())
        if recalls[str(probes)] >= LEAST_RECALL:
            break
    return recalls


def _in_sql(condition: Condition, columns: dict[str, pa.DataType]) -> str:
    name, value = condition.name, condition.value
    if name not in columns:
        raise ConfigError(
            f"--where {name}: no row has such a column; the index has {', '.join(sorted(columns)) or 'none'}."
        )
    kind = columns[name]
    condition.holds(pa.chunked_array([pa.nulls(1, kind)]))  # raises if they cannot be compared
    if pa.types.is_string(kind):
        value = "'" + value.replace("'", "''") + "'"
    elif not pa.types.is_boolean(kind):
        value = repr(float(value))
    quoted = name.replace("`", "``")
    return f"meta.`{quoted}` {condition.comparison} {value}"


def _schema(index: Index) -> pa.Schema:
    fields = [
        pa.field("row", pa.int64()),
        pa.field("vector", pa.list_(pa.float32(), index.dim)),
        *(pa.field(name, pa.string()) for name in EXAMPLE),
    ]
    kinds = index.metadata.kinds
    if kinds:
        fields.append(pa.field("meta", pa.struct([pa.field(name, kind) for name, kind in kinds.items()])))
    return pa.schema(fields, metadata={"influcoder": index.store.manifest["sha256"]})


def _metadata_types(schema: pa.Schema) -> dict[str, pa.DataType]:
    """The fields of the struct `meta` by name."""
    return {field.name: field.type for field in schema.field("meta").type} if "meta" in schema.names else {}


def _batches(index: Index, schema: pa.Schema, advance: Any) -> Iterator[pa.RecordBatch]:
    kinds, start = _metadata_types(schema), 0
    for shard in index.shards:
        vectors, table = index.store.mapped(shard)[0], index.store.some(shard)
        for first in range(0, shard["rows"], BATCH_ROWS):
            part = table.slice(first, BATCH_ROWS).combine_chunks()
            decoded = index.code.decode(vectors[first : first + BATCH_ROWS])
            columns = [
                pa.array(np.arange(start + first, start + first + len(part))),
                pa.FixedSizeListArray.from_arrays(pa.array(decoded.ravel()), index.dim),
                *(part[name].combine_chunks() for name in EXAMPLE),
            ]
            if kinds:
                columns.append(_struct(part, kinds))
            yield pa.record_batch(columns, schema=schema)
            advance(len(part))
        start += shard["rows"]


def _struct(part: pa.Table, kinds: dict[str, pa.DataType]) -> pa.StructArray:
    names = set(part.column_names)
    children = [
        part[PREFIX + name].combine_chunks().cast(kind) if PREFIX + name in names else pa.nulls(len(part), kind)
        for name, kind in kinds.items()
    ]
    return pa.StructArray.from_arrays(children, fields=[pa.field(name, kind) for name, kind in kinds.items()])


def _connect(uri: str) -> Any:
    os.environ.setdefault("LANCE_LOG", "error")
    return optional("lancedb").connect(uri)


@contextmanager
def _lance_errors(uri: str) -> Iterator[None]:
    """Turn LanceDB's errors into a `StoreError`."""
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        raise StoreError(f"{uri}: LanceDB cannot do that: {str(error).splitlines()[0]}") from error
