"""Causal attention for processors, forward and backward, as batched products.

The fused attention of PyTorch is slow on a CPU when it goes back, most of all in bfloat16, and there it was
two fifths of the time of a gradient (docs/log.md). Written as four batched products around one softmax it is
two to six times faster on the lengths that examples have, and its gradients are no further from float32: scores
and softmax are float32 in every precision. Its memory grows with the square of the length, so long texts keep
the fused one.
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
"""keywords that change nothing when no mask is given: a window is then longer than the text"""


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

    Whatever it does not know (a mask, a soft cap, sinks, other keys than queries, long texts) goes to the fused
    attention.
    """
    n, heads, length, width = query.shape
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    known = all(name in PLAIN or given is None or given is False for name, given in others.items())
    plain = attention_mask is None and causal and not dropout and known and key.shape[2] == length
    if not plain or not 1 < length <= LONGEST:
        fused = fused or ALL_ATTENTION_FUNCTIONS["sdpa"]
        out, _ = fused(
            module,
            query,
            key,
            value,
            attention_mask,
            scaling=scaling,
            dropout=dropout,
            is_causal=is_causal,
            **others,
        )
        return out, None
    groups = heads // key.shape[1]
    key, value = (one.repeat_interleave(groups, dim=1) if groups > 1 else one for one in (key, value))
    flat = (one.reshape(n * heads, length, -1) for one in (query, key, value))
    scale = width**-0.5 if scaling is None else scaling
    out = _CausalAttention.apply(*flat, _mask(length, query.device), scale)  # type: ignore[no-untyped-call]
    return out.view(n, heads, length, -1).transpose(1, 2).contiguous(), None  # as the fused one: some take views


def _mask(length: int, device: torch.device) -> Tensor:
    return torch.full((length, length), float("-inf"), device=device).triu(1)


@dataclass
class _Use:
    """How many are inside `fast_attention`, in whatever thread, and what stood there before the first."""

    lock: Lock = field(default_factory=Lock)
    count: int = 0
    before: dict[str, Any] = field(default_factory=dict)


_use = _Use()


@contextmanager
def fast_attention(model: Any) -> Iterator[None]:
    """Inside, a model on a CPU that uses fused attention uses this one; so do models in other threads meanwhile.

    It stands under the fused one's name: models build their masks by that name, and some would build others.
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
    """Inside, attention is plain products, which forward-mode differentiation knows."""
    configs = {id(one.config): one.config for one in model.modules() if isinstance(one, PreTrainedModel)}
    usual = {key: one._attn_implementation for key, one in configs.items()}
    if set(usual.values()) <= {None, "eager"} or not model._can_set_attn_implementation():
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = usual[key]
