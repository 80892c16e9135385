"""What a model uses its weights for: found by running it on a few tokens, whatever its classes are called."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from influcoder.errors import ModelError, first_line
from influcoder.model.experts import separate_experts
from influcoder.model.products import Block, Weight, watching

EXAMPLES, TOKENS = 3, 7


@dataclass(slots=True)
class Uses:
    """What is known of some weights, by name.

    Attributes:
        called: modules that pack their weights, and were called.
        blocks: the matrices that tokens are multiplied with.
        unused: weights that have no part in the logits of these tokens.
        else_used: what is done with others: a product in a form that is not understood, a convolution ...
    """

    called: set[str] = field(default_factory=set)
    blocks: dict[str, list[Block]] = field(default_factory=dict)
    unused: set[str] = field(default_factory=set)
    else_used: dict[str, str] = field(default_factory=dict)


def uses_of(model: Any, matrices: Mapping[str, Weight | nn.Module]) -> Uses:
    """What a model does with some of its weights, and with modules that pack theirs.

    Weights that are scaled and added element by element, or looked up, are in none of the three: they are no
    linear layers. A weight whose product was not seen is looked for in the gradient: what has one is used in code
    that cannot be looked into, and that it was not seen does not mean that it has none.

    Raises:
        ModelError: the model does not run on tokens alone.
    """
    weights = {name: one for name, one in matrices.items() if isinstance(one, Weight)}
    packed = {name: one for name, one in matrices.items() if not isinstance(one, Weight)}
    names = {weight: name for name, weight in weights.items()}
    seen: dict[str, set[Block]] = {}
    found, harmless = Uses(), set()

    def see(blocks: Any, x: Tensor, output: Tensor) -> Tensor:
        if output.requires_grad:
            seen.setdefault(names[blocks[0].weight], set()).update(blocks)
        return output

    def other(weight: Weight, what: str, is_harmless: bool) -> None:
        if is_harmless:
            harmless.add(names[weight])
        else:
            found.else_used[names[weight]] = f"is used in {what!r}"

    with watching({weight: weight.tensor for weight in names}, see, other), _calls(packed, found.called):
        _logits(model)
    found.else_used |= dict.fromkeys(packed.keys() - found.called, "is never called")
    for name, blocks in seen.items():
        first = next(iter(blocks))
        if any(replace(one, number=0) != replace(first, number=0) for one in blocks):
            found.else_used[name] = "is multiplied in parts of several shapes"
        elif name in harmless:
            found.else_used[name] = "is multiplied, and added as well"
        else:
            found.blocks[name] = [replace(first, number=number) for number in range(first.count)]
    unseen = {
        name: weight for name, weight in weights.items() if name not in seen.keys() | harmless | found.else_used.keys()
    }
    used = _with_gradient(model, unseen)
    found.unused = unseen.keys() - used
    found.else_used |= dict.fromkeys(used, "is used in code that does not show its products")
    found.else_used = {name: found.else_used[name] for name in matrices if name in found.else_used}
    found.blocks = {name: blocks for name, blocks in found.blocks.items() if name not in found.else_used}
    return found


@contextmanager
def _calls(modules: Mapping[str, nn.Module], called: set[str]) -> Iterator[None]:
    """Inside, the names of modules that are called are noted."""
    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: called.add(name))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def some_tokens(model: Any) -> Tensor:
    """(3, 7) token ids."""
    table = model.get_input_embeddings()
    ids = torch.arange(EXAMPLES * TOKENS, device=table.weight.device) * 7919 % table.num_embeddings
    found: Tensor = ids.view(EXAMPLES, TOKENS)
    return found


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
            raise ModelError(
                f"{type(model).__name__} cannot be run on tokens alone: {first_line(error)} Expected a decoder that "
                "reads text and nothing else."
            ) from error
    return logits


def _with_gradient(model: Any, weights: Mapping[str, Weight]) -> set[str]:
    """The names of the weights that have a part in the logits, as plain autograd knows it."""
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
            "as --teacher repsim."
        ) from error
    finally:
        for tensor in tensors:
            tensor.requires_grad_(False)
    return {name for name, one in zip(weights, gradients, strict=True) if one is not None and bool(one.any())}
