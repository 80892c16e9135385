"""The closed-form head: features of a text to its spectral coordinates, with identity channels beside them.

Ridge regression maps each role's features to the spectral targets (`influcoder.maths.influence`), solved in
closed form over the training examples: no steps, no learning rate, the same answer every time. A score is
then an inner product,

    a ⟨q̂, x̂⟩ + Σ_c w_c ⟨u_c(q), u_c(x)⟩,   w ≥ 0,

with q̂, x̂ the predicted coordinates and u_c the identity channels. The weights are fitted by non-negative
least squares on examples the ridge has not seen: how much of the influence there is identity of words? Channels that
explain less than `LEAST_EXPLAINED` of what the spectral part leaves are left out: a partial coefficient of
determination, cross-validated over queries and rows, since three weights fit the noise of a few pairs well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from influcoder.data.examples import Role
from influcoder.maths.arrays import Floats
from influcoder.student.static_reader import CHANNELS

LEAST_EXPLAINED = 0.005
"""of what spectral coordinates leave of the influence's variance, for identity channels to be worth their bytes"""
FOLDS = 3
"""of queries and of rows, for that"""
Block = tuple[NDArray[np.int64], ...]
"""some queries and rows, as `np.ix_` has them"""


@dataclass(frozen=True, slots=True)
class ClosedFormHead:
    """What the static student has learnt.

    Attributes:
        query_mean, query_scale, pool_mean, pool_scale: (F,) see `FeatureScale`.
        query_weights, pool_weights: (F, k) ridge solutions; query_bias, pool_bias: (k,).
        idf: (vocabulary,) token weights of the identity channels.
        spectral_weight: () a of the formula above.
        channel_weights: (channels,) w of the formula above.
    """

    query_mean: Floats
    query_scale: Floats
    query_weights: Floats
    query_bias: Floats
    pool_mean: Floats
    pool_scale: Floats
    pool_weights: Floats
    pool_bias: Floats
    idf: Floats
    spectral_weight: Floats
    channel_weights: Floats

    def tensors(self) -> dict[str, Floats]:
        return {field.name: np.atleast_1d(getattr(self, field.name)) for field in fields(self)}

    def coordinates(self, role: Role, features: Floats) -> Floats:
        """(n, k) predicted spectral coordinates of joined, unscaled features."""
        mean, scale = getattr(self, f"{role}_mean"), getattr(self, f"{role}_scale")
        weights, bias = getattr(self, f"{role}_weights"), getattr(self, f"{role}_bias")
        return np.asarray(((features - mean) * scale) @ weights + bias, np.float32)

    @property
    def channels(self) -> list[str]:
        """The identity channels that count in the score."""
        return [name for name, weight in zip(CHANNELS, self.channel_weights, strict=True) if weight > 0]

    def vectors(self, coordinates: Floats, channels: Mapping[str, Floats]) -> Floats:
        """(n, dim) coordinates and weighted channels side by side: inner products are scores."""
        weights = dict(zip(CHANNELS, self.channel_weights, strict=True))
        weighted = [channels[name] * np.sqrt(weights[name]) for name in self.channels]
        parts = [coordinates * np.sqrt(self.spectral_weight), *weighted]
        return np.concatenate(parts, axis=1).astype(np.float32)


def fit_weights(truth: Floats, parts: Sequence[Floats]) -> tuple[Floats, float]:
    """Non-negative least-squares weights of `parts`, (n_q, n_p) each, that add up to `truth`, without row means.

    Returns:
        the weights (len(parts),), and the residual sum of squares.
    """
    target, *columns = (
        np.ravel(part - part.mean(axis=1, keepdims=True)).astype(np.float64) for part in (truth, *parts)
    )
    matrix = np.stack(columns, axis=1)
    # nnls on the R of a QR decomposition: the same solution, from a matrix of a few rows.
    q, r = np.linalg.qr(matrix)
    weights = nnls(r, q.T @ target)[0]
    return np.asarray(weights, np.float32), float(((target - matrix @ weights) ** 2).sum())


def worthwhile_weights(truth: Floats, parts: Sequence[Floats]) -> Floats:
    """The weights of the spectral part, `parts[0]`, and the channels; 1 and zeros where the channels add little."""
    if explained_elsewhere(truth, parts) > LEAST_EXPLAINED:
        return fit_weights(truth, parts)[0]
    return np.asarray(np.eye(1, len(parts), dtype=np.float32)[0])


def explained_elsewhere(truth: Floats, parts: Sequence[Floats]) -> float:
    """The share of what `parts[0]` leaves that the other parts explain, on queries and rows that none was fitted on."""
    if min(truth.shape) < 2:
        return 0.0
    sides = [np.array_split(np.arange(count), min(FOLDS, count)) for count in truth.shape]
    with_channels = without = 0.0
    for held in product(*sides):
        others = [np.setdiff1d(np.arange(count), places) for count, places in zip(truth.shape, held, strict=True)]
        with_channels += _left(truth, parts, np.ix_(*others), np.ix_(*held))
        without += _left(truth, parts[:1], np.ix_(*others), np.ix_(*held))
    return 1 - with_channels / without if without else 0.0


def _left(truth: Floats, parts: Sequence[Floats], learnt: Block, judged: Block) -> float:
    """The residual sum of squares on some pairs, of weights that are fitted to others."""
    weights, _ = fit_weights(truth[learnt], [part[learnt] for part in parts])
    rest = truth[judged] - sum(weight * part[judged] for weight, part in zip(weights, parts, strict=True))
    return float(np.square(rest - rest.mean(axis=1, keepdims=True)).sum())
