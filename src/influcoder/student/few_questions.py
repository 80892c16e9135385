"""Few questions: pool rows take the role of queries, so that an encoder can be distilled for a single one.

What is learnt of queries is which directions of the pool's gradients matter, and how texts point at them. A handful of
questions shows neither; the pool rows of the sample show both, and their gradients are at hand
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


def split_with_pool_rows(whole: Sample, asked: tuple[Sequence[Example], Floats], seed: int) -> tuple[Sample, Sample]:
    """(train, validation) as of `split_sample`, with pool rows among the queries of both.

    A pool row of the training split is asked and asked about. One of the validation split is either: a row's influence
    on itself, which every text shows, would flatter.

    Args:
        asked: pool rows and their (n, width) features in the role of queries.

    Raises:
        ConfigError: the seed is out of range.
        DataError: fewer than eight pool rows.
    """
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed is {seed}, expected 0 to 2**63 - 1.")
    if len(whole.pool) < LEAST_POOL:
        raise DataError(f"{len(whole.pool)} pool rows; distilling needs at least {LEAST_POOL} to train and validate.")
    rng = np.random.default_rng(seed)
    queries, pool = rng.permutation(len(whole.queries)), rng.permutation(len(whole.pool))
    few, held = round(VALIDATION_SHARE * len(queries)), max(4, round(VALIDATION_SHARE * len(pool)))
    place = {one.id: row for row, one in enumerate(asked[0])}

    def joined(real: Ints, rows: Ints, stand: Ints) -> Sample:
        rows = np.array([place[whole.pool[row].id] for row in rows if whole.pool[row].id in place], np.int64)
        return Sample(
            [*(whole.queries[row] for row in real), *(asked[0][row] for row in rows)],
            [whole.pool[row] for row in stand],
            np.concatenate([whole.query_features[real], asked[1][rows]]),
            whole.pool_features[stand],
        )

    train, validation = np.sort(pool[held:]), pool[:held]
    half = held // 2
    return joined(np.sort(queries[few:]), train, train), joined(
        queries[:few], np.sort(validation[:half]), np.sort(validation[half:])
    )
