"""Per-example gradients of a fresh LoRA adapter, many examples at once, without the adapter.

A fresh LoRA adapter (Hu et al. 2021) adds s·B·A·x to every linear layer, with A random and B = 0. So
dL/dA = 0, and with x_t the layer's input and δ_t the loss gradient at its output

    dL/dB = s · Σ_t δ_t (A x_t)ᵀ.

Neither A nor B changes what the model computes, so the frozen base model is run as it is: hooks catch
A x_t on the way forward and δ_t on the way back, and one batched product a layer gives every example's
gradient. No weight gradient is formed: only the input embeddings require grad. Logits are computed where
there is loss, and nowhere else.

Examples are padded on the right and no attention mask is given: no token of a causal model sees what
follows it, so padding changes nothing, and δ is zero there.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from influcoder.decoder import Decoder, Tokens
from influcoder.errors import ModelError


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples that go through the model together: their places, padded ids and loss positions."""

    places: list[int]
    ids: Tensor  # (n, T)
    rows: Tensor  # (K,) the example of each completion token
    columns: Tensor  # (K,) the position that predicts it
    targets: Tensor  # (K,)
    weights: Tensor  # (K,) 1 / number of completion tokens of its example


def make_batches(tokens: Sequence[Tokens], token_budget: int, device: torch.device) -> Iterator[Batch]:
    """Batches of alike lengths, longest first, of at most `token_budget` padded tokens each."""
    order = sorted((i for i, one in enumerate(tokens) if one.targets > 0), key=lambda i: (-len(tokens[i].ids), i))
    start = 0
    while start < len(order):
        longest = len(tokens[order[start]].ids)
        places = order[start : start + max(1, token_budget // longest)]
        yield _batch([tokens[i] for i in places], places, device)
        start += len(places)


def _batch(tokens: list[Tokens], places: list[int], device: torch.device) -> Batch:
    ids = torch.zeros(len(tokens), len(tokens[0].ids), dtype=torch.long)
    rows, columns, targets, weights = [], [], [], []
    for row, one in enumerate(tokens):
        values = torch.from_numpy(one.ids)
        ids[row, : len(values)] = values
        first = max(one.start, 1)
        rows.append(torch.full((one.targets,), row))
        columns.append(torch.arange(first - 1, len(values) - 1))
        targets.append(values[first:])
        weights.append(torch.full((one.targets,), 1 / one.targets))
    parts = (torch.cat(each).to(device) for each in (rows, columns, targets, weights))
    return Batch(places, ids.to(device), *parts)


class LoraGradients:
    """Gradients of the B matrices of a fresh, seeded LoRA adapter on every linear layer but the head.

    Args:
        decoder: the frozen model.
        rank: rows of each A.
        seed: draws the A matrices: orthogonal rows, as PEFT's `init_lora_weights="orthogonal"`, with the
            entry variance 1 / (3 · inputs) of its default. Two seeds agree better than with independent
            entries. Each layer's A depends on the seed and the layer's place alone.
        alpha: LoRA's alpha; the scale s is alpha / rank. 2 · rank when omitted, as in the paper.
        bf16: run the products in bfloat16 (autocast).

    Raises:
        ModelError: the model has no linear layer, or one of a kind that is not understood.
    """

    def __init__(
        self, decoder: Decoder, *, rank: int, seed: int, alpha: float | None = None, bf16: bool = False
    ) -> None:
        self.decoder = decoder
        self.rank = rank
        self.scale = (alpha if alpha is not None else 2 * rank) / rank
        self.bf16 = bf16
        self.modules = linear_layers(decoder.model)
        self._a = [
            _draw_a(module, rank, seed * 1_000_003 + number, decoder.device)
            for number, module in enumerate(self.modules.values())
        ]
        self._plain_head = _has_plain_head(decoder.model, decoder.device)

    @property
    def lengths(self) -> list[int]:
        """How many gradient numbers each layer gives."""
        return [outputs(module) * self.rank for module in self.modules.values()]

    def run(self, batch: Batch, receive: Callable[[int, Tensor], None]) -> Tensor:
        """Call `receive(layer, gradients)` for every layer; returns the (n,) losses.

        `gradients` is (n, rank · outputs) float32: Bᵀ's gradient, row by row. A layer that is used
        several times in one forward is received several times: the sum is its gradient.
        """
        handles = [
            module.register_forward_hook(self._hook(number, receive))
            for number, module in enumerate(self.modules.values())
        ]
        try:
            return self._backward(batch)
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, number: int, receive: Callable[[int, Tensor], None]) -> Callable[..., None]:
        def on_forward(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            with torch.no_grad():
                low = inputs[0].detach() @ self._a[number].T.to(inputs[0].dtype)  # (n, T, rank)

            def on_backward(delta: Tensor) -> None:
                # (n, rank, T) @ (n, T, out): several times faster than its transpose on a CPU.
                product = torch.bmm(low.transpose(1, 2).to(delta.dtype), delta)
                receive(number, product.flatten(1).float() * self.scale)

            output.register_hook(on_backward)  # type: ignore[no-untyped-call]

        return on_forward

    def _backward(self, batch: Batch) -> Tensor:
        model = self.decoder.model
        with torch.enable_grad(), torch.autocast(self.decoder.device.type, torch.bfloat16, enabled=self.bf16):
            embedded = model.get_input_embeddings()(batch.ids).detach().requires_grad_(True)
            if self._plain_head:
                hidden = model.base_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
                selected = hidden[batch.rows, batch.columns]
                logits = model.get_output_embeddings()(selected.detach())
                losses, gradient = _cross_entropy(logits, batch)
                weight = model.get_output_embeddings().weight
                selected.backward((gradient.to(weight.dtype) @ weight).to(selected.dtype))
            else:
                logits = model(inputs_embeds=embedded, use_cache=False).logits[batch.rows, batch.columns]
                losses, gradient = _cross_entropy(logits.detach(), batch)
                logits.backward(gradient.to(logits.dtype))
        return losses


@torch.no_grad()
def _has_plain_head(model: Any, device: torch.device) -> bool:
    """Whether the logits are the head's product with the last hidden state, and nothing after it."""
    head = model.get_output_embeddings()
    ids = torch.arange(4, device=device)[None] % model.get_input_embeddings().num_embeddings
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    if type(head) is not nn.Linear or head.bias is not None or head.in_features != hidden.shape[-1]:
        return False
    whole = model(input_ids=ids, use_cache=False).logits
    return torch.allclose(whole.float(), head(hidden).float(), rtol=1e-4, atol=1e-5)


def _cross_entropy(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The (n,) mean losses and the (K, V) gradient of their sum at the logits."""
    logarithms = torch.log_softmax(logits.float(), dim=-1)
    places = torch.arange(len(batch.targets), device=logits.device)
    losses = torch.zeros(len(batch.places), device=logits.device)
    losses.index_add_(0, batch.rows, -logarithms[places, batch.targets] * batch.weights)
    gradient = logarithms.exp_()
    gradient[places, batch.targets] -= 1
    return losses, gradient.mul_(batch.weights[:, None])


def linear_layers(model: Any) -> dict[str, nn.Module]:
    """The linear layers of a model by name, in its order, the output head left out.

    Raises:
        ModelError: none, or weights inside a module of a kind whose gradient is not understood.
    """
    head = model.get_output_embeddings()
    table = model.get_input_embeddings()
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        own = [parameter for parameter in module.parameters(recurse=False) if parameter.ndim >= 2]
        if not own or module is head or module is table or isinstance(module, nn.Embedding):
            continue
        if type(module) is nn.Linear or isinstance(module, Conv1D):
            found[name] = module
        else:
            raise ModelError(
                f"layer {name} is a {type(module).__name__}, whose per-example gradient is not understood; "
                "expected Linear or Conv1D layers. It is refused rather than silently left out."
            )
    if not found:
        raise ModelError("the model has no linear layer to take gradients of.")
    return found


def inputs(module: nn.Module) -> int:
    """How many numbers a linear layer reads."""
    return int(module.nx if isinstance(module, Conv1D) else module.in_features)  # type: ignore[arg-type]


def outputs(module: nn.Module) -> int:
    """How many numbers a linear layer gives."""
    return int(module.nf if isinstance(module, Conv1D) else module.out_features)  # type: ignore[arg-type]


def _draw_a(module: nn.Module, rank: int, seed: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(seed % 2**63)
    columns = inputs(module)
    blocks = []
    for start in range(0, rank, columns):
        q, r = torch.linalg.qr(torch.randn(columns, min(rank - start, columns), generator=generator))
        blocks.append((q * r.diagonal().sign()).T)  # without the signs, QR favours some directions
    return (torch.cat(blocks) / math.sqrt(3)).to(device)
