"""Curvature: what an inverse Hessian does to gradients, learnt from a sample of them.

Every method here has, block by block, the form

    P = 1/λ · (I - U diag(σ) Uᵀ),    U orthonormal, 0 ≤ σ < 1,

applied as its square root to both sides, so that influence stays an inner product:

    P^½ = 1/√λ · (I - U diag(1 - √(1 - σ)) Uᵀ)

or whole to queries alone, where pool features are to stay as they are. With C the sample's second moment of
gradients (the empirical Fisher) and (s, U) its eigenvalues and eigenvectors:

    fisher    (C + λI)⁻¹               σ = s / (s + λ)       LoGra (arXiv 2405.13954); TRAK's kernel (2303.14186)
    datainf   mean of (gᵢgᵢᵀ + λI)⁻¹   σ, U of the mean of gᵢgᵢᵀ / (λ + ‖gᵢ‖²)   DataInf (arXiv 2310.00902), eq. 5
    mixed     (aC_q + (1-a)C_p + λI)⁻¹                       TrackStar (arXiv 2410.17413)
    subspace  projection on the queries' leading directions  GIST (arXiv 2602.18584)

A sample is smaller than the space, so only as many directions as it shows are kept.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from influcoder.errors import ModelError

Kind = Literal["none", "fisher", "datainf", "mixed", "subspace"]
LARGEST_BASIS = 512
TASK_SHARE = 0.015
"""TrackStar: the share of the space that task-specific directions fill, 1,000 of its 65,536 numbers"""


@dataclass(frozen=True, slots=True)
class Block:
    """The curvature of some consecutive features.

    Attributes:
        start, stop: which features.
        basis: (stop - start, k) U.
        shares: (k,) σ; empty where the features become their coordinates.
        damping: λ.
    """

    start: int
    stop: int
    basis: Tensor
    shares: Tensor
    damping: float

    def __call__(self, features: Tensor, power: float) -> Tensor:
        """P to a power of (n, width) features, (n, width); or, for a subspace, their (n, k) coordinates."""
        part = features[:, self.start : self.stop]
        coordinates = part @ self.basis
        if not len(self.shares):
            return coordinates
        weights = 1 - (1 - self.shares) ** power
        return (part - (coordinates * weights) @ self.basis.T) * float(self.damping**-power)

    @property
    def dim(self) -> int:
        """How many numbers come out."""
        return self.stop - self.start if len(self.shares) else self.basis.shape[1]


class Preconditioner:
    """A curvature, ready to be applied.

    >>> import torch
    >>> sample = torch.randn(50, 8)
    >>> whiten = Preconditioner.fit("fisher", [slice(0, 8)], sample, damping=0.1)
    >>> whiten(sample).shape
    torch.Size([50, 8])
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = blocks

    def __call__(self, features: Tensor, power: float = 0.5) -> Tensor:
        """P to a power, of each row."""
        return torch.cat([block(features, power) for block in self.blocks], dim=1)

    @property
    def dim(self) -> int:
        """How many numbers come out."""
        return sum(block.dim for block in self.blocks)

    def back(self, features: Tensor, power: float = 0.5) -> Tensor:
        """The transpose, of each row: P is symmetric, and of a subspace the coordinates become features again."""
        if any(len(block.shares) for block in self.blocks):
            return self(features, power)
        parts = torch.split(features, [block.dim for block in self.blocks], dim=1)
        return torch.cat([part @ block.basis.T for block, part in zip(self.blocks, parts, strict=True)], dim=1)

    @classmethod
    def fit(
        cls,
        kind: Kind,
        slices: Sequence[slice],
        pool: Tensor,
        queries: Tensor | None = None,
        *,
        damping: float = 0.1,
        dim: int = LARGEST_BASIS,
    ) -> "Preconditioner":
        """Learn the curvature of a sample of raw features.

        Args:
            slices: the blocks, one curvature each.
            pool: (n, width) of pool examples.
            queries: (m, width) of queries; needed by "mixed" and "subspace".
            damping: λ as a share of the block's mean eigenvalue.
            dim: eigenvectors that are kept at most.

        Raises:
            ModelError: no queries were given, or every gradient is zero.
        """
        if queries is None and kind in ("mixed", "subspace"):
            raise ModelError(f"{kind} curvature is learnt from queries too, and none were given.")
        learnt_from = queries if kind == "subspace" and queries is not None else pool
        if not bool(learnt_from.any()):
            raise ModelError("every gradient of the sample that the curvature is learnt from is zero.")
        return cls([_fit(kind, block, pool, queries, damping, dim) for block in slices])

    def state(self) -> dict[str, Tensor]:
        """Tensors that `from_state` makes it from."""
        tensors: dict[str, Tensor] = {}
        for number, block in enumerate(self.blocks):
            tensors[f"block{number}.basis"] = block.basis.half().contiguous()
            tensors[f"block{number}.shares"] = block.shares.float().contiguous()
            place = [block.start, block.stop, block.damping]
            tensors[f"block{number}.place"] = torch.tensor(place, dtype=torch.float64)
        return tensors

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Preconditioner":
        """The preconditioner that a state was taken of."""
        blocks = []
        for number in range(sum(name.endswith(".basis") for name in state)):
            start, stop, damping = state[f"block{number}.place"].tolist()
            basis, shares = state[f"block{number}.basis"].float(), state[f"block{number}.shares"]
            blocks.append(Block(int(start), int(stop), basis, shares, damping))
        return cls(blocks)


