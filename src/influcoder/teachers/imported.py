"""Bring your own attribution: features or scores that another tool computed become a features folder.

Features are kept as they are, so influence is their plain inner product. Scores, an n_queries x n_pool matrix M,
become features whose inner products are these scores: by the thin singular value decomposition M = U S Vᵀ, U √S
for the queries and V √S for the pool.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.data.columns import data_fingerprint, to_columns
from influcoder.data.examples import Example
from influcoder.errors import DataError
from influcoder.maths.arrays import Floats
from influcoder.progress import progress
from influcoder.provenance import IMPORTED, Provenance, TeacherRecord
from influcoder.store.codes import Plain
from influcoder.store.files import sha256
from influcoder.store.writer import StoreWriter
from influcoder.teachers.bergson import read_bergson
from influcoder.teachers.matrices import ForeignMatrix, Places, by, given_ids, places_of, read_matrix
from influcoder.teachers.scores import Rows, factored, read_scores

SHARD_ROWS = 256


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
        record: dict[str, Any] = {"source": self.source, **self.facts}
        for name, side in self.sides.items():
            record |= {name: len(side.examples), "width": side.matrix.shape[1]}
            record[f"{name}_no_gradient"] = self._write_side(side, folder / name, f"import: {name}")
        return record

    def _write_side(self, side: ImportedSide, folder: Path, what: str) -> int:
        teacher = TeacherRecord(IMPORTED, {"source": self.source}, files=dict(self.files))
        writer = StoreWriter(
            folder,
            kind="features",
            code=Plain(side.matrix.shape[1], "float32"),
            ids=[example.id for example in side.examples],
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
    >>> features = from_features(folder / "features.npy", folder / "features.npy", examples, examples)
    >>> features.write(folder / "features")["width"]
    2
    """
    matrices = read_matrix(query_features, tensor), read_matrix(pool_features, tensor)
    _refuse_columns_of_examples(*matrices, len(queries), len(pool))
    sides = _sides(*matrices, queries, pool, query_ids, pool_ids)
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
    sides = _sides(read_bergson(query_index), read_bergson(pool_index), queries, pool, query_ids, pool_ids)
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
    rows: Rows | None = None,
) -> Imported:
    """Features whose inner products are the scores of a matrix, queries in rows and pool examples in columns.

    A Parquet file may be long (columns query_id, pool_id, score) or wide (a column `id`, and one a pool id). A matrix
    that fits only with the pool in rows is read so, and a warning says it.

    Args:
        rows: what a matrix has in its rows; told by ids or shape when omitted, with the queries in rows if both fit.

    Raises:
        ConfigError: ids were given twice, or rows of a table that names them.
        DataError: the file cannot be used, does not fit the examples or could be read either way, or every score is 0.
    """
    matrix, transposed = read_scores(scores, queries, pool, query_ids, pool_ids, tensor=tensor, rows=rows)
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
    facts = {"score_max_abs_error": error, "score_relative_error": error / largest, "scores_transposed": transposed}
    read_as = "scores_transposed" if transposed else "scores"
    hashes = _hashes({read_as: scores, "query_ids": query_ids, "pool_ids": pool_ids})
    return Imported("scores", sides, hashes, facts)


def _sides(
    first: ForeignMatrix,
    second: ForeignMatrix,
    queries: Sequence[Example],
    pool: Sequence[Example],
    query_ids: Path | None,
    pool_ids: Path | None,
) -> dict[str, ImportedSide]:
    if len(queries) != len(pool) and (first.shape[0], second.shape[0]) == (len(pool), len(queries)):
        raise DataError(
            f"{first.name} has {len(pool)} vectors, as many as there are pool examples, and {second.name} has "
            f"{len(queries)}, as many as queries: the two are swapped. Give the former for the pool."
        )
    return {
        "queries": _side(first, query_ids, queries, "query"),
        "pool": _side(second, pool_ids, pool, "pool"),
    }


def _refuse_columns_of_examples(first: ForeignMatrix, second: ForeignMatrix, queries: int, pool: int) -> None:
    """Refuse matrices with an example a column, or that could be such."""
    for matrix, count, what in ((first, queries, "query"), (second, pool, "pool")):
        if matrix.shape[0] != count and matrix.shape[1] == count:
            raise DataError(
                f"{matrix.name}: {by(matrix.shape)} numbers for {count} {what} examples: its columns are the examples. "
                "Save it transposed (array.T), an example a row."
            )
    square = [side for side in (first, second) if side.ids is None and side.shape == (queries, pool)]
    if len(square) == 2 and not (first.symmetric and second.symmetric):
        raise DataError(
            f"{first.name} and {second.name} are {by(first.shape)} for as many examples: rows or columns may be these. "
            "Save them as Parquet with a column `id` and one of lists, an example a row."
        )


def _side(matrix: ForeignMatrix, ids: Path | None, examples: Sequence[Example], what: str) -> ImportedSide:
    names = given_ids(matrix.name, matrix.ids, ids, what)
    return ImportedSide(
        examples, matrix, places_of(matrix.name, matrix.shape[0], names, [example.id for example in examples], what)
    )


def _hashes(files: Mapping[str, Path | None]) -> dict[str, str]:
    return {name: sha256(path) for name, path in files.items() if path is not None}
