"""The losses that are differentiated, a completion token at a time, and their gradients at the logits."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["mean", "sum"]
"""an example's loss: the mean over its completion tokens (examples count alike) or their sum (tokens count alike)"""

LossGradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""((K, V) logits, (K,) targets) -> (K,) losses, (K, V) and (K,) whose product is the gradient at the logits"""


def cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """-log p(target); its gradient at the logits is p - onehot(target)."""
    losses, gradient = _error(logits, targets)
    return losses, gradient, torch.ones_like(losses)


def margin(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """TRAK's output function, minus log(p / (1 - p)): cross-entropy's gradient over 1 - p.

    Park et al. 2023 (arXiv 2303.14186), section 3.3. The loss returned stays the cross-entropy.
    """
    losses, gradient = _error(logits, targets)
    return losses, gradient, 1 / (1 - (-losses).exp()).clamp_min(1e-2)


class Sampled:
    """Cross-entropy of tokens drawn from the model's own prediction: the expectation is the true Fisher.

    Args:
        seed: of the draws.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shares = torch.softmax(logits.float(), dim=-1)
        return cross_entropy(logits, torch.multinomial(shares, 1, generator=self._generator)[:, 0])


def _error(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logarithms = torch.log_softmax(logits.float(), dim=-1)
    places = torch.arange(len(targets), device=logits.device)
    losses = -logarithms[places, targets]
    gradient = logarithms.exp_()
    gradient[places, targets] -= 1
    return losses, gradient
