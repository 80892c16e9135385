"""A student in the manner of AirRep: it learns from what training on random groups of rows did to the losses.

Sun et al. 2025 (arXiv 2505.18513). A score of a group S for a query q is pooled by attention,

    s(q, S) = Σ_{x in S} softmax_x(|s(q, x)|) s(q, x),      s(q, x) = ⟨V g(q), W f(x)⟩,

and for every query each pair of groups is ranked as the measured losses are: a logistic loss on the difference of
their scores, weighted by the difference of the z-scored losses, clipped at 10. Its authors retrain 10,000 groups of
1,000 rows. Here the groups cost as much as the gradients that our students learn from, and texts are read as our static
tier reads them, so that only the training signal differs.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from influcoder.benchmarks.methods.rivals import Reading
from influcoder.data.examples import Example
from influcoder.evaluation.retraining import retrained_losses
from influcoder.evaluation.scorers import Scores
from influcoder.maths.arrays import Floats
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings
from influcoder.student.sample import Sample

ROWS_A_GROUP = 16
LEAST_GROUPS = 4
DIM = 64
STEPS = 200
CLIP = 10.0
BACKWARD = 3
"""forward passes that a forward and a backward pass cost together"""


def affordable_groups(queries: int, pool: int, rows: int = ROWS_A_GROUP) -> int:
    """How many groups cost as much as the gradients of the training sample, at least `LEAST_GROUPS`.

    A gradient costs three forward passes; a group costs a training step on each row and a forward pass for each query.

    >>> affordable_groups(queries=40, pool=300)
    11
    """
    return max(LEAST_GROUPS, BACKWARD * (queries + pool) // (BACKWARD * rows + queries))


class GroupStudent:
    """Scores by two linear maps that were trained to rank groups of rows by their losses.

    Args:
        read: frozen features of texts.
        seed: draws groups and maps.
    """

    name = "airrep"
    bytes_per_example = 2 * DIM

    def __init__(self, read: Reading, seed: int) -> None:
        self._read = read
        self._seed = seed

    def fit(self, decoder: Decoder, sample: Sample, folder: Path, settings: FinetuneSettings) -> "GroupStudent":
        """Retrain the decoder on random groups of the pool, kept in `folder`, and learn from the queries' losses."""
        queries, pool = sample.queries, sample.pool
        count, size = affordable_groups(len(queries), len(pool)), min(ROWS_A_GROUP, len(pool) // 2)
        rng = np.random.default_rng(self._seed)
        groups = np.stack([np.sort(rng.permutation(len(pool))[:size]) for _ in range(count)])
        losses = retrained_losses(decoder, pool, queries, groups, settings, folder)
        sides = self._read(queries), self._read(pool)
        features = np.concatenate(sides)
        self._mean, self._scale = features.mean(axis=0), features.std(axis=0) + 1e-6
        torch.manual_seed(self._seed)
        # Both sides begin as the same random projection: an untrained bi-encoder ranks by similarity.
        start = torch.randn(features.shape[1], DIM) / (features.shape[1] * DIM) ** 0.5
        self._maps = [start.clone().requires_grad_(True) for _ in sides]
        self._learn([torch.from_numpy(self._scaled(side)) for side in sides], groups, _targets(losses))
        return self

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        with torch.no_grad():
            q, x = (
                torch.from_numpy(self._scaled(self._read(side))) @ linear
                for side, linear in zip((queries, pool), self._maps, strict=True)
            )
            return np.asarray((q @ x.T).numpy())

    def _learn(self, sides: Sequence[Tensor], groups: np.ndarray, targets: Tensor) -> None:
        optimizer = torch.optim.AdamW(self._maps, lr=1e-3, weight_decay=0.01)
        for _ in range(STEPS):
            q, x = (side @ linear for side, linear in zip(sides, self._maps, strict=True))
            loss = group_loss(q @ x.T, groups, targets)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()

    def _scaled(self, features: Floats) -> Floats:
        return np.asarray((features - self._mean) / self._scale, np.float32)


def group_loss(scores: Tensor, groups: np.ndarray, targets: Tensor) -> Tensor:
    """The pairwise loss of the groups' pooled scores.

    Args:
        scores: (n_queries, n_pool).
        groups: (n_groups, size) places in the pool.
        targets: (n_queries, n_groups), higher where training on the group lowered the loss.
    """
    members = scores[:, torch.from_numpy(groups)]  # (n_queries, n_groups, size)
    pooled = (members.abs().softmax(dim=-1) * members).sum(dim=-1)
    margins = (targets[:, :, None] - targets[:, None, :]).clamp(0, CLIP)
    return (margins * functional.softplus(pooled[:, None, :] - pooled[:, :, None])).mean()


def _targets(losses: Floats) -> Tensor:
    """(n_queries, n_groups): minus each query's z-scored losses."""
    centred = losses - losses.mean(axis=0)
    return torch.from_numpy(np.asarray(-centred / (losses.std(axis=0) + 1e-12), np.float32).T.copy())
