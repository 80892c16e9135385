"""Per-example gradients, many examples at once, without forming a weight gradient.

The frozen base model is run as it is: each linear layer's product is watched, its input x_t on the way forward and
the loss gradient δ_t at its output on the way back, and one batched product per layer gives every example's
Σ_t δ_t x_tᵀ, or a `View` of it. The graph begins at the first layer that is watched, and logits are computed only
where there is loss, in parts that fit the caches.

Examples are padded on the right and no attention mask is given: no token of a causal model sees what
follows it, so padding changes nothing, and δ is zero there.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from influcoder.errors import ModelError
from influcoder.model.apart import tells_apart
from influcoder.model.attention import fast_attention
from influcoder.model.batches import Batch
from influcoder.model.decoder import Decoder
from influcoder.model.experts import separate_experts
from influcoder.model.layers import View
from influcoder.model.linear import Layer, is_packed, name_of, watching_layers, weight_of
from influcoder.model.loss import LossGradient, cross_entropy
from influcoder.model.names import leaving_out
from influcoder.model.products import Weight
from influcoder.model.taps import tapped
from influcoder.model.uses import some_tokens

LOGITS_AT_ONCE = 2**22
"""numbers: more do not fit the caches, and a large vocabulary fills the memory"""

Kept = Any
Keep = Callable[[int, Tensor], Kept]
See = Callable[[int, Kept, Tensor], None]
OnProduct = Callable[[int, Tensor], Callable[[Tensor], None] | None]
"""(layer, x) -> what to do with δ"""


class Backward:
    """One forward and backward pass of a batch, in which some layers are watched.

    Args:
        decoder: the frozen model.
        layers: those to watch.
        bf16: run the products in bfloat16; norms, softmaxes and the residual stream stay as they are.
        loss: what is differentiated: the gradient of each completion token's loss at the logits.

    Attributes:
        alone: whether examples must be run one at a time, because their rows cannot be told apart in a batch.
    """

    def __init__(
        self, decoder: Decoder, layers: Sequence[Layer], *, bf16: bool = False, loss: LossGradient = cross_entropy
    ) -> None:
        self.decoder = decoder
        self.layers = layers
        self.bf16 = bf16
        self.loss = loss
        self._in_bf16 = _bf16_weights(layers) if bf16 else {}
        self._plain_head = decoder.has_plain_head
        head = decoder.model.get_output_embeddings().weight
        # In bfloat16, logits are off by hundredths, and losses with them; gradients may be rounded so.
        self._head = head.detach()
        self._head_back = self._head.to(torch.bfloat16) if bf16 else self._head
        known, watched = decoder.told_apart, tuple(layers)
        if watched not in known:
            vocabulary = decoder.model.get_input_embeddings().num_embeddings
            known[watched] = tells_apart(self._rows, some_tokens(decoder.model), vocabulary)
        self.alone = not known[watched]

    def budget(self, tokens: int) -> int:
        """How many tokens go through the model together, if at most `tokens` may."""
        return 1 if self.alone else tokens

    def run(self, batch: Batch, keep: Keep, see: See) -> Tensor:
        """Run a batch; returns the (n,) losses.

        `keep(layer, x)` is called on the way forward with a layer's (n, R, inputs) and returns what to remember;
        `see(layer, kept, delta)` on the way back with that and δ, (n, R, outputs), once for each use of the
        layer in the pass. R is how many rows of an example the layer multiplies: usually one per token.

        Raises:
            ModelError: a layer multiplies rows that cannot be told apart by example, or is used in another way
                than when it was first run.
        """

        if self.alone and len(batch.places) > 1:
            raise ModelError(
                f"{self.decoder.name} has layers whose rows cannot be told apart by example (experts of a mixture?), "
                f"and was given {len(batch.places)} examples at once. Run them one at a time, with --token-budget 1."
            )

        def on_product(number: int, x: Tensor) -> Callable[[Tensor], None]:
            with torch.no_grad():
                kept = keep(number, self._by_example(number, x.detach(), batch.ids.shape))

            def on_backward(delta: Tensor | None) -> None:
                if delta is None:
                    raise ModelError(
                        f"no gradient comes back to layer {self._name(number)}: a layer after it runs forward only, as "
                        "4-bit layers do on some CPUs. Load the model unquantised, or use an accelerator."
                    )
                see(number, kept, self._by_example(number, delta, batch.ids.shape))

            return on_backward

        with self._running(len(batch.ids)), self._watched(on_product), torch.enable_grad():
            return self._through_head(batch) if self._plain_head else self._through_model(batch)

    @contextmanager
    def _running(self, examples: int) -> Iterator[None]:
        """Inside, the model's arithmetic takes forms that are quicker or keep examples apart."""
        with fast_attention(self.decoder.model), separate_experts(examples):
            yield

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.decoder.device.type, torch.bfloat16, enabled=self.bf16)

    @contextmanager
    def _watched(self, on_product: OnProduct) -> Iterator[None]:
        """Inside, `on_product` is called for each product of the layers; a function that it returns receives δ."""

        def product(numbers: Sequence[int | None], x: Tensor, output: Tensor) -> Tensor:
            parts = [x] if len(numbers) == 1 else list(x)
            receivers = [
                None if number is None else on_product(number, part)
                for number, part in zip(numbers, parts, strict=True)
            ]
            return tapped(output, receivers)

        def other_use(number: int, use: str) -> None:
            raise self._refused(number, use)

        with watching_layers(self.layers, product, other_use, self._in_bf16):
            yield

    def _by_example(self, number: int, rows: Tensor, shape: torch.Size) -> Tensor:
        """(n, R, width): a layer's inputs or outputs, whose rows are ordered by example."""
        examples, length = shape
        if len(rows) != examples > 1 and (rows.ndim != 2 or len(rows) % (examples * length)):
            raise self._refused(
                number,
                f"multiplies {tuple(rows.shape)} for {examples} examples of {length} tokens, which cannot be told "
                "apart there (an expert of a mixture?). Run one at a time with --token-budget 1",
            )
        return rows.reshape(examples, -1, rows.shape[-1])

    @torch.no_grad()
    def _rows(self, ids: Tensor) -> dict[int, list[Tensor]]:
        """The inputs of each layer that have no axis of examples."""
        inputs: dict[int, list[Tensor]] = {}

        def on_product(number: int, x: Tensor) -> None:
            if x.ndim == 2 or len(x) != len(ids):
                inputs.setdefault(number, []).append(x)

        with self._running(len(ids)), self._watched(on_product), self._autocast():
            self.decoder.model(input_ids=ids, use_cache=False)
        return inputs

    def _name(self, number: int) -> str:
        return name_of(self.decoder.model, self.layers[number])

    def _refused(self, number: int, use: str) -> ModelError:
        name, *others = [self._name(number), *(self._name(n) for n in range(len(self.layers)) if n != number)]
        return ModelError(f"layer {name} {use}; or leave it out: {leaving_out([name], others, None)}")

    def _through_head(self, batch: Batch) -> Tensor:
        """Run the batch with the head by hand: the graph has to hold only its input."""
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
        views: the parts of the layers' gradients that are computed.
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
        layers: dict[Layer, list[int]] = {}
        for number, view in enumerate(views):
            layers.setdefault(view.module, []).append(number)
        self._of_layer = list(layers.values())
        self._backward = Backward(decoder, list(layers), bf16=bf16, loss=loss)

    @property
    def alone(self) -> bool:
        """As of `Backward`."""
        return self._backward.alone

    def budget(self, tokens: int) -> int:
        """As of `Backward`."""
        return self._backward.budget(tokens)

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
                gradients = self.views[number].product(low, delta)
                if number in partial:
                    gradients += partial.pop(number)
                if waiting[layer]:
                    partial[number] = gradients
                else:
                    missing.discard(number)
                    receive(number, gradients)

        losses = self._backward.run(batch, keep, see)
        for number in sorted(missing):  # at least one use of the layer had no part in the loss
            rest = partial.pop(number, None)
            receive(number, losses.new_zeros(len(losses), self.views[number].length) if rest is None else rest)
        return losses


def _bf16_weights(layers: Sequence[Layer]) -> dict[Weight, Tensor]:
    """The float32 weights of modules as bfloat16: autocast would make such a copy for every batch."""
    weights = [weight_of(layer) for layer in layers if isinstance(layer, nn.Module) and not is_packed(layer)]
    return {
        weight: weight.tensor.detach().to(torch.bfloat16) for weight in weights if weight.tensor.dtype == torch.float32
    }
