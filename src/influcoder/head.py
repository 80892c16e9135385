"""The closed-form head: features of a text to its spectral coordinates, with identity channels beside them.

Ridge regression maps each role's features to the spectral targets (`influcoder.influence`), solved in
closed form over the training examples: no steps, no learning rate, the same answer every time. A score is
then an inner product,

    a ⟨q̂, x̂⟩ + Σ_c w_c ⟨u_c(q), u_c(x)⟩,   w ≥ 0,

with q̂, x̂ the predicted coordinates and u_c the identity channels. The weights are fitted by non-negative
least squares on examples the ridge has not seen: how much of the influence there is identity of words?
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from influcoder.static import CHANNELS, Floats

Role = Literal["query", "pool"]


@dataclass(frozen=True, slots=True)
class FeatureScale:
    """Centres features and gives every group the same total variance, times its weight.

    Attributes:
        names: the groups, in the order in which they are joined.
        mean, scale: (F,) of the joined features.
    """

    names: tuple[str, ...]
    mean: Floats
    scale: Floats

    @classmethod
    def fit(cls, features: Mapping[str, Floats], weights: Mapping[str, float]) -> "FeatureScale":
        names = tuple(name for name in features if weights.get(name, 0) > 0)
        means, scales = [], []
        for name in names:
            centred = features[name] - features[name].mean(axis=0)
            spread = float(np.sqrt((centred**2).sum(axis=1).mean())) or 1.0
            means.append(features[name].mean(axis=0))
            scales.append(np.full(centred.shape[1], weights[name] ** 0.5 / spread, np.float32))
        return cls(names, np.concatenate(means).astype(np.float32), np.concatenate(scales))

    def join(self, features: Mapping[str, Floats]) -> Floats:
        """(n, F)."""
        return (np.concatenate([features[name] for name in self.names], axis=1) - self.mean) * self.scale


@dataclass(frozen=True, slots=True)
class RidgePath:
    """Ridge solutions for any penalty, from one eigendecomposition of the (n, n) kernel."""

    features: Floats
    values: NDArray[np.float64]
    vectors: NDArray[np.float64]

    @classmethod
    def fit(cls, features: Floats) -> "RidgePath":
        values, vectors = np.linalg.eigh((features @ features.T).astype(np.float64))
        return cls(features, values, vectors)

    def weights(self, targets: Floats, penalty: float) -> Floats:
        """(F, k) solution of min ‖F W - targets‖² + penalty · n ‖W‖²; rows of F centred by the caller."""
        shrunk = self.vectors / (self.values + penalty * len(self.features))
        return (self.features.T @ (shrunk @ (self.vectors.T @ targets))).astype(np.float32)


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

    @property
    def spectral_dim(self) -> int:
        return int(self.pool_bias.shape[0])

    def tensors(self) -> dict[str, Floats]:
        return {one.name: np.atleast_1d(getattr(self, one.name)) for one in fields(self)}

    def coordinates(self, role: Role, features: Floats) -> Floats:
        """(n, k) predicted spectral coordinates of joined, unscaled features."""
        mean, scale = getattr(self, f"{role}_mean"), getattr(self, f"{role}_scale")
        weights, bias = getattr(self, f"{role}_weights"), getattr(self, f"{role}_bias")
        return np.asarray(((features - mean) * scale) @ weights + bias, np.float32)

    def vectors(self, coordinates: Floats, channels: Mapping[str, Floats]) -> Floats:
        """(n, dim) coordinates and weighted channels side by side: inner products are scores."""
        parts = [coordinates * np.sqrt(self.spectral_weight)]
        parts += [
            channels[name] * np.sqrt(weight)
            for name, weight in zip(CHANNELS, self.channel_weights, strict=True)
            if weight > 0
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)


def fit_weights(truth: Floats, parts: list[Floats]) -> Floats:
    """Non-negative least-squares weights of `parts` (n_q, n_p each) that add up to `truth`, row means aside."""
    target, *columns = (
        np.ravel(part - part.mean(axis=1, keepdims=True)).astype(np.float64) for part in (truth, *parts)
    )
    matrix = np.stack(columns, axis=1)
    # nnls on the R of a QR decomposition: the same solution, from a matrix of a few rows.
    q, r = np.linalg.qr(matrix)
    return np.asarray(nnls(r, q.T @ target)[0], np.float32)
