"""Gradients as plain autograd gives them, one example at a time: what the self-check holds the quick ones against.

Nothing of `influcoder.model.gradients` is in it: the model is run as it is, without a batch, a hook or an attention of
ours, and the gradients of the weights themselves are formed, one after the other.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from influcoder.model.batches import Tokens
from influcoder.model.layers import View
from influcoder.model.linear import is_packed, of_layer, weight_of


def plain_gradients(model: Any, views: Sequence[View], tokens: Tokens) -> list[Tensor | None]:
    """Each view of one example's gradient, flat, float32; None of layers that pack their weights.

    A view that is the gradient of a LoRA's B is the weight's gradient after A: no adapter is needed.
    """
    by_parameter: dict[Tensor, list[int]] = {}
    for number, view in enumerate(views):
        if not is_packed(view.module):
            by_parameter.setdefault(weight_of(view.module).tensor, []).append(number)
    gradients: list[Tensor | None] = [None] * len(views)

    def keep(parameter: Tensor) -> None:
        for number in by_parameter[parameter]:
            view, gradient = views[number], of_layer(views[number].module, parameter.grad).float()  # type: ignore[arg-type]
            gradient = gradient if view.right is None else view.right @ gradient
            gradient = gradient if view.left is None else gradient @ view.left.T
            gradients[number] = view.scale * gradient.flatten()
        parameter.grad = None  # one at a time is in memory

    device = model.get_input_embeddings().weight.device
    ids, places, shares = (torch.from_numpy(array).to(device) for array in (tokens.ids, tokens.places, tokens.shares))
    hooks = []
    try:
        for parameter in by_parameter:
            parameter.requires_grad_(True)
            hooks.append(parameter.register_post_accumulate_grad_hook(keep))  # type: ignore[no-untyped-call]
        with torch.enable_grad():
            logits = model(input_ids=ids[None], use_cache=False).logits[0, places - 1]
            loss = (cross_entropy(logits.float(), ids[places], reduction="none") * shares).sum()
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in by_parameter:
            parameter.requires_grad_(False)
            parameter.grad = None
    for numbers in by_parameter.values():
        for number in numbers:
            if gradients[number] is None:  # no part of the loss
                gradients[number] = torch.zeros(views[number].length, device=ids.device)
    return gradients
