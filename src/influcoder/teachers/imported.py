"""Bring your own attribution: features or scores that another tool computed become a features folder.

Features are kept as they are, so influence is their plain inner product. Doubles, an n_queries x n_pool matrix M,
become features whose inner products are these scores: by the thin singular value decomposition M = U S Vᵀ, U √S
for the queries and V √S for the pool.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from influcoder.data.columns import data_fingerprint, to_columns
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, DataError
from influcoder.maths.arrays import Floats
from influcoder.progress import progress
from influcoder.provenance import IMPORTED, Provenance, TeacherRecord
from influcoder.store.codes import Plain
from influcoder.store.files import sha256
from influcoder.store.writer import StoreWriter
from influcoder.teachers.bergson import read_bergson
from influcoder.teachers.matrices import ForeignMatrix, Places, id_column, places_of, read_ids, read_matrix, read_table

SHARD_ROWS = 256
LONG = ("query_id", "pool_id", "score")
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ImportedSide:
    """The examples of one role and where their vectors are: the rows of `matrix` at `places`."""

    examples: Sequence[Example]
    matrix: ForeignMatrix
    places: Places

    def rows(self, start: int, stop: int) -> Floats:
        """(stop - start, width) vectors of these examples.

        Raises:
            DataError: one is not finite in float32.
        """
        with np.errstate(over="ignore"):
            vectors = np.asarray(self.matrix.take(self.places[start:stop]), np.float32)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            name = self.examples[start + int(np.argmin(finite))].id
            raise DataError(f"{self.matrix.name}: the vector of {name!r} is not finite in float32. Compute it again.")
        return vectors


@dataclass(frozen=True, slots=True)
class Imported:
    """Another tool's attribution, matched with examples and checked; `write` makes it a features folder.

    Attributes:
        source: "features", "scores" or "bergson".
        sides: queries and pool.
        files: SHA-256 of every file it was read from.
        facts: numbers for metrics.json.
    """

    source: str
    sides: Mapping[str, ImportedSide]
    files: Mapping[str, str]
    facts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        queries, pool = (side.matrix for side in self.sides.values())
        if queries.shape[1] != pool.shape[1]:
            raise DataError(
                f"{queries.name} has {queries.shape[1]} numbers a row, {pool.name} has {pool.shape[1]}; expected as "
                "many. Compute both with the same settings."
            )
        if queries.layout != pool.layout:
            raise DataError(f"{queries.name} and {pool.name} hold other modules. Build both with the same settings.")
        for side in self.sides.values():  # before any folder is touched
            for start in range(0, len(side.examples), SHARD_ROWS):
                side.rows(start, start + SHARD_ROWS)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the stores `queries` and `pool`, or what an earlier run left of them; gives the numbers of both."""
        found: dict[str, Any] = {"source": self.source, **self.facts}
        for name, side in self.sides.items():
            found |= {name: len(side.examples), "width": side.matrix.shape[1]}
            found[f"{name}_no_gradient"] = self._write_side(side, folder / name, f"import: {name}")
        return found

    def _write_side(self, side: ImportedSide, folder: Path, what: str) -> int:
        teacher = TeacherRecord(IMPORTED, {"source": self.source}, files=dict(self.files))
        writer = StoreWriter(
            folder,
            kind="features",
            code=Plain(side.matrix.shape[1], "float32"),
            ids=[one.id for one in side.examples],
            provenance=Provenance(teacher=teacher, data=data_fingerprint(side.examples)),
            shard_rows=SHARD_ROWS,
        )
        with progress(what, len(side.examples)) as advance:
            for shard in writer.missing():
                part, vectors = side.examples[shard.start : shard.stop], side.rows(shard.start, shard.stop)
                norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
                writer.write(shard, vectors, {"norm": norms, "no_gradient": norms == 0, **to_columns(part)})
                advance(len(part))
        return int(np.sum(writer.finish().columns["no_gradient"].to_numpy()))


