"""The share of each token in an influence: the derivative of the token's loss along a direction in weight space.

With v the gradient of a query, the influence of an example is ⟨v, ∇L⟩, and L is the mean of its tokens' losses. So

    ⟨v, ∇L⟩ = Σ_t (1 / n) · d/dε loss_t(θ + ε v) at ε = 0,

a number for each token, which add up to the influence. One forward pass gives all of them: every layer's output y
has the tangent of its inputs and, added to it, ΔW x, where ΔW is the part of v in that layer's weight (forward-mode
differentiation; Baydin et al. 2018, arXiv 1502.05767). If a model has an operation without a forward-mode
derivative, two passes at θ ± ε v give the same by central differences.

The sign is that of influence: with v the gradient of a query, a training step on a token above 0 lowers the query's
loss; and, since inner products have no order, a step on the query lowers the loss of that token.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from influcoder.model.attention import plain_attention
from influcoder.model.batches import Batch, Tokens, make_batches
from influcoder.model.decoder import Decoder
from influcoder.model.experts import separate_experts
from influcoder.model.layers import View
from influcoder.model.linear import Layer, is_packed, watching_layers, weight_of

STEP = 2e-4
"""of central differences, as a share of the weights' root mean square"""


class TokenShares:
    """The part of each completion token in the inner product of its example's gradient with a direction.

    Args:
        decoder: the frozen model; run in float32.
        views: the views of the layers' gradients that are compared.
        direction: a vector for each view, (length,), as `LayerGradients` gives them: that of a query, say. Or, for each
            view, (n, length): a direction for every text that is asked about.

    >>> from influcoder.demo.world import assets
    >>> from influcoder.data.examples import Example
    >>> from influcoder.model.gradients import LayerGradients
    >>> from influcoder.model.layers import lora_b
    >>> decoder = Decoder.load(assets() / "decoder", device="cpu")
    >>> views = lora_b(decoder, rank=4, seed=0)
    >>> tokens = decoder.tokenise([Example("a", "2 + 2 = ", "4")])
    >>> (batch,), gradients = make_batches(tokens, 1024, decoder.device), {}
    >>> losses = LayerGradients(decoder, views).run(batch, gradients.__setitem__)
    >>> shares = TokenShares(decoder, views, [gradients[number][0] for number in range(len(views))])
    >>> bool(shares(tokens)[0].sum() > 0)  # an example always lowers its own loss
    True
    """

    def __init__(self, decoder: Decoder, views: Sequence[View], direction: Sequence[Tensor]) -> None:
        self.decoder = decoder
        self._of_layer: dict[Layer, list[tuple[View, Tensor]]] = {}
        for view, vectors in zip(views, direction, strict=True):
            self._of_layer.setdefault(view.module, []).append((view, vectors.view(-1, *view.shape)))
        self.exact = True
        """whether by forward-mode differentiation rather than by differences"""

    def __call__(self, tokens: Sequence[Tokens], token_budget: int = 1024) -> list[Tensor]:
        """The share of every completion token of each text, (targets,) float32 each; they add up to its influence."""
        try:
            return self._in_batches(tokens, token_budget)
        except _TextsMixed:  # a layer reads their tokens in another order, and each has its own direction
            return self._in_batches(tokens, 1)

    def _in_batches(self, tokens: Sequence[Tokens], token_budget: int) -> list[Tensor]:
        shares: list[Tensor] = [torch.zeros(0)] * len(tokens)
        for batch in make_batches(tokens, token_budget, self.decoder.device):
            of_batch = self._of_batch(batch).cpu()
            for row, place in enumerate(batch.places):
                shares[place] = of_batch[batch.rows.cpu() == row]
        return shares

    def _of_batch(self, batch: Batch) -> Tensor:
        """(K,) the share of every completion token of a batch, in the order of its `rows` and `columns`."""
        with plain_attention(self.decoder.model), torch.no_grad():
            if self.exact:
                try:
                    return self._tangents(batch) * batch.weights
                except (NotImplementedError, RuntimeError):  # an operation has no forward-mode derivative
                    self.exact = False
            return self._differences(batch) * batch.weights

    def _tangents(self, batch: Batch) -> Tensor:
        def along(output: Tensor, change: Tensor) -> Tensor:
            added: Tensor = forward_ad.make_dual(torch.zeros_like(output), change)  # type: ignore[no-untyped-call]
            return output + added

        with forward_ad.dual_level(), self._changed(along, batch):
            tangent = forward_ad.unpack_dual(self._losses(batch)).tangent  # type: ignore[no-untyped-call]
            return torch.zeros_like(batch.weights) if tangent is None else tangent.clone()

    def _differences(self, batch: Batch) -> Tensor:
        steps = self._steps(batch)
        by_text = steps if len(steps) == 1 else steps[:, None, None]

        def losses(step: Tensor) -> Tensor:
            with self._changed(lambda output, change: output + (step * change).to(output.dtype), batch):
                return self._losses(batch).double()

        difference = losses(by_text) - losses(-by_text)
        return (difference / (2 * steps.expand(len(batch.places))[batch.rows])).float()

    def _steps(self, batch: Batch) -> Tensor:
        """(n,) the step along each text's direction, or (1,) where they have one direction."""
        pairs = [pair for pairs in self._of_layer.values() for pair in pairs]
        squares = [_of_texts(vectors, batch).flatten(1).square().sum(dim=1) * view.scale**2 for view, vectors in pairs]
        weights = dict.fromkeys(weight_of(layer) for layer in self._of_layer if not is_packed(layer))
        size = sum(float(weight.tensor.float().square().sum()) for weight in weights) ** 0.5
        lengths = torch.stack(squares).sum(dim=0).sqrt()
        steps: Tensor = STEP * size / lengths.clamp_min(1e-30)
        return steps

    def _losses(self, batch: Batch) -> Tensor:
        logits = self.decoder.model(input_ids=batch.ids, use_cache=False).logits[batch.rows, batch.columns]
        logarithms = torch.log_softmax(logits.float(), dim=-1)
        return -logarithms.gather(1, batch.targets[:, None])[:, 0]

    @contextmanager
    def _changed(self, along: Callable[[Tensor, Tensor], Tensor], batch: Batch) -> Iterator[None]:
        """Every layer gives `along(y, ΔW x)` in place of its output y."""

        def change(layer: Layer, x: Tensor) -> Any:
            total: Any = 0
            for view, vectors in self._of_layer[layer]:
                changes = _of_texts(vectors, batch).to(x.dtype)
                if len(changes) > 1 and (x.shape[:-1] != batch.ids.shape or len(set(batch.ids.shape)) == 1):
                    raise _TextsMixed
                low = x if view.right is None else x @ view.right.T.to(x.dtype)
                out = low @ (changes if len(changes) > 1 else changes[0])
                total = total + view.scale * (out if view.left is None else out @ view.left.to(x.dtype))
            return total

        layers = list(self._of_layer)

        def product(numbers: Sequence[int | None], x: Tensor, output: Tensor) -> Tensor:
            if forward_ad._current_level >= 0:
                x = forward_ad.unpack_dual(x).primal  # type: ignore[no-untyped-call]
            if len(numbers) == 1:
                return output if numbers[0] is None else along(output, change(layers[numbers[0]], x))
            changes = [
                torch.zeros_like(y) if number is None else change(layers[number], part)
                for number, part, y in zip(numbers, x, output, strict=True)
            ]
            return along(output, torch.stack(changes))

        with separate_experts(len(batch.places)), watching_layers(layers, product, lambda number, use: None):
            yield


class _TextsMixed(Exception):
    """A layer's input does not tell which text a token is of."""


def _of_texts(vectors: Tensor, batch: Batch) -> Tensor:
    """The directions of a batch's texts, or the one that all have."""
    return vectors if len(vectors) == 1 else vectors[batch.places]
