"""A score for each query and pool example, as another tool left it: which axis is which, and in what order.

Tools disagree: TRAK and dattri put training examples in rows, kronfluence puts queries there. Ids tell, or the shape
does; where neither does, the user has to.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from influcoder.data.examples import Example
from influcoder.errors import ConfigError, DataError
from influcoder.teachers.matrices import ForeignMatrix, by, given_ids, id_column, places_of, read_matrix, read_table

logger = logging.getLogger("influcoder")

Doubles = NDArray[np.float64]
Rows = Literal["queries", "pool"]
LONG = ("query_id", "pool_id", "score")


def read_scores(
    path: Path,
    queries: Sequence[Example],
    pool: Sequence[Example],
    query_ids: Path | None = None,
    pool_ids: Path | None = None,
    *,
    tensor: str | None = None,
    rows: Rows | None = None,
) -> tuple[Doubles, bool]:
    """((n_queries, n_pool) scores in the order of the examples, whether the file has the pool in rows).

    Raises:
        ConfigError, DataError: as `influcoder.teachers.imported.from_scores`.
    """
    wanted = [query.id for query in queries], [row.id for row in pool]
    if path.suffix == ".parquet" and set(LONG) <= set(_names(path)):
        if query_ids or pool_ids:
            raise ConfigError(f"{path}: has its ids in query_id and pool_id. Leave --query-ids and --pool-ids out.")
        if rows:
            raise ConfigError(f"{path}: has a pair of ids in each row. Leave --score-rows out.")
        return _long(path, *wanted), False
    matrix = read_matrix(path, tensor)
    turned = _pool_in_rows(matrix, *wanted, rows)
    whole = np.asarray(matrix.take(np.arange(matrix.shape[0])), np.float64)
    held = [matrix.ids, list(matrix.columns) if matrix.ids is not None and matrix.columns else None]
    if turned:
        whole, held = whole.T, held[::-1]
    places = [
        places_of(matrix.name, count, given_ids(matrix.name, own, given, what), ids, what)
        for count, own, given, ids, what in zip(
            whole.shape, held, (query_ids, pool_ids), wanted, ("query", "pool"), strict=True
        )
    ]
    return whole[places[0]][:, places[1]], turned


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


def _pool_in_rows(matrix: ForeignMatrix, queries: list[str], pool: list[str], said: Rows | None) -> bool:
    """Whether a matrix has the pool in rows: as the user says, as its ids say, or as is the only way that it fits."""
    if said is not None:
        return said == "pool"
    if matrix.ids is not None and set(queries) != set(pool):
        return set(matrix.ids) == set(pool)
    usual, other = matrix.shape == (len(queries), len(pool)), matrix.shape == (len(pool), len(queries))
    if usual and other and not matrix.symmetric:
        raise DataError(
            f"{matrix.name}: {by(matrix.shape)} scores for as many queries as pool examples: its rows may be either. "
            "Say which with --score-rows queries or --score-rows pool."
        )
    if other and not usual:
        logger.warning(
            "%s: %s scores for %d queries and %d pool examples: read with the pool in rows.",
            matrix.name,
            by(matrix.shape),
            len(queries),
            len(pool),
        )
    return other and not usual


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


def _names(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}. Write it again.") from error
