"""Evaluate attribution by training: does the model change as the scores predict?

Two measurements, neither of which needs another attribution method as its truth:

- *Retraining.* Fine-tune on random subsets of the pool and measure every query's loss. The linear
  datamodeling score (LDS; Park et al. 2023, arXiv 2303.14186, section 2) is Spearman's ρ over the subsets S
  between what the scores τ predict, Σ_{x in S} τ(q, x), and the measured output, here minus q's loss.
- *One step.* Take one SGD step on a single pool example, θ - η ∇L_x(θ), measure every query's loss, undo the step.
  To first order the loss of q changes by -η ∇L_q·∇L_x (TracIn's argument, Pruthi et al. 2020).

In both a higher score must mean a lower loss.
"""

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from influcoder.data.columns import data_fingerprint
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, ModelError
from influcoder.maths.arrays import Matrix
from influcoder.maths.metrics import row_correlations, spearman_rows
from influcoder.model.batches import Batch
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings, batches_of, completion_losses, finetune, measure_losses
from influcoder.progress import progress
from influcoder.provenance import Provenance
from influcoder.store.codes import Plain
from influcoder.store.writer import StoreWriter

Subsets = NDArray[np.int64]
TOKEN_BUDGET = 4096
STEP_RATE = 1e-4
"""small enough that halving it halves the changes to 0.3 % on the demo decoder (1e-3: 1.5 %, 1e-2: 16 %), large
enough that rounding is no more than that (1e-5: 2 %)"""


def draw_subsets(n_pool: int, count: int = 60, share: float = 0.5, seed: int = 0) -> Subsets:
    """Random subsets of the pool, (count, round(share · n_pool)) sorted indices, each without repeats.

    Raises:
        ConfigError: a subset would be empty or the whole pool.
    """
    size = round(share * n_pool)
    if count < 2 or not 0 < size < n_pool:
        raise ConfigError(
            f"{count} subsets of {size} of {n_pool} pool examples: expected at least 2 subsets, "
            "neither empty nor the whole pool. Change the count or the share."
        )
    rng = np.random.default_rng(seed)
    return np.stack([np.sort(rng.permutation(n_pool)[:size]) for _ in range(count)])


def retrained_losses(
    decoder: Decoder,
    pool: Sequence[Example],
    queries: Sequence[Example],
    subsets: Subsets,
    settings: FinetuneSettings,
    folder: Path,
) -> NDArray[np.float32]:
    """Fine-tune on each subset of the pool and measure each query's loss, (n_subsets, n_queries).

    Each retraining starts from the given decoder. `folder` becomes a store with one row per subset: its losses and its
    members. A killed run is resumed to the same bytes.

    Args:
        subsets: (n_subsets, size) indices of pool examples.
        folder: where the losses are kept; the caller has claimed it.

    Raises:
        StoreMismatch: the folder was begun with another decoder, data, subsets or settings.
        DataError, ModelError: as `finetune`.
    """
    drawn = hashlib.sha256(np.ascontiguousarray(subsets, np.int64).tobytes()).hexdigest()
    provenance = Provenance(
        decoder=decoder.fingerprint,
        data=data_fingerprint(pool),
        queries=data_fingerprint(queries),
        training={"settings": settings.resolved(decoder.device), "subsets": drawn},
    )
    writer = StoreWriter(
        folder,
        kind="retrained-losses",
        code=Plain(len(queries), "float32"),
        ids=[f"subset-{number:04d}" for number in range(len(subsets))],
        provenance=provenance,
        shard_rows=1,
    )
    batches = batches_of(decoder, decoder.tokenise(queries), TOKEN_BUDGET)
    with progress("retraining", len(subsets)) as advance:
        missing = list(writer.missing())
        advance(len(subsets) - len(missing))
        for shard in missing:
            members = subsets[shard.start]
            trained = finetune(decoder, [pool[row] for row in members], settings)
            losses = measure_losses(trained.model, batches, len(queries))
            writer.write(shard, losses[None], {"members": [members.tolist()]})
            advance(1)
    return writer.finish().vectors()


