"""Slow references: one example at a time, through autograd of PEFT's own LoRA layers or of the weights."""

import copy
from collections.abc import Sequence

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from influcoder.model.batches import Tokens
from influcoder.model.decoder import Decoder
from influcoder.model.layers import View
from influcoder.model.products import Block, Weight


def exact_copy(model: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    copied = copy.deepcopy(model).to(dtype)
    if dtype is torch.float64:
        _full_precision_norms(copied)
    return copied


def _full_precision_norms(model: nn.Module) -> None:
    # The RMSNorm of transformers rounds to float32, whatever the model's type: too coarse for differences.
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
                exact = nn.RMSNorm(module.weight.shape, module.variance_epsilon, dtype=module.weight.dtype)
                exact.weight = module.weight
                setattr(parent, name, exact)


def fresh_lora(decoder: Decoder, views: Sequence[View], dtype: torch.dtype = torch.float64) -> PeftModel:
    """A copy of the decoder under the fresh adapter that `lora_b`'s views stand for."""
    rank = len(views[0].right)
    config = LoraConfig(
        r=rank,
        lora_alpha=views[0].scale * rank,
        target_modules=[view.name for view in views],
        fan_in_fan_out=any(isinstance(view.module, Conv1D) for view in views),
    )
    model = get_peft_model(exact_copy(decoder.model, dtype), config).to(dtype).eval()
    for view in views:
        layer = model.base_model.model.get_submodule(view.name)
        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(view.right)
            layer.lora_B["default"].weight.zero_()
    return model


def adapter_parts(model: PeftModel, names: Sequence[str]) -> list[nn.Parameter]:
    """The parameters that views such as `layer.lora_A` or plain `layer` (its B) are the gradients of."""
    found = []
    for name in names:
        layer, _, part = name.rpartition(".") if name.endswith(("lora_A", "lora_B")) else (name, "", "lora_B")
        found.append(getattr(model.base_model.model.get_submodule(layer), part)["default"].weight)
    return found


def loss(model: nn.Module, tokens: Tokens) -> Tensor:
    """Mean cross-entropy of the completion tokens, written out."""
    ids = torch.from_numpy(tokens.ids)
    first = max(tokens.start, 1)
    logits = model(input_ids=ids[None]).logits[0, first - 1 : -1]
    return nn.functional.cross_entropy(logits, ids[first:])


def parameter_gradients(model, parameters, tokens, loss=loss) -> list[Tensor]:
    """Each parameter's (examples, inputs, outputs) gradients: transposed, as views are."""
    rows = [torch.autograd.grad(loss(model, one), parameters) for one in tokens]
    return [torch.stack([row[number].T for row in rows]) for number in range(len(parameters))]


def lora_gradients(decoder: Decoder, views: Sequence[View], tokens: Sequence[Tokens]) -> list[Tensor]:
    """What `lora_b`'s views stand for."""
    model = fresh_lora(decoder, views)
    return parameter_gradients(model, adapter_parts(model, [view.name for view in views]), tokens)


def weight_gradients(decoder, views, tokens, loss=loss, dtype=torch.float64) -> list[Tensor]:
    """The raw gradient of each view's layer, (examples, inputs, outputs)."""
    names = {module: name for name, module in decoder.model.named_modules()}
    model = exact_copy(decoder.model, dtype)
    parameters = []
    for view in views:
        weight = view.module.weight if isinstance(view.module, Block) else Weight(view.module, "weight")
        parameters.append(Weight(model.get_submodule(names[weight.module]), weight.name).tensor.requires_grad_(True))
    rows = [torch.autograd.grad(loss(model, one), parameters, allow_unused=True) for one in tokens]
    found = []
    for number, (view, parameter) in enumerate(zip(views, parameters, strict=True)):
        each = [torch.zeros_like(parameter) if row[number] is None else row[number] for row in rows]
        found.append(torch.stack([_of_layer(view, one) for one in each]))
    return found


def _of_layer(view: View, gradient: Tensor) -> Tensor:
    """(inputs, outputs) of a layer out of its parameter's gradient; of a block, the sizes tell which is which."""
    if not isinstance(view.module, Block):
        return gradient if isinstance(view.module, Conv1D) else gradient.T
    sizes = view.module.inputs, view.module.outputs
    block = gradient.flatten().view(view.module.count, -1)[view.module.number]
    stored = gradient.shape[-2:] if view.module.count > 1 else gradient.shape
    return block.view(sizes) if tuple(stored) == sizes else block.view(sizes[::-1]).T


def explicit(view: View, raw: Tensor) -> Tensor:
    """s · R Gᵀ Lᵀ of (examples, inputs, outputs) raw gradients Gᵀ, flat."""
    right = torch.eye(raw.shape[1]) if view.right is None else view.right
    left = torch.eye(raw.shape[2]) if view.left is None else view.left
    return (view.scale * right.to(raw.dtype) @ raw @ left.T.to(raw.dtype)).flatten(1)
