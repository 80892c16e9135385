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
            centred = features[name] - features[name].mean(axis=0)
            spread = float(np.sqrt((centred**2).sum(axis=1).mean())) or 1.0
            means.append(features[name].mean(axis=0))
            scales.append(np.full(centred.shape[1], 1 / spread, np.float32))
        return cls(tuple(names), np.concatenate(means).astype(np.float32), np.concatenate(scales))

    def join(self, features: Mapping[str, Floats]) -> Floats:
        """(n, F)."""
        rows = len(next(iter(features.values())))
        whole = [np.empty((rows, 0), np.float32), *(features[name] for name in self.names)]
        return (np.concatenate(whole, axis=1) - self.mean) * self.scale


@dataclass(frozen=True, slots=True)
class RidgePath:
    """Ridge regression at every penalty, from one eigendecomposition of the smaller Gram matrix.

    Attributes:
        values: (r,) eigenvalues; basis: (F, r) of the features; turned: (r, k) targets seen from there.
        bias: (k,) mean of the targets.
        rows: n; a penalty counts that often.
    """

    values: NDArray[np.float64]
    basis: Floats
    turned: Floats
    bias: Floats
    rows: int

    @classmethod
    def of(cls, joined: Floats, targets: Floats) -> "RidgePath":
        """Of (n, F) centred features and (n, k) targets: over F x F where there are fewer features than rows."""
        bias = targets.mean(axis=0).astype(np.float32)
        few = joined.shape[1] < len(joined)
        gram = joined.T @ joined if few else joined @ joined.T
        values, vectors = np.linalg.eigh(gram.astype(np.float64))
        basis = vectors if few else joined.T @ vectors
        turned = vectors.T @ (joined.T @ (targets - bias) if few else targets - bias)
        return cls(values, basis.astype(np.float32), turned.astype(np.float32), bias, len(joined))

    def at(self, penalty: float) -> Floats:
        """(r, k) the solution in the basis: min ‖F W - (targets - mean)‖² + penalty · n ‖W‖²."""
        return np.asarray(self.turned / (self.values + penalty * self.rows)[:, None], np.float32)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which groups of features a side reads, with which ridge penalty, and how well that does on validation.

    Attributes:
        belief: how far coordinates that were measured on a part of the text are believed; 0 where there are none.
    """

    names: tuple[str, ...]
    penalty: float
    agreement: float
    belief: float = 0.0

    @property
    def groups(self) -> tuple[str, ...]:
        """All that is read, in the order in which it is joined."""
        return (*self.names, MEASURED) if self.belief else self.names

    @classmethod
    def best(
        cls,
        train: Mapping[str, Floats],
        validation: Mapping[str, Floats],
        targets: Floats,
        judge: Callable[[Floats], float],
    ) -> "Choice":
        """Groups are taken one at a time, the most helpful first, until none helps by `LEAST_GAIN`.

        Coordinates of group `MEASURED` are no feature: times their least-squares factor they are taken as they are,
        and the others explain what they leave.

        Args:
            judge: tells the agreement of predicted (n_validation, k) coordinates.
        """
        belief, seen = 0.0, np.zeros((len(next(iter(validation.values()))), targets.shape[1]), np.float32)
        if MEASURED in train:
            measured = train[MEASURED]
            belief = float((measured * targets).sum() / max(float((measured**2).sum()), 1e-30))
            targets, seen = targets - belief * measured, belief * validation[MEASURED]
        names = [name for name in train if name != MEASURED]
        found = cls((), 1.0, judge(seen) if belief else -np.inf, belief)
        while len(found.names) < len(names):
            trials = [
                cls._penalised((*found.names, name), train, validation, targets, lambda mine: judge(mine + seen))
                for name in names
                if name not in found.names
            ]
            best = max(trials, key=lambda one: one.agreement)
            if best.agreement < found.agreement + LEAST_GAIN:
                break
            found = replace(best, belief=belief)
        return found

    @classmethod
    def _penalised(
        cls,
        names: tuple[str, ...],
        train: Mapping[str, Floats],
        validation: Mapping[str, Floats],
        targets: Floats,
        judge: Callable[[Floats], float],
    ) -> "Choice":
        scale = FeatureScale.fit(train, names)
        path = RidgePath.of(scale.join(train), targets)
        seen = scale.join(validation) @ path.basis
        scores = [judge(np.asarray(seen @ path.at(penalty) + path.bias, np.float32)) for penalty in PENALTIES]
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

        What was measured is taken off the targets first, and put back as features of unit weight.
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
