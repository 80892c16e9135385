"""What goes back through a tensor, told on the way."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Tell = Callable[[Tensor], None]


def tapped(output: Tensor, told: Sequence[Tell | None]) -> Tensor:
    """A product's output, whose δ goes to one function, or to several, each its part."""
    if not torch.is_grad_enabled() or not any(told):
        return output

    def hook(delta: Tensor | None) -> None:
        parts = [delta] * len(told) if delta is None or len(told) == 1 else list(delta)
        for tell, part in zip(told, parts, strict=True):
            if tell is not None:
                tell(part)  # type: ignore[arg-type]

    if output.requires_grad and not output._is_view():
        output.register_hook(hook)  # type: ignore[no-untyped-call]
        return output
    return _Tap.apply(output, torch.ones((), requires_grad=True), hook)  # type: ignore[no-any-return, no-untyped-call]


class _Tap(torch.autograd.Function):
    """Gives its input on, and tells of the gradient that comes back.

    The graph begins here if it has not begun yet. What is given on is the input's own memory, and no view of it: the
    model may change it in place, where the hook of a view would be lost.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, begin: Tensor, tell: Callable[[Tensor | None], None]) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.tell = tell
        return output.data

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor | None) -> tuple[Tensor | None, None, None]:
        ctx.tell(deltas[0])
        return deltas[0], None, None
