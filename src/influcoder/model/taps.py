"""Functions that receive the gradient of a tensor on the way back."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Receiver = Callable[[Tensor], None]


def tapped(output: Tensor, receivers: Sequence[Receiver | None]) -> Tensor:
    """A product's output, whose δ goes to a receiver, or to several, each its part."""
    if not torch.is_grad_enabled() or not any(receivers):
        return output

    def hook(delta: Tensor | None) -> None:
        parts = [delta] * len(receivers) if delta is None or len(receivers) == 1 else list(delta)
        for receive, part in zip(receivers, parts, strict=True):
            if receive is not None:
                receive(part)  # type: ignore[arg-type]

    if output.requires_grad and not output._is_view():
        output.register_hook(hook)  # type: ignore[no-untyped-call]
        return output
    return _Tap.apply(output, torch.ones((), requires_grad=True), hook)  # type: ignore[no-any-return, no-untyped-call]


class _Tap(torch.autograd.Function):
    """Returns its input, and passes the gradient that comes back to a function.

    The graph begins here if it has not begun yet. What is returned is the input's own memory and not a view of it: the
    model may change it in place, and the hook of a view would be lost.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, begin: Tensor, receive: Callable[[Tensor | None], None]) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.receive = receive
        return output.data

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor | None) -> tuple[Tensor | None, None, None]:
        ctx.receive(deltas[0])
        return deltas[0], None, None
