"""Scores of a method when a row's length counts for more, or for nothing."""

import numpy as np
from numpy.typing import NDArray

from influcoder.maths.arrays import Matrix


def by_length(scores: Matrix, tokens: Matrix | NDArray[np.int64]) -> dict[str, Matrix]:
    """Scores under each length policy.

    Gradients of a mean loss, compared as they are, weigh every row alike; times its tokens, as a trainer does that
    takes the mean over a batch's tokens; times their root, in between (EleutherAI/bergson, issue 191). "length out"
    is what a line in the logarithm of the tokens does not explain of a query's scores.

    Args:
        scores: (n_queries, n_pool).
        tokens: (n_pool,) completion tokens of each row.

    >>> sorted(by_length(np.ones((1, 3)), np.array([1, 2, 4])))
    ['as it is', 'length out', 'times root of tokens', 'times tokens']
    """
    scores, tokens = np.asarray(scores, np.float64), np.maximum(np.asarray(tokens, np.float64), 1)
    line = np.stack([np.ones(len(tokens)), np.log(tokens)], axis=1)
    return {
        "as it is": scores,
        "times root of tokens": scores * np.sqrt(tokens),
        "times tokens": scores * tokens,
        "length out": scores - (line @ np.linalg.lstsq(line, scores.T, rcond=None)[0]).T,
    }