def losses_of(decoder: Decoder, examples: Sequence[Example]) -> NDArray[np.float32]:
    """The loss of each example under a decoder, (n,)."""
    batches = batches_of(decoder, decoder.tokenise(examples), TOKEN_BUDGET)
    return np.asarray(measure_losses(decoder.model, batches, len(examples)))


def lds(scores: Matrix, subsets: Subsets, losses: Matrix) -> Matrix:
    """The linear datamodeling score of each query, (n_queries,).

    Args:
        scores: (n_queries, n_pool), a proponent's is higher.
        subsets: (n_subsets, size) indices of pool examples.
        losses: (n_subsets, n_queries), as `retrained_losses` gives.

    >>> lds(np.array([[3.0, 2.0, 1.0]]), np.array([[0], [1], [2]]), np.array([[0.1], [0.2], [0.3]])).round(6)
    array([1.])
    """
    predicted = np.stack([scores[:, members].astype(np.float64).sum(axis=1) for members in subsets], axis=1)
    return spearman_rows(-np.asarray(losses, np.float64).T, predicted)


def one_step(
    decoder: Decoder, pool: Sequence[Example], queries: Sequence[Example], rate: float = STEP_RATE
) -> NDArray[np.float64]:
    """How much one SGD step on each pool example lowers each query's loss, (n_queries, n_pool).

    The step is taken with the float32 gradient of all parameters of a copy, each from the same start.
    Positive: the step lowered the query's loss, a proponent. An example without loss changes nothing.

    Args:
        rate: η. Small enough that the η² term, curvature, is a few percent of the η term, and large
            enough that the changes exceed float32 rounding: halve it, and the changes must halve.

    Raises:
        ConfigError: the rate is not above 0.
        ModelError: a loss is not finite after a step; the message names the pool example.
    """
    if not 0 < rate < float("inf"):
        raise ConfigError(f"rate is {rate}, expected a number above 0.")
    model = copy.deepcopy(decoder.model).float().requires_grad_(True)
    batches = batches_of(decoder, decoder.tokenise(queries), TOKEN_BUDGET)
    before = measure_losses(model, batches, len(queries)).astype(np.float64)
    changes = np.zeros((len(queries), len(pool)))
    with progress("one step", len(pool)) as advance:
        for row, tokens in enumerate(decoder.tokenise(pool)):
            for batch in batches_of(decoder, [tokens], TOKEN_BUDGET):
                _step(model, batch, rate)
                changes[:, row] = before - measure_losses(model, batches, len(queries))
                _restore(model, decoder.model)
            if not np.isfinite(changes[:, row]).all():
                raise ModelError(f"a step on {pool[row].id!r} makes a loss that is not finite. Lower the rate.")
            advance(1)
    return changes


def step_agreement(scores: Matrix, changes: Matrix) -> Matrix:
    """Spearman's ρ of each query over the pool between scores and what one step did, (n_queries,)."""
    return spearman_rows(changes, scores)


def pooled_step_agreement(scores: Matrix, changes: Matrix) -> float:
    """Pearson's correlation over all (query, pool example) pairs, which depends on the sizes of scores as well."""
    flat = (np.asarray(matrix, np.float64).reshape(1, -1) for matrix in (scores, changes))
    a, b = (row / max(float(np.abs(row).max()), 1e-300) for row in flat)  # changes may be tiny numbers
    return float(row_correlations(a, b)[0])


def interval(rows: Matrix, *, seed: int = 0, resamples: int = 400) -> tuple[float, float]:
    """The 95 % bootstrap interval over queries of the mean of `rows`, (n_queries,)."""
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=resamples) / len(rows)
    low, high = np.quantile(weights @ rows, [0.025, 0.975])
    return float(low), float(high)


def _step(model: Any, batch: Batch, rate: float) -> None:
    with torch.enable_grad():
        completion_losses(model, batch).sum().backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=rate)
                parameter.grad = None


@torch.no_grad()
def _restore(model: Any, start: Any) -> None:
    for parameter, original in zip(model.parameters(), start.parameters(), strict=True):
        parameter.copy_(original)