def from_features(
    query_features: Path,
    pool_features: Path,
    queries: Sequence[Example],
    pool: Sequence[Example],
    *,
    query_ids: Path | None = None,
    pool_ids: Path | None = None,
    tensor: str | None = None,
) -> Imported:
    """Features of two matrices, a vector an example (`influcoder.teachers.matrices.read_matrix`).

    Args:
        query_ids, pool_ids: files of the ids of their rows; see `influcoder.teachers.matrices.read_ids`.
        tensor: which one of a safetensors file that holds several.

    Raises:
        ConfigError: ids were given twice.
        DataError: a file cannot be used, or does not fit the examples.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> np.save(folder / "features.npy", np.eye(2))
    >>> examples = [Example("a", "2 + 2 is ", "4"), Example("b", "1 + 1 is ", "2")]
    >>> found = from_features(folder / "features.npy", folder / "features.npy", examples, examples)
    >>> found.write(folder / "features")["width"]
    2
    """
    sides = {
        "queries": _side(read_matrix(query_features, tensor), query_ids, queries, "query"),
        "pool": _side(read_matrix(pool_features, tensor), pool_ids, pool, "pool"),
    }
    files = {"query_features": query_features, "pool_features": pool_features}
    return Imported("features", sides, _hashes(files | {"query_ids": query_ids, "pool_ids": pool_ids}))


def from_bergson(
    query_index: Path,
    pool_index: Path,
    queries: Sequence[Example],
    pool: Sequence[Example],
    *,
    query_ids: Path | None = None,
    pool_ids: Path | None = None,
) -> Imported:
    """The gradients of two bergson indexes, built with the same settings (`influcoder.teachers.bergson`).

    Raises:
        ConfigError: ids were given twice.
        DataError: an index cannot be used, or does not fit the examples or the other index.
    """
    sides = {
        "queries": _side(read_bergson(query_index), query_ids, queries, "query"),
        "pool": _side(read_bergson(pool_index), pool_ids, pool, "pool"),
    }
    files = {"query_gradients": query_index / "gradients.bin", "pool_gradients": pool_index / "gradients.bin"}
    return Imported("bergson", sides, _hashes(files | {"query_ids": query_ids, "pool_ids": pool_ids}))


def from_scores(
    scores: Path,
    queries: Sequence[Example],
    pool: Sequence[Example],
    *,
    query_ids: Path | None = None,
    pool_ids: Path | None = None,
    tensor: str | None = None,
) -> Imported:
    """Features whose inner products are the scores of a matrix, queries in rows and pool examples in columns.

    A Parquet file may be long (columns query_id, pool_id, score) or wide (a column `id`, and one a pool id).

    Raises:
        ConfigError: ids were given twice.
        DataError: the file cannot be used, does not fit the examples, or every score is 0.
    """
    if scores.suffix == ".parquet" and set(LONG) <= set(_names(scores)):
        if query_ids or pool_ids:
            raise ConfigError(f"{scores}: has its ids in query_id and pool_id. Leave --query-ids and --pool-ids out.")
        matrix = _long(scores, [one.id for one in queries], [one.id for one in pool])
    else:
        matrix = _square(read_matrix(scores, tensor), query_ids, pool_ids, queries, pool)
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise DataError(
            f"{scores}: the score of query {queries[row].id!r} and pool {pool[column].id!r} is not finite. Mend it."
        )
    if not matrix.any():
        raise DataError(f"{scores}: every score is 0, so there is no influence to learn. Compute them again.")
    parts = [part.astype(np.float32) for part in factored(matrix)]
    largest = float(np.abs(matrix).max())
    error = float(np.abs(parts[0].astype(np.float64) @ parts[1].T.astype(np.float64) - matrix).max())
    sides = {
        name: ImportedSide(examples, ForeignMatrix(str(scores), part.shape, part.__getitem__), np.arange(len(part)))
        for name, examples, part in zip(("queries", "pool"), (queries, pool), parts, strict=True)
    }
    facts = {"score_max_abs_error": error, "score_relative_error": error / largest}
    hashes = _hashes({"scores": scores, "query_ids": query_ids, "pool_ids": pool_ids})
    return Imported("scores", sides, hashes, facts)


