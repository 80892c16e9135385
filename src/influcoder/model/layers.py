"""Views of the gradients of a model's linear layers.

The loss gradient of a linear layer's weight is G = Σ_t δ_t x_tᵀ, with x_t its input and δ_t the loss gradient
at its output. A view of it is

    s · (R Gᵀ Lᵀ)      (k_in, k_out), flattened row by row

with R acting on the inputs and L on the outputs, each the identity when it is None. This one form holds the
gradients that attribution methods use:

    a fresh LoRA adapter's B    R = A, s = alpha / rank: A is random and B = 0, so dL/dA = 0 (Hu et al. 2021)
    a trained adapter's B, A    R = A; and L = Bᵀ
    the layer's own weight      neither
    LoGra                       both random (Choe et al. 2024, arXiv 2405.13954)
    EK-FAC                      both the eigenvectors of the Kronecker factors (George et al. 2018)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from influcoder.errors import ConfigError
from influcoder.model.decoder import Decoder
from influcoder.model.linear import Layer, inputs, linear_layers, outputs
from influcoder.model.products import Block

Sides = tuple[Tensor | None, Tensor | None]
"""`right` and `left` of a view"""


@dataclass(frozen=True, slots=True)
class View:
    """One view of one linear layer's gradient.

    Attributes:
        name: of the layer, or of the parameter whose gradient the view is.
        module: the layer: a module, or a block of a weight.
        right: (k_in, inputs), or None for the identity.
        left: (k_out, outputs), or None for the identity.
        scale: s.
    """

    name: str
    module: Layer
    right: Tensor | None = None
    left: Tensor | None = None
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(k_in, k_out)."""
        return (
            inputs(self.module) if self.right is None else len(self.right),
            outputs(self.module) if self.left is None else len(self.left),
        )

    @property
    def length(self) -> int:
        """How many numbers it has."""
        return self.shape[0] * self.shape[1]

    def product(self, low: Tensor, delta: Tensor) -> Tensor:
        """The view of (n, T, k_in) inputs, after `right`, and of (n, T, outputs) δ: (n, length) float32."""
        late = self.left is not None and low.shape[2] < low.shape[1]  # multiplying k_in rows is less work than T
        if self.left is not None and not late:
            delta = delta @ self.left.T.to(delta.dtype)
        # (n, k_in, T) @ (n, T, k_out): several times faster than its transpose on a CPU.
        product = torch.bmm(low.transpose(1, 2).to(delta.dtype), delta).float()
        if self.left is not None and late:
            product = product @ self.left.T
        return product.flatten(1) * self.scale

    @property
    def device(self) -> torch.device:
        """The device of its layer."""
        if isinstance(self.module, Block):
            return self.module.weight.tensor.device
        return next(iter([*self.module.parameters(), *self.module.buffers()])).device


def lora_b(
    decoder: Decoder, *, rank: int, seed: int, alpha: float | None = None, modules: str | None = None
) -> list[View]:
    """Views that are the gradients of the B matrices of a fresh, seeded LoRA adapter.

    Args:
        rank: rows of each A.
        seed: draws the A matrices: orthogonal rows, as PEFT's `init_lora_weights="orthogonal"`, with the
            entry variance 1 / (3 · inputs) of its default. Two seeds agree better than with independent
            entries. Each layer's A depends on the seed and the layer's place alone.
        alpha: LoRA's alpha. 2 · rank when omitted, as in the paper.
        modules: glob pattern of layer names; every linear layer but the head when omitted.
    """

    def sides(number: int, layer: Layer) -> Sides:
        return _orthogonal(inputs(layer), rank, seed, number, decoder.device), None

    return _projected(decoder, modules, sides, (alpha if alpha is not None else 2 * rank) / rank)


def two_sided(decoder: Decoder, *, rank: int, seed: int, modules: str | None = None) -> list[View]:
    """LoGra's views: each layer's gradient between two random projections, rank x rank numbers per layer.

    Scaled so that inner products are kept in expectation.
    """

    def sides(number: int, layer: Layer) -> Sides:
        right, left = (
            _orthogonal(size, rank, seed, 2 * number + side, decoder.device) * math.sqrt(3 * size / rank)
            for side, size in enumerate((inputs(layer), outputs(layer)))
        )
        return right, left

    return _projected(decoder, modules, sides)


def weights(decoder: Decoder, *, modules: str | None = None) -> list[View]:
    """Views that are the gradients of the weights themselves."""
    return [
        View(name if isinstance(layer, Block) and layer.weight.name != "weight" else f"{name}.weight", layer)
        for name, layer in linear_layers(decoder.model, modules).items()
    ]


def adapter(decoder: Decoder, *, modules: str | None = None) -> list[View]:
    """Views that are the gradients of a trained LoRA adapter's A and B matrices.

    The adapter is merged into the model: δ and x of a merged layer are those of the layer with its adapter.

    Raises:
        ConfigError: the decoder was loaded without an adapter, or with one on other layers.
    """
    if not decoder.adapter:
        raise ConfigError(
            f"{decoder.name} was loaded without a plain LoRA adapter, whose gradients were asked for. "
            "Name it with --adapter."
        )
    views = []
    for name, module in linear_layers(decoder.model, modules).items():
        if name in decoder.adapter:
            a, b, scale = decoder.adapter[name]
            views.append(View(f"{name}.lora_A", module, left=b.T.to(decoder.device), scale=scale))
            views.append(View(f"{name}.lora_B", module, right=a.to(decoder.device), scale=scale))
    if not views:
        raise ConfigError(f"{decoder.name}: its adapter is on none of the layers that --modules chooses.")
    return views


def _projected(
    decoder: Decoder, modules: str | None, draw: Callable[[int, Layer], Sides], scale: float = 1.0
) -> list[View]:
    """Views between the matrices of `draw(place, layer)`; the blocks of a weight, such as its experts, share them."""
    drawn: dict[Any, Sides] = {}
    views = []
    for name, layer in linear_layers(decoder.model, modules).items():
        owner = layer.weight if isinstance(layer, Block) else layer
        if owner not in drawn:
            drawn[owner] = draw(len(drawn), layer)
        views.append(View(name, layer, *drawn[owner], scale))
    return views


def _orthogonal(columns: int, rank: int, seed: int, number: int, device: torch.device) -> Tensor:
    """(rank, columns) orthogonal rows of squared length 1/3, in blocks if rank > columns."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63)
    blocks = []
    for start in range(0, rank, columns):
        q, r = torch.linalg.qr(torch.randn(columns, min(rank - start, columns), generator=generator))
        blocks.append((q * r.diagonal().sign()).T)  # without the signs, QR favours some directions
    return (torch.cat(blocks) / math.sqrt(3)).to(device)
