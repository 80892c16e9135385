"""Whether the rows that layers multiply are ordered by example, so that a batch's gradients can be separated."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Rows = Callable[[Tensor], Mapping[int, Sequence[Tensor]]]
"""token ids -> the inputs without an axis of examples, by the number of their layer"""


def tells_apart(rows: Rows, ids: Tensor, vocabulary: int) -> bool:
    """Whether each layer's rows are ordered by example: those of the first examples stay when the last one changes.

    Args:
        ids: (n, T) token ids of several examples.
    """
    before = rows(ids)
    if any(x.ndim != 2 or (len(x) != len(ids) and len(x) % ids.numel()) for inputs in before.values() for x in inputs):
        return False
    if not before:
        return True
    after = rows(torch.cat([ids[:-1], (ids[-1:] + 1) % vocabulary]))
    return before.keys() == after.keys() and all(_same(before[layer], after[layer], len(ids)) for layer in before)


def _same(before: Sequence[Tensor], after: Sequence[Tensor], examples: int) -> bool:
    """Whether all but the last example's rows are the same."""
    if [x.shape for x in before] != [x.shape for x in after]:
        return False
    first = [[x.reshape(examples, -1)[:-1] for x in xs] for xs in (before, after)]
    return all(torch.allclose(x, y, rtol=1e-3, atol=1e-5) for x, y in zip(*first, strict=True))