def factored(scores: Doubles) -> tuple[Doubles, Doubles]:
    """U √S, (n_queries, rank), and V √S, (n_pool, rank): features whose inner products are the scores.

    >>> queries, pool = factored(np.array([[1.0, 2.0], [2.0, 4.0]]))
    >>> queries.shape, bool(np.allclose(queries @ pool.T, [[1, 2], [2, 4]]))
    ((2, 1), True)
    """
    u, s, vt = np.linalg.svd(scores, full_matrices=False)
    kept = max(1, int((s > np.finfo(np.float64).eps * max(scores.shape) * s[0]).sum()))
    root = np.sqrt(s[:kept])
    return u[:, :kept] * root, vt[:kept].T * root


def _side(matrix: ForeignMatrix, ids: Path | None, examples: Sequence[Example], what: str) -> ImportedSide:
    names = _ids(matrix.name, matrix.ids, ids, what)
    return ImportedSide(
        examples, matrix, places_of(matrix.name, matrix.shape[0], names, [one.id for one in examples], what)
    )


def _square(
    matrix: ForeignMatrix,
    query_ids: Path | None,
    pool_ids: Path | None,
    queries: Sequence[Example],
    pool: Sequence[Example],
) -> Doubles:
    """(n_queries, n_pool) in the order of the examples."""
    held = list(matrix.columns) if matrix.ids is not None and matrix.columns else None
    columns = _ids(matrix.name, held, pool_ids, "pool")
    side = _side(matrix, query_ids, queries, "query")
    order = places_of(matrix.name, matrix.shape[1], columns, [one.id for one in pool], "pool")
    return np.asarray(matrix.take(side.places), np.float64)[:, order]


def _long(path: Path, queries: list[str], pool: list[str]) -> Doubles:
    """(n_queries, n_pool) scores of a table of query_id, pool_id, score, in the order of the examples."""
    table = read_table(path)
    if not (pa.types.is_floating(table["score"].type) or pa.types.is_integer(table["score"].type)):
        raise DataError(f"{path}: column 'score' is {table['score'].type}, expected numbers. Cast it.")
    places = []
    for name, wanted, what in (("query_id", queries, "query"), ("pool_id", pool, "pool")):
        ids = id_column(path, pa.table({name: pc.unique(table[name])}), name)
        places_of(str(path), len(ids), ids, wanted, what)
        places.append(pc.index_in(table[name].cast(pa.string()), pa.array(wanted, pa.string())).to_numpy())
    cells = places[0].astype(np.int64) * len(pool) + places[1]
    counts = np.bincount(cells, minlength=len(queries) * len(pool))
    if (counts != 1).any():
        row, column = divmod(int(np.argmax(counts != 1)), len(pool))
        raise DataError(
            f"{path}: query {queries[row]!r} and pool {pool[column]!r} have {counts[counts != 1][0]} scores, expected "
            "one for each pair. Compute the missing ones, drop the others."
        )
    scores = np.empty(len(cells))
    scores[cells] = table["score"].to_numpy()
    return scores.reshape(len(queries), len(pool))


def _ids(name: str, held: list[str] | None, given: Path | None, what: str) -> list[str] | None:
    if held is not None and given is not None:
        raise ConfigError(f"{name}: holds its own {what} ids. Leave --{what}-ids out.")
    return held if given is None else read_ids(given)


def _names(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}. Write it again.") from error


def _hashes(files: Mapping[str, Path | None]) -> dict[str, str]:
    return {name: sha256(path) for name, path in files.items() if path is not None}
