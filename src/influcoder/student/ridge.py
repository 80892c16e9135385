"""Ridge regression from features to spectral coordinates, its penalties chosen on validation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from influcoder.data.examples import Role
from influcoder.maths.arrays import Floats
from influcoder.student.short_reader import GROUP as MEASURED

PENALTIES = tuple(10.0**power for power in np.arange(-5, 1.5, 0.5))
LEAST_GAIN = 0.002
"""of validation agreement, for one more group of features to be worth its reading"""


@dataclass(frozen=True, slots=True)
class FeatureScale:
    """Centres features and gives every group the same total variance.

    Attributes:
        names: the groups, in the order in which they are joined.
        mean, scale: (F,) of the joined features.
    """

    names: tuple[str, ...]
    mean: Floats
    scale: Floats

    @classmethod
    def fit(cls, features: Mapping[str, Floats], names: Sequence[str]) -> "FeatureScale":
        means, scales = [np.empty(0, np.float32)], [np.empty(0, np.float32)]
        for name in names:
            means.append(features[name].mean(axis=0))
            centred = features[name] - means[-1]
            spread = float(np.sqrt((centred**2).sum(axis=1).mean())) or 1.0
            scales.append(np.full(centred.shape[1], 1 / spread, np.float32))
        return cls(tuple(names), np.concatenate(means).astype(np.float32), np.concatenate(scales))

    def join(self, features: Mapping[str, Floats]) -> Floats:
        """(n, F)."""
        rows = len(next(iter(features.values())))
        groups = [np.empty((rows, 0), np.float32), *(features[name] for name in self.names)]
        return (np.concatenate(groups, axis=1) - self.mean) * self.scale


@dataclass(frozen=True, slots=True)
class RidgePath:
    """Ridge regression at every penalty, from one eigendecomposition of the smaller Gram matrix.

    Attributes:
        values: (r,) eigenvalues; basis: (F, r) of the features; projected: (r, k) the targets in that basis.
        bias: (k,) mean of the targets.
        rows: n, which a penalty is multiplied by.
    """

    values: NDArray[np.float64]
    basis: Floats
    projected: Floats
    bias: Floats
    rows: int

    @classmethod
    def of(cls, joined: Floats, targets: Floats) -> "RidgePath":
        """Of (n, F) centred features and (n, k) targets: over F x F where there are fewer features than rows."""
        bias = targets.mean(axis=0).astype(np.float32)
        narrow = joined.shape[1] < len(joined)
        gram = joined.T @ joined if narrow else joined @ joined.T
        values, vectors = np.linalg.eigh(gram.astype(np.float64))
        basis = vectors if narrow else joined.T @ vectors
        projected = vectors.T @ (joined.T @ (targets - bias) if narrow else targets - bias)
        return cls(values, basis.astype(np.float32), projected.astype(np.float32), bias, len(joined))

    def at(self, penalty: float) -> Floats:
        """(r, k) the solution in the basis: min ‖F W - (targets - mean)‖² + penalty · n ‖W‖²."""
        return np.asarray(self.projected / (self.values + penalty * self.rows)[:, None], np.float32)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which groups of features a role reads, with which ridge penalty, and the agreement on validation.

    Attributes:
        belief: the factor of coordinates that were measured on a part of the text; 0 where there are none.
    """

    names: tuple[str, ...]
    penalty: float
    agreement: float
    belief: float = 0.0

    @property
    def groups(self) -> tuple[str, ...]:
        """All groups that are read, in the order in which they are joined."""
        return (*self.names, MEASURED) if self.belief else self.names

    @classmethod
    def best(
        cls,
        train: Mapping[str, Floats],
        validation: Mapping[str, Floats],
        targets: Floats,
        agreement: Callable[[Floats], float],
    ) -> "Choice":
        """Groups are added one at a time, the most helpful first, until none helps by `LEAST_GAIN`.

        Coordinates of group `MEASURED` are no feature: they are taken as they are, times their least-squares factor,
        and the other groups explain the residual.

        Args:
            agreement: of predicted (n_validation, k) coordinates.
        """
        belief, base = 0.0, np.zeros((len(next(iter(validation.values()))), targets.shape[1]), np.float32)
        if MEASURED in train:
            measured = train[MEASURED]
            belief = float((measured * targets).sum() / max(float((measured**2).sum()), 1e-30))
            targets, base = targets - belief * measured, belief * validation[MEASURED]
        names = [name for name in train if name != MEASURED]
        choice = cls((), 1.0, agreement(base) if belief else -np.inf, belief)
        while len(choice.names) < len(names):
            trials = [
                cls._penalised((*choice.names, name), train, validation, targets, lambda rest: agreement(rest + base))
                for name in names
                if name not in choice.names
            ]
            best = max(trials, key=lambda trial: trial.agreement)
            if best.agreement < choice.agreement + LEAST_GAIN:
                break
            choice = replace(best, belief=belief)
        return choice

    @classmethod
    def _penalised(
        cls,
        names: tuple[str, ...],
        train: Mapping[str, Floats],
        validation: Mapping[str, Floats],
        targets: Floats,
        agreement: Callable[[Floats], float],
    ) -> "Choice":
        scale = FeatureScale.fit(train, names)
        path = RidgePath.of(scale.join(train), targets)
        rotated = scale.join(validation) @ path.basis
        scores = [agreement(np.asarray(rotated @ path.at(penalty) + path.bias, np.float32)) for penalty in PENALTIES]
        best = int(np.argmax(scores))
        return cls(names, PENALTIES[best], float(scores[best]))


@dataclass(frozen=True, slots=True)
class RidgeSolution:
    """One role's ridge solution."""

    scale: FeatureScale
    weights: Floats
    bias: Floats

    @classmethod
    def solve(cls, features: Mapping[str, Floats], targets: Floats, choice: Choice) -> "RidgeSolution":
        """The ridge solution over the chosen groups, see `RidgePath`.

        Measured coordinates are subtracted from the targets first, and added back as features of unit weight.
        """
        if choice.belief:
            targets = targets - choice.belief * features[MEASURED]
        scale = FeatureScale.fit(features, choice.names)
        path = RidgePath.of(scale.join(features), targets)
        weights, bias = path.basis @ path.at(choice.penalty), path.bias
        if choice.belief:
            k = len(bias)
            scale = FeatureScale(
                choice.groups,
                np.concatenate([scale.mean, np.zeros(k, np.float32)]),
                np.concatenate([scale.scale, np.full(k, choice.belief, np.float32)]),
            )
            weights = np.concatenate([weights, np.eye(k, dtype=np.float32)])
        return cls(scale, weights, bias)

    def predict(self, features: Mapping[str, Floats]) -> Floats:
        """(n, k) coordinates."""
        return np.asarray(self.scale.join(features) @ self.weights + self.bias, np.float32)

    def tensors(self, role: Role) -> dict[str, Floats]:
        """What `ClosedFormHead` keeps of it."""
        parts = {"mean": self.scale.mean, "scale": self.scale.scale, "weights": self.weights, "bias": self.bias}
        return {f"{role}_{name}": value for name, value in parts.items()}
