"""How well a score matrix ranks as the true influences do. All matrices are (n_queries, n_pool).

| metric | what is asked |
|---|---|
| per_query_spearman | does each query rank the pool as the truth does? mean over queries |
| aggregated_spearman | does the query-averaged score? (the paper's headline) |
| length_controlled_spearman | the same per query, with what completion length explains taken out of both rankings |
| ndcg_at_10 | do the truth's strongest proponents come first? gains are influences, negative ones clipped to 0 |
| top_10_percent_overlap | share of the truth's top tenth in the score's top tenth |

A query whose truth or score is constant has no ranking; it counts as 0 agreement.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.maths.arrays import Matrix

METRICS = (
    "per_query_spearman",
    "aggregated_spearman",
    "length_controlled_spearman",
    "ndcg_at_10",
    "top_10_percent_overlap",
)


def row_correlations(a: Matrix, b: Matrix) -> Matrix:
    """Pearson correlation of each row of `a` with that row of `b`, (n,); 0 where one is constant."""
    a = a - a.mean(axis=1, keepdims=True)
    b = b - b.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.divide((a * b).sum(axis=1), norms, out=np.zeros(len(a)), where=norms > 1e-12))


def ranks(values: Matrix) -> Matrix:
    """The ranks of each row's numbers from 1, equal ones sharing their mean rank; of the shape of `values`.

    As `scipy.stats.rankdata`, whose checks take a millisecond a call: choosing a student ranks thousands of small
    matrices. A row with a NaN has no ranks but NaN.

    >>> ranks(np.array([[0.3, 0.1, 0.1]])).tolist()
    [[3.0, 1.5, 1.5]]
    """
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    is_first = np.ones(ordered.shape, bool)  # of a run of equal numbers
    np.not_equal(ordered[..., 1:], ordered[..., :-1], out=is_first[..., 1:])
    is_last = np.ones(ordered.shape, bool)
    is_last[..., :-1] = is_first[..., 1:]
    places = np.arange(ordered.shape[-1])
    first = np.maximum.accumulate(np.where(is_first, places, 0), axis=-1)
    last = np.minimum.accumulate(np.where(is_last, places, places.size)[..., ::-1], axis=-1)[..., ::-1]
    ranked = np.empty(ordered.shape)
    np.put_along_axis(ranked, order, (first + last) / 2 + 1, axis=-1)
    ranked[np.isnan(values).any(axis=-1)] = np.nan
    return ranked


def spearman_rows(truth: Matrix, scores: Matrix) -> Matrix:
    """Spearman's ρ of each row, (n_queries,)."""
    return row_correlations(ranks(truth), ranks(scores))


def agreement_with(truth: Matrix) -> Callable[[Matrix], float]:
    """Gives the mean of `spearman_rows` of scores with one truth, whose ranks are made once."""
    true_ranks = ranks(truth)
    return lambda scores: float(row_correlations(true_ranks, ranks(scores)).mean())


def length_controlled_rows(truth: Matrix, scores: Matrix, lengths: Matrix) -> Matrix:
    """Spearman's ρ of each row after a cubic in the rank of `lengths`, (n_pool,), is regressed out of both."""
    rank = ranks(lengths) / len(lengths) - 0.5
    left, sizes, _ = np.linalg.svd(np.stack([rank**power for power in range(4)], axis=1), full_matrices=False)
    basis = left[:, sizes > 1e-9 * sizes[0]]  # fewer where lengths repeat
    residuals = []
    for row_ranks in (ranks(truth), ranks(scores)):
        residual = row_ranks - (row_ranks @ basis) @ basis.T
        residual[np.linalg.norm(residual, axis=1) < 1e-9 * np.linalg.norm(row_ranks, axis=1)] = 0  # nothing but length
        residuals.append(residual)
    return row_correlations(*residuals)


def ndcg_rows(truth: Matrix, scores: Matrix, k: int = 10) -> Matrix:
    """NDCG@k of each row with gains max(truth, 0), (n_queries,); 0 where there is nothing to gain."""
    gains = np.maximum(truth, 0)
    k = min(k, truth.shape[1])
    discount = 1 / np.log2(np.arange(2, k + 2))
    gained = np.take_along_axis(gains, np.argsort(-scores, axis=1, kind="stable")[:, :k], axis=1) @ discount
    best = -np.sort(-gains, axis=1)[:, :k] @ discount
    return np.divide(gained, best, out=np.zeros(len(gained)), where=best > 0)


def top_overlap_rows(truth: Matrix, scores: Matrix, share: float = 0.1) -> Matrix:
    """Share of the truth's top `share` that the scores' top `share` holds, (n_queries,)."""
    k = max(1, round(share * truth.shape[1]))
    tops = [np.argsort(-matrix, axis=1, kind="stable")[:, :k] for matrix in (truth, scores)]
    return np.array([len(np.intersect1d(a, b)) / k for a, b in zip(*tops, strict=True)])


