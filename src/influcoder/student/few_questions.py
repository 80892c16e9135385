"""Few questions: pool rows take the role of queries, so that an encoder can be distilled for a single one.

Queries teach which directions of the pool's gradients matter, and how a text maps to them. A handful of questions shows
neither; the pool rows of the sample show both, and their gradients are computed already
(docs/decisions/0019-few-questions.md).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from influcoder.data.examples import Example
from influcoder.errors import ConfigError, DataError
from influcoder.maths.arrays import Floats
from influcoder.student.sample import VALIDATION_SHARE, Sample

Ints = NDArray[np.int64]

FEW = 20
"""queries below which pool rows are asked as well"""
ASKED = "asked"
"""the store of pool rows in the role of queries, in a features folder"""
MOST_ASKED = 300
"""pool rows whose gradients are taken a second time, where the roles differ"""
LEAST_POOL = 8


def split_with_pool_rows(sample: Sample, asked: tuple[Sequence[Example], Floats], seed: int) -> tuple[Sample, Sample]:
    """(train, validation) as of `split_sample`, with pool rows among the queries of both.

    A pool row of the training split takes both roles. One of the validation split takes one of them: a row's influence
    on itself, which is easy to predict, would raise the measured agreement.

    Args:
        asked: pool rows and their (n, width) features in the role of queries.

    Raises:
        ConfigError: the seed is out of range.
        DataError: fewer than eight pool rows.
    """
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed is {seed}, expected 0 to 2**63 - 1.")
    if len(sample.pool) < LEAST_POOL:
        raise DataError(f"{len(sample.pool)} pool rows; distilling needs at least {LEAST_POOL} to train and validate.")
    rng = np.random.default_rng(seed)
    queries, pool = rng.permutation(len(sample.queries)), rng.permutation(len(sample.pool))
    query_count, pool_count = round(VALIDATION_SHARE * len(queries)), max(4, round(VALIDATION_SHARE * len(pool)))
    examples, features = asked
    asked_row = {example.id: row for row, example in enumerate(examples)}

    def joined(query_rows: Ints, as_queries: Ints, pool_rows: Ints) -> Sample:
        names = [sample.pool[row].id for row in as_queries]
        rows = np.array([asked_row[name] for name in names if name in asked_row], np.int64)
        return Sample(
            [*(sample.queries[row] for row in query_rows), *(examples[row] for row in rows)],
            [sample.pool[row] for row in pool_rows],
            np.concatenate([sample.query_features[query_rows], features[rows]]),
            sample.pool_features[pool_rows],
        )

    train, validation = np.sort(pool[pool_count:]), pool[:pool_count]
    half = pool_count // 2
    return joined(np.sort(queries[query_count:]), train, train), joined(
        queries[:query_count], np.sort(validation[:half]), np.sort(validation[half:])
    )
