"""The precision of products."""

from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]


def use_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether products run in bfloat16; "auto" does so if the processor supports it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported())
    return device.type == "cuda" and torch.cuda.is_bf16_supported()