def agreement(truth: Matrix, scores: Matrix, lengths: Matrix, *, seed: int = 0, resamples: int = 400) -> dict[str, Any]:
    """Every metric with its 95 % interval, by bootstrap over queries.

    Args:
        truth: (n_queries, n_pool) true influences.
        scores: (n_queries, n_pool) the method's.
        lengths: (n_pool,) completion lengths.

    Returns:
        the metrics by name, and `interval_95`: {name: [low, high]}.
    """
    rows: dict[str, Matrix] = {
        "per_query_spearman": spearman_rows(truth, scores),
        "length_controlled_spearman": length_controlled_rows(truth, scores, lengths),
        "ndcg_at_10": ndcg_rows(truth, scores),
        "top_10_percent_overlap": top_overlap_rows(truth, scores),
    }
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(truth), np.full(len(truth), 1 / len(truth)), size=resamples) / len(truth)
    samples: dict[str, Matrix] = {name: weights @ each for name, each in rows.items()}
    samples["aggregated_spearman"] = spearman_rows(weights @ truth, weights @ scores)
    values = {name: float(each.mean()) for name, each in rows.items()}
    values["aggregated_spearman"] = float(spearman_rows(truth.mean(axis=0)[None], scores.mean(axis=0)[None])[0])
    intervals = {name: [float(x) for x in np.quantile(samples[name], [0.025, 0.975])] for name in METRICS}
    return {name: values[name] for name in METRICS} | {"interval_95": intervals}


def retrieval(scores: Matrix, relevant: NDArray[np.bool_], k: int = 10) -> dict[str, float]:
    """Recall@k and mean reciprocal rank of the `relevant` pool examples of each query.

    >>> import numpy as np
    >>> retrieval(np.array([[0.1, 0.9, 0.5]]), np.array([[False, True, True]]), k=1)
    {'recall_at_1': 0.5, 'mrr': 1.0}
    """
    recall, reciprocal = retrieval_rows(scores, relevant, k)
    return {f"recall_at_{k}": float(recall.mean()), "mrr": float(reciprocal.mean())}


def retrieval_rows(scores: Matrix, relevant: NDArray[np.bool_], k: int) -> tuple[Matrix, Matrix]:
    """((n_queries,) shares of the relevant rows in the top k, (n_queries,) 1 / rank of the first relevant row).

    As DATE-LM has them (Jiao et al. 2025, arXiv 2507.09424). Ties go by order in the pool.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(relevant, order, axis=1)
    return hits[:, :k].sum(axis=1) / relevant.sum(axis=1), 1 / (hits.argmax(axis=1) + 1)


def precision_recall_areas(
    scores: Matrix, relevant: NDArray[np.bool_], weights: Matrix | None = None
) -> tuple[Matrix, Matrix]:
    """(trapezoids, average precisions) under the precision-recall curve, one for each row of `weights`.

    The trapezoid, from precision 1 at recall 0, is what DATE-LM calls AUPRC (scikit-learn's `auc` of its
    `precision_recall_curve`); it flatters few positives (Davis & Goadrich 2006). Average precision, a sum of steps,
    does not. Equal scores are one point of the curve.

    Args:
        scores: (n,) higher = sooner called relevant.
        relevant: (n,), at least one of weight above 0.
        weights: (resamples, n) how often each row counts; once when omitted.

    >>> import numpy as np
    >>> precision_recall_areas(np.array([0.9, 0.8, 0.1]), np.array([False, True, False]))[1]
    array([0.5])
    """
    weights = np.ones((1, len(scores))) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(weights[:, order] * relevant[order], axis=1)[:, ends]
    seen = np.cumsum(weights[:, order], axis=1)[:, ends]
    precision = np.divide(hits, seen, out=np.ones_like(hits), where=seen > 0)
    recall = np.concatenate([np.zeros((len(weights), 1)), hits / hits[:, -1:]], axis=1)
    before = np.concatenate([np.ones((len(weights), 1)), precision[:, :-1]], axis=1)
    steps = np.diff(recall, axis=1)
    return (steps * (precision + before) / 2).sum(axis=1), (steps * precision).sum(axis=1)


def percentiles(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) where each score stands among all, from 0 to 100 for the highest; ties by order.

    >>> percentiles(np.float32([0.1, 0.3, -0.2])).tolist()
    [50.0, 100.0, 0.0]
    """
    order = np.argsort(np.argsort(scores, kind="stable"), kind="stable")
    return (100 * order / max(len(scores) - 1, 1)).astype(np.float32)