def _fit(kind: Kind, place: slice, pool: Tensor, queries: Tensor | None, damping: float, dim: int) -> Block:
    sample = pool[:, place].double()
    if kind == "subspace" and queries is not None:
        _, basis = _eigen(queries[:, place].double(), dim)
        return Block(place.start, place.stop, basis.float(), torch.zeros(0), 1.0)
    sample = sample / len(sample) ** 0.5
    if kind == "mixed" and queries is not None:
        asked = queries[:, place].double() / len(queries) ** 0.5
        share = _mixing_share(sample, asked)
        sample = torch.cat([sample * (1 - share) ** 0.5, asked * share**0.5])
    if not bool(sample.any()):  # a layer that the sample never reaches has nothing to be divided by
        return Block(place.start, place.stop, torch.zeros(sample.shape[1], 1), torch.zeros(1), 1.0)
    energies = sample.square().sum(dim=1)
    damped = damping * float(energies.sum()) / min(sample.shape)
    if kind == "datainf":
        sample = sample / (damped + len(sample) * energies).sqrt()[:, None]
        shares, basis = _eigen(sample, dim)
    else:
        values, basis = _eigen(sample, dim)
        shares = values / (values + damped)
    return Block(place.start, place.stop, basis.float(), shares.clamp(0, 1).float(), damped)


def _mixing_share(pool: Tensor, queries: Tensor) -> float:
    """TrackStar's a (its appendix A.1.3): both sides weigh the same at the k-th largest eigenvalue."""
    k = math.ceil(TASK_SHARE * pool.shape[1]) - 1
    of_pool, of_queries = (torch.linalg.svdvals(rows).square() for rows in (pool, queries))
    a, b = (float(values[min(k, len(values) - 1)]) for values in (of_pool, of_queries))
    return a / (a + b) if a + b > 0 else 0.5


def _eigen(rows: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The leading eigenvalues and eigenvectors of rowsᵀ rows, through the smaller of the two Gram matrices."""
    if len(rows) >= rows.shape[1]:
        values, vectors = torch.linalg.eigh(rows.T @ rows)
    else:
        values, left = torch.linalg.eigh(rows @ rows.T)
        vectors = rows.T @ (left / values.clamp_min(1e-30).sqrt())
    kept = values > 1e-10 * values[-1]
    return values[kept].flip(0)[:dim], vectors[:, kept].flip(1)[:, :dim]
