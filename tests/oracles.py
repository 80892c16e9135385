"""Slow references: one example at a time, through PEFT's own LoRA layers and autograd."""

import copy

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from influcoder.decoder import Tokens
from influcoder.gradients import LoraGradients


def _full_precision_norms(model: nn.Module) -> None:
    # The RMSNorm of transformers rounds to float32, whatever the model's type: too coarse for differences.
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if type(module).__name__.endswith("RMSNorm"):
                exact = nn.RMSNorm(module.weight.shape, module.variance_epsilon, dtype=module.weight.dtype)
                exact.weight = module.weight
                setattr(parent, name, exact)


def fresh_lora(gradients: LoraGradients, dtype: torch.dtype = torch.float32) -> PeftModel:
    """A copy of the decoder under the fresh adapter that `gradients` stands for."""
    base = copy.deepcopy(gradients.decoder.model).to(dtype)
    if dtype is torch.float64:
        _full_precision_norms(base)
    config = LoraConfig(
        r=gradients.rank,
        lora_alpha=gradients.scale * gradients.rank,
        target_modules=list(gradients.modules),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in gradients.modules.values()),
    )
    model = get_peft_model(base, config).to(dtype).eval()
    for name, a in zip(gradients.modules, gradients._a, strict=True):
        layer = model.base_model.model.get_submodule(name)
        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(a)
            layer.lora_B["default"].weight.zero_()
    return model


def lora_b(model: PeftModel, gradients: LoraGradients) -> list[nn.Parameter]:
    return [model.base_model.model.get_submodule(name).lora_B["default"].weight for name in gradients.modules]


def loss(model: nn.Module, tokens: Tokens) -> Tensor:
    """Mean cross-entropy of the completion tokens, written out."""
    ids = torch.from_numpy(tokens.ids)
    first = max(tokens.start, 1)
    logits = model(input_ids=ids[None]).logits[0, first - 1 : -1]
    return nn.functional.cross_entropy(logits, ids[first:])


def lora_gradients(gradients: LoraGradients, tokens: Tokens, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """One example's gradient of every lora_B, laid out as `LoraGradients` does: transposed, row by row."""
    model = fresh_lora(gradients, dtype)
    found = torch.autograd.grad(loss(model, tokens), lora_b(model, gradients))
    return [one.T.flatten() for one in found]
