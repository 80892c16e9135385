"""Features less the mean of a pool's: what a row teaches that every row teaches counts for none.

Gradients of one model share a direction (be shorter, end here, speak this language), and so do all their cosines: it
ranks the rows for every query alike. With φ̄ the mean of a sample of the pool, and ψ the direction of φ - φ̄,

    ⟨ψ_q, ψ_x⟩

compares how two examples differ from an average row. It is the centred kernel H K H, H = I - 11ᵀ/n (Schölkopf, Smola
and Müller 1998; Cortes, Mohri and Rostamizadeh 2012, arXiv 1203.0550), scaled to a unit diagonal.
"""

from torch import Tensor


def mean_of(features: Tensor) -> Tensor:
    """(dim,) the mean of the rows that are finite and not zero; of none of them, zero."""
    usable = features[features.isfinite().all(dim=1) & features.any(dim=1)]
    return usable.sum(dim=0) / max(len(usable), 1)


def centred(features: Tensor, mean: Tensor) -> Tensor:
    """(n, dim) features less a mean; a row of zeros, which has no gradient, stays one.

    >>> import torch
    >>> centred(torch.tensor([[3.0, 1.0], [0.0, 0.0]]), torch.tensor([1.0, 1.0])).tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    return features - mean * features.any(dim=1)[:, None]
