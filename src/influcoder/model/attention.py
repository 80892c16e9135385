"""Causal attention for CPUs, forward and backward, as batched products.

PyTorch's fused attention has a slow backward pass on a CPU, most of all in bfloat16, where it was two fifths of the
time of a gradient (docs/log.md). Written as four batched products around one softmax, attention is two to six times
faster at the lengths of examples, and its gradients are no further from float32: scores and softmax are float32 in
every precision. Its memory grows with the square of the length, so long texts keep the fused attention.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel

LONGEST = 1024
PLAIN = {"sliding_window", "position_ids", "use_cache", "output_attentions", "output_hidden_states", "return_dict"}
"""keywords that change nothing without a mask: a window is then longer than the text"""


class _CausalAttention(torch.autograd.Function):
    """softmax(scale · Q Kᵀ + mask) V for (heads, T, d) tensors."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            scores = torch.baddbmm(mask, q.float(), k.float().transpose(1, 2), alpha=scale)
            shares = torch.softmax(scores, -1, out=scores).to(v.dtype)
            ctx.save_for_backward(q.to(v.dtype), k.to(v.dtype), v, shares)
            ctx.scale = scale
            return torch.bmm(shares, v)

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, shares = ctx.saved_tensors
        delta = deltas[0].to(v.dtype).contiguous()
        of_shares = torch.bmm(delta, v.transpose(1, 2))
        of_scores = torch._softmax_backward_data(of_shares, shares, -1, shares.dtype)
        return (
            torch.bmm(of_scores, k * ctx.scale),
            torch.bmm(of_scores.transpose(1, 2), q * ctx.scale),
            torch.bmm(shares.transpose(1, 2), delta),
            None,
            None,
        )


def causal_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    fused: Any = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls: (n, heads, T, d) in, (n, T, heads, d) out.

    Everything else (a mask, a soft cap, sinks, fewer queries than keys, long texts) goes to the fused attention.
    """
    n, heads, length, width = query.shape
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    known = all(name in PLAIN or given is None or given is False for name, given in others.items())
    plain = attention_mask is None and causal and not dropout and known and key.shape[2] == length
    if not plain or not 1 < length <= LONGEST:
        settings = {"scaling": scaling, "dropout": dropout, "is_causal": is_causal, **others}
        fused = fused or ALL_ATTENTION_FUNCTIONS["sdpa"]
        return fused(module, query, key, value, attention_mask, **settings)[0], None
    groups = heads // key.shape[1]
    if groups > 1:
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    flat = (states.reshape(n * heads, length, -1) for states in (query, key, value))
    mask = torch.full((length, length), float("-inf"), device=query.device).triu(1)
    scale = width**-0.5 if scaling is None else scaling
    out = _CausalAttention.apply(*flat, mask, scale)  # type: ignore[no-untyped-call]
    return out.view(n, heads, length, -1).transpose(1, 2).contiguous(), None  # as fused: some models take views


@dataclass
class _Use:
    """How many are inside `fast_attention`, in whatever thread, and what stood there before the first."""

    lock: Lock = field(default_factory=Lock)
    count: int = 0
    before: dict[str, Any] = field(default_factory=dict)


_use = _Use()


@contextmanager
def fast_attention(model: Any) -> Iterator[None]:
    """Inside, models on a CPU that use fused attention use `causal_attention`, those in other threads too.

    It takes the name of the fused attention: models build their masks by that name, and some would build others.
    """
    if model.device.type != "cpu":
        yield
        return
    with _use.lock:
        if not _use.count:
            _use.before = dict(ALL_ATTENTION_FUNCTIONS._local_mapping)
            ALL_ATTENTION_FUNCTIONS["sdpa"] = partial(causal_attention, fused=ALL_ATTENTION_FUNCTIONS["sdpa"])
        _use.count += 1
    try:
        yield
    finally:
        with _use.lock:
            _use.count -= 1
            if not _use.count:
                ALL_ATTENTION_FUNCTIONS._local_mapping = _use.before


@contextmanager
def plain_attention(model: Any) -> Iterator[None]:
    """Inside, attention is plain products, which forward-mode differentiation supports."""
    configs = {id(part.config): part.config for part in model.modules() if isinstance(part, PreTrainedModel)}
    usual = {key: config._attn_implementation for key, config in configs.items()}
    if set(usual.values()) <= {None, "eager"} or not model._can_set_attn_implementation():
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = usual[key]
