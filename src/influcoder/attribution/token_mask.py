"""A loss mask of the kept rows: tokens that push away from what is wanted are not trained on.

The teacher's influence of a row is a sum over its tokens (`influcoder.model.token_shares`). Of all tokens of the kept
rows, those with the worst shares are masked; a token that pushes towards what is wanted never is.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.rechecked import Advance
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.indexes.index import Index
from influcoder.maths.arrays import Floats
from influcoder.progress import progress
from influcoder.teachers.teacher import Teacher

COLUMN = "influcoder_token_mask"
AT_ONCE = 16
"""rows between two steps of the progress bar"""


def masks_of_kept(
    teacher: Teacher,
    index: Index,
    is_kept: NDArray[np.bool_],
    queries: Sequence[Example],
    share: float,
    *,
    against: Sequence[Example] | None = None,
    unwanted: bool = False,
    advance: Advance | None = None,
) -> list[list[int]]:
    """The loss mask of each kept row of an index, in their order: see `token_masks`.

    Args:
        is_kept: (rows,) of every row.
        queries, against: by which the rows were selected.
    """
    target = teacher.features(queries, "query").refuse_rejected(queries).vectors.mean(axis=0)
    if against is not None:
        target = target - teacher.features(against, "query").refuse_rejected(against).vectors.mean(axis=0)
    rows = index.examples_at(np.flatnonzero(is_kept))
    return token_masks(teacher, rows, target, share, unwanted=unwanted, advance=advance)


def token_masks(
    teacher: Teacher,
    rows: Sequence[Example],
    target: Floats,
    share: float,
    *,
    unwanted: bool = False,
    advance: Advance | None = None,
) -> list[list[int]]:
    """For each row a number for each of its tokens with loss, in order: 1 to train on it, 0 to leave it out.

    Tokens are the decoder's, the end token among them, as `influcoder show` marks them. It costs a gradient a row.

    Args:
        wanted: (dim,) the teacher's features of the queries, their mean.
        share: of all tokens with loss, how many are masked at most, above 0 to 1.
        unwanted: the queries show what is unwanted, so the worst tokens are those that push towards them.
        advance: called with how many rows are done, and how many there are, after every few of them.

    Raises:
        ConfigError: the share is none, or the teacher's influence is no sum over tokens.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"--mask-tokens is {share}, expected a share above 0 and at most 1 (100%).")
    direction = -target if unwanted else target
    shares_of_rows: list[Floats] = []
    with progress("the kept rows' tokens", len(rows)) as step:
        for start in range(0, len(rows), AT_ONCE):
            if advance is not None:
                advance(start, len(rows))
            batch = rows[start : start + AT_ONCE]
            shares_of_rows += [row[0] for row in teacher.token_shares(batch, "pool", [direction[None]] * len(batch))]
            step(len(batch))
    shares = np.concatenate([np.zeros(0, np.float32), *shares_of_rows])
    count = int(share * len(shares))
    worst = min(np.partition(shares, count - 1)[count - 1], 0.0) if count else -np.inf
    return [[int(value > worst or value >= 0) for value in of_row.tolist()] for of_row in shares_of_rows]


def counts(masks: Sequence[Sequence[int]]) -> dict[str, int]:
    """How many tokens are masked, and of how many.

    >>> counts([[1, 0], [1]])
    {'masked': 1, 'of': 3}
    """
    return {"masked": sum(mask.count(0) for mask in masks), "of": sum(map(len, masks))}
