"""How a model uses its weights: found by running it on a few tokens, whatever its classes are called."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from influcoder.errors import ModelError, first_line
from influcoder.model.causal_model import cannot_run
from influcoder.model.experts import separate_experts
from influcoder.model.products import Block, Weight, watching

EXAMPLES, TOKENS = 3, 7


@dataclass(slots=True)
class Uses:
    """How some weights are used, by name.

    Attributes:
        called: modules that pack their weights, and were called.
        blocks: the matrices that tokens are multiplied with.
        unused: weights that have no part in the logits of these tokens.
        else_used: how others are used: in a product of a form that is not understood, a convolution ...
    """

    called: set[str] = field(default_factory=set)
    blocks: dict[str, list[Block]] = field(default_factory=dict)
    unused: set[str] = field(default_factory=set)
    else_used: dict[str, str] = field(default_factory=dict)


def uses_of(model: Any, matrices: Mapping[str, Weight | nn.Module]) -> Uses:
    """How a model uses some of its weights, and modules that pack theirs.

    Weights that are scaled and added element by element, or looked up, are in none of the attributes: they are not
    linear layers. A weight whose product was not observed may still have a gradient: if so, it is used in code that
    does not show its products.

    Raises:
        ModelError: the model does not run on tokens alone.
    """
    weights = {name: matrix for name, matrix in matrices.items() if isinstance(matrix, Weight)}
    packed = {name: matrix for name, matrix in matrices.items() if not isinstance(matrix, Weight)}
    names = {weight: name for name, weight in weights.items()}
    multiplied: dict[str, set[Block]] = {}
    uses, harmless = Uses(), set()

    def on_product(blocks: Any, x: Tensor, output: Tensor) -> Tensor:
        if output.requires_grad:
            multiplied.setdefault(names[blocks[0].weight], set()).update(blocks)
        return output

    def on_other_use(weight: Weight, operation: str, is_harmless: bool) -> None:
        if is_harmless:
            harmless.add(names[weight])
        else:
            uses.else_used[names[weight]] = f"is used in {operation!r}"

    with ExitStack() as stack:
        stack.enter_context(watching({weight: weight.tensor for weight in names}, on_product, on_other_use))
        for name, module in packed.items():
            handle = module.register_forward_hook(lambda module, inputs, output, name=name: uses.called.add(name))
            stack.callback(handle.remove)
        _logits(model)
    uses.else_used |= dict.fromkeys(packed.keys() - uses.called, "is never called")
    for name, blocks in multiplied.items():
        first = next(iter(blocks))
        if any(replace(block, number=first.number) != first for block in blocks):
            uses.else_used[name] = "is multiplied in parts of several shapes"
        elif name in harmless:
            uses.else_used[name] = "is multiplied, and added as well"
        else:
            uses.blocks[name] = [replace(first, number=number) for number in range(first.count)]
    known = multiplied.keys() | harmless | uses.else_used.keys()
    unseen = {name: weight for name, weight in weights.items() if name not in known}
    with_gradient = _with_gradient(model, unseen)
    uses.unused = unseen.keys() - with_gradient
    uses.else_used |= dict.fromkeys(with_gradient, "is used in code that does not show its products")
    uses.else_used = {name: uses.else_used[name] for name in matrices if name in uses.else_used}
    uses.blocks = {name: blocks for name, blocks in uses.blocks.items() if name not in uses.else_used}
    return uses


def some_tokens(model: Any) -> Tensor:
    """(3, 7) token ids."""
    table = model.get_input_embeddings()
    ids = torch.arange(EXAMPLES * TOKENS, device=table.weight.device) * 7919
    return ids.view(EXAMPLES, TOKENS).remainder(table.num_embeddings)


def _logits(model: Any) -> Tensor:
    """The logits of some tokens, whose graph begins at the embeddings."""

    def begin(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output.detach().requires_grad_(True).clone()

    ids = some_tokens(model)
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(separate_experts(len(ids)))
        handle = model.get_input_embeddings().register_forward_hook(begin)
        stack.callback(handle.remove)
        try:
            logits: Tensor = model(input_ids=ids, use_cache=False).logits
        except Exception as error:  # models of every kind raise errors of every class
            raise ModelError(cannot_run(model, error)) from error
    return logits


def _with_gradient(model: Any, weights: Mapping[str, Weight]) -> set[str]:
    """The names of the weights that have a part in the logits, by plain autograd."""
    if not weights:
        return set()
    tensors = [weight.tensor for weight in weights.values()]
    try:
        for tensor in tensors:
            tensor.requires_grad_(True)
        loss = _logits(model).float().log_softmax(-1)[..., 0].sum()
        gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
    except ModelError:
        raise
    except Exception as error:  # as above
        raise ModelError(
            f"no gradient of {type(model).__name__} can be taken: {first_line(error)} Use a teacher that needs none, "
            "such as --teacher repsim."
        ) from error
    finally:
        for tensor in tensors:
            tensor.requires_grad_(False)
    return {name for name, grad in zip(weights, gradients, strict=True) if grad is not None and bool(grad.any())}
