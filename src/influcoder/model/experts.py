"""Fused experts, example by example.

A mixture keeps its experts in one tensor, and gathers for each expert the tokens of all examples that are routed to
it. Here every expert gets these tokens example by example, so that its inputs have an axis of examples. The result is
the same, with one product per expert and matrix.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

_examples = [1]
"""how many examples the batch that is run has"""


def experts_by_example(self: Any, hidden: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """The experts function that transformers calls: (n · T, width) in and out, (n · T, k) indices and weights."""
    examples = _examples[-1]
    length = len(hidden) // examples
    start = length * torch.arange(examples, device=hidden.device)[:, None]
    result = torch.zeros_like(hidden)
    for expert in top_k_index.unique().tolist():  # type: ignore[no-untyped-call]
        if expert >= self.num_experts:
            continue  # a place that is routed to no expert
        routed = top_k_index == expert
        chosen = routed.any(dim=1).view(examples, length)
        most = int(chosen.sum(dim=1).max())
        places = chosen.int().argsort(dim=1, descending=True, stable=True)[:, :most] + start
        shares = (top_k_weights * routed).sum(dim=1)[places]  # 0 where an example has fewer
        weighted = _expert(self, expert, hidden[places]) * shares[..., None]
        result = result.index_add(0, places.flatten(), weighted.flatten(0, 1).to(result.dtype))
    return result


def _expert(experts: Any, number: int, x: Tensor) -> Tensor:
    first = "gate_up_proj" if experts.has_gate else "up_proj"
    x = _project(experts, first, number, x)
    x = experts._apply_gate(x) if experts.has_gate else experts.act_fn(x)
    x = _project(experts, "down_proj", number, x)
    return experts.post_expert_norm(x) if experts.has_post_expert_norm else x


def _project(experts: Any, name: str, number: int, x: Tensor) -> Tensor:
    weight = getattr(experts, name)[number]
    bias = getattr(experts, f"{name}_bias")[number] if experts.has_bias else None
    return linear(x, weight.T if experts.is_transposed else weight, bias)


@contextmanager
def separate_experts(examples: int) -> Iterator[None]:
    """Inside, mixtures whose experts are fused run them example by example, in batches of so many examples."""
    before = dict(ALL_EXPERTS_FUNCTIONS._local_mapping)
    _examples.append(examples)
    for name in ("eager", *ALL_EXPERTS_FUNCTIONS.valid_keys()):
        ALL_EXPERTS_FUNCTIONS[name] = experts_by_example
    try:
        yield
    finally:
        ALL_EXPERTS_FUNCTIONS._local_mapping = before
        _examples.pop()
