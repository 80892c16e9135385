"""Per-example gradients, many examples at once, without forming a weight gradient.

The frozen base model is run as it is: hooks catch each linear layer's input x_t on the way forward and the
loss gradient δ_t at its output on the way back, and one batched product a layer gives every example's
Σ_t δ_t x_tᵀ, or whatever `View` of it is asked for. The graph begins at the first layer that is looked at, and
logits are computed where there is loss, and nowhere else, some thousand numbers at a time.

Examples are padded on the right and no attention mask is given: no token of a causal model sees what
follows it, so padding changes nothing, and δ is zero there.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from influcoder.errors import ModelError
from influcoder.model.attention import fast_attention
from influcoder.model.batches import Batch
from influcoder.model.decoder import Decoder
from influcoder.model.layers import View
from influcoder.model.loss import LossGradient, cross_entropy

LOGITS_AT_ONCE = 2**22
"""numbers: more do not fit the caches, and a large vocabulary fills the memory"""

Kept = Any
Keep = Callable[[int, Tensor], Kept]
See = Callable[[int, Kept, Tensor], None]


class Backward:
    """One forward and backward pass of a batch, with eyes on some layers.

    Args:
        decoder: the frozen model.
        layers: those to look at.
        bf16: run the products in bfloat16; norms, softmaxes and the residual stream stay as they are.
        loss: what is differentiated: the gradient of each completion token's loss at the logits.
    """

    def __init__(
        self, decoder: Decoder, layers: Sequence[nn.Module], *, bf16: bool = False, loss: LossGradient = cross_entropy
    ) -> None:
        self.decoder = decoder
        self.layers = layers
        self.bf16 = bf16
        self.loss = loss
        self._plain_head = has_plain_head(decoder.model, decoder.device)
        head = decoder.model.get_output_embeddings().weight
        # Logits in bfloat16 are off by hundredths, and with them losses and errors; what goes back may be.
        self._head = head.detach()
        self._head_back = self._head.to(torch.bfloat16) if bf16 else self._head
        self._in_bf16 = _bf16_weights(layers) if bf16 else []

    def run(self, batch: Batch, keep: Keep, see: See) -> Tensor:
        """Run a batch; returns the (n,) losses.

        `keep(layer, x)` is called on the way forward with a layer's (n, T, inputs) and says what to remember;
        `see(layer, kept, delta)` on the way back with that and δ, (n, T, outputs), once for each use of the
        layer in the pass.

        Raises:
            ModelError: a layer is not given one vector a token, so that examples cannot be told apart.
        """
        with ExitStack() as stack:
            stack.enter_context(self._hooked(batch, keep, see))
            stack.enter_context(fast_attention(self.decoder.model))
            stack.enter_context(_swapped(self._in_bf16))
            stack.enter_context(torch.enable_grad())
            return self._through_head(batch) if self._plain_head else self._through_model(batch)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.decoder.device.type, torch.bfloat16, enabled=self.bf16)

    @contextmanager
    def _hooked(self, batch: Batch, keep: Keep, see: See) -> Iterator[None]:
        handles = [
            layer.register_forward_hook(self._hook(number, batch, keep, see))
            for number, layer in enumerate(self.layers)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, number: int, batch: Batch, keep: Keep, see: See) -> Callable[..., None]:
        def on_forward(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not inputs or output.shape[:-1] != batch.ids.shape:
                raise ModelError(
                    f"layer {self._name(module)} gives {tuple(output.shape)} for {tuple(batch.ids.shape)} tokens, "
                    "so its examples cannot be told apart (an expert of a mixture?). Leave it out with --modules."
                )
            with torch.no_grad():
                kept = keep(number, inputs[0].detach())
            if not output.requires_grad:
                output.requires_grad_(True)  # the graph begins here

            def on_backward(delta: Tensor | None) -> None:
                if delta is None:
                    raise ModelError(
                        f"no gradient comes back to layer {self._name(module)}: a layer after it runs forward only, as "
                        "4-bit layers do on some CPUs. Load the model unquantised, or use an accelerator."
                    )
                see(number, kept, delta)

            output.register_hook(on_backward)  # type: ignore[no-untyped-call]

        return on_forward

    def _name(self, module: nn.Module) -> str:
        return next(str(name) for name, one in self.decoder.model.named_modules() if one is module)

    def _through_head(self, batch: Batch) -> Tensor:
        """The head's part by hand: its input is all that the graph has to know."""
        with self._autocast():
            hidden = self.decoder.model.base_model(input_ids=batch.ids, use_cache=False).last_hidden_state
        selected = hidden[batch.rows, batch.columns]
        losses = torch.zeros(len(batch.places), device=batch.ids.device)
        gradient = torch.empty_like(selected)
        step = max(64, LOGITS_AT_ONCE // len(self._head))
        for start in range(0, len(selected), step):
            part = slice(start, start + step)
            logits = selected[part].detach().to(self._head.dtype) @ self._head.T
            each, delta, factor = self.loss(logits, batch.targets[part])
            weights = batch.weights[part]
            losses.index_add_(0, batch.rows[part], each * weights)
            back = delta.to(self._head_back.dtype) @ self._head_back
            gradient[part] = back * (factor * weights)[:, None]
        if selected.requires_grad:
            selected.backward(gradient)
        return losses

    def _through_model(self, batch: Batch) -> Tensor:
        with self._autocast():
            output = self.decoder.model(input_ids=batch.ids, use_cache=False).logits
        logits = output[batch.rows, batch.columns]
        each, delta, factor = self.loss(logits.detach(), batch.targets)
        losses = torch.zeros(len(batch.places), device=batch.ids.device)
        losses.index_add_(0, batch.rows, each * batch.weights)
        logits.backward((delta * (factor * batch.weights)[:, None]).to(logits.dtype))
        return losses


class LayerGradients:
    """Every example's gradient, view by view.

    Args:
        decoder: the frozen model.
        views: what of which layers' gradients.
        bf16, loss: as of `Backward`.

    >>> from influcoder.model.batches import make_batches
    >>> from influcoder.model.layers import lora_b
    >>> gradients = LayerGradients(decoder, lora_b(decoder, rank=8, seed=0))  # doctest: +SKIP
    >>> for batch in make_batches(decoder.tokenise(examples), 1024, decoder.device):  # doctest: +SKIP
    ...     losses = gradients.run(batch, lambda view, part: print(view, part.shape))
    """

    def __init__(
        self, decoder: Decoder, views: Sequence[View], *, bf16: bool = False, loss: LossGradient = cross_entropy
    ) -> None:
        self.views = views
        layers = list(dict.fromkeys(view.module for view in views))
        self._of_layer = [[n for n, view in enumerate(views) if view.module is layer] for layer in layers]
        self._backward = Backward(decoder, layers, bf16=bf16, loss=loss)

    @property
    def lengths(self) -> list[int]:
        """How many numbers each view gives."""
        return [view.length for view in self.views]

    def run(self, batch: Batch, receive: Callable[[int, Tensor], None]) -> Tensor:
        """Call `receive(view, gradients)` once for every view; returns the (n,) losses.

        `gradients` is (n, length) float32. A layer used several times in a pass gives the sum.
        """
        waiting: dict[int, int] = dict.fromkeys(range(len(self._of_layer)), 0)
        partial: dict[int, Tensor] = {}
        missing = set(range(len(self.views)))

        def keep(layer: int, x: Tensor) -> list[Tensor]:
            waiting[layer] += 1
            rights = [self.views[number].right for number in self._of_layer[layer]]
            return [x if right is None else x @ right.T.to(x.dtype) for right in rights]

        def see(layer: int, kept: list[Tensor], delta: Tensor) -> None:
            waiting[layer] -= 1
            for number, low in zip(self._of_layer[layer], kept, strict=True):
                found = _product(low, delta, self.views[number])
                if number in partial:
                    found += partial.pop(number)
                if waiting[layer]:
                    partial[number] = found
                else:
                    missing.discard(number)
                    receive(number, found)

        losses = self._backward.run(batch, keep, see)
        for number in sorted(missing):  # a use that had no part in the loss was waited for, or no use had any
            rest = partial.pop(number, None)
            receive(number, losses.new_zeros(len(losses), self.views[number].length) if rest is None else rest)
        return losses


def _product(low: Tensor, delta: Tensor, view: View) -> Tensor:
    if view.left is not None:
        delta = delta @ view.left.T.to(delta.dtype)
    # (n, k_in, T) @ (n, T, k_out): several times faster than its transpose on a CPU.
    product = torch.bmm(low.transpose(1, 2).to(delta.dtype), delta)
    return product.flatten(1).float() * view.scale


def _bf16_weights(layers: Sequence[nn.Module]) -> list[tuple[nn.Parameter, Tensor]]:
    """The layers' float32 weights with a bfloat16 copy: autocast would make one for every batch."""
    own = [layer.get_parameter("weight") for layer in layers]
    return [(one, one.detach().to(torch.bfloat16)) for one in own if one.dtype == torch.float32]


@contextmanager
def _swapped(pairs: Sequence[tuple[nn.Parameter, Tensor]]) -> Iterator[None]:
    usual = [parameter.data for parameter, _ in pairs]
    try:
        for parameter, other in pairs:
            parameter.data = other
        yield
    finally:
        for (parameter, _), data in zip(pairs, usual, strict=True):
            parameter.data = data


@torch.no_grad()
def has_plain_head(model: Any, device: torch.device) -> bool:
    """Whether the logits are the head's product with the last hidden state, and nothing after it."""
    head = model.get_output_embeddings()
    ids = torch.arange(4, device=device)[None] % model.get_input_embeddings().num_embeddings
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    if type(head) is not nn.Linear or head.bias is not None or head.in_features != hidden.shape[-1]:
        return False
    whole = model(input_ids=ids, use_cache=False).logits
    return torch.allclose(whole.float(), head(hidden).float(), rtol=1e-4, atol=1e-5)
