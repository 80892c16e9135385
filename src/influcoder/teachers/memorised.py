"""Rows that the model has memorised: their loss is nearly 0, and what is left of their gradient is mostly noise.

A row counts as memorised when the model gives each of its loss tokens a probability of about .95 or more, and its
gradient is short beside that of the rows which are not. Both are at hand wherever gradients are taken.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOSS = 0.05
"""mean cross-entropy below which a row may be memorised"""
NORM = 0.2
"""length of its gradient, as a share of the median of rows with a larger loss"""


def memorised(losses: NDArray[np.floating], norms: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which rows are memorised, (n,), by their (n,) losses and lengths of gradients; rows without a gradient are not.

    >>> memorised(np.array([0.01, 2.0, 3.0, 0.01]), np.array([0.1, 9.0, 11.0, 8.0])).tolist()
    [True, False, False, False]
    """
    low = (losses < LOSS) & (norms > 0)
    others = norms[(losses >= LOSS) & (norms > 0)]
    return low & (norms < NORM * np.median(others)) if len(others) else low


def counted(losses: NDArray[np.floating], norms: NDArray[np.floating]) -> dict[str, Any]:
    """What a features folder records of its pool's memorised rows."""
    return {
        "rows": int(memorised(losses, norms).sum()),
        "of": len(losses),
        "loss_below": LOSS,
        "norm_below": NORM,
    }


def in_words(counts: Mapping[str, Any]) -> str:
    """The counts of `counted` in a sentence, with the remedy."""
    return (
        f"{counts['rows']:,} of {counts['of']:,} pool rows are memorised (loss below {counts['loss_below']:g}, "
        f"gradient norm below {counts['norm_below']:g} of the others' median): their gradients are mostly noise. "
        "Take gradients from an earlier checkpoint: --teacher tracin --checkpoints FOLDERS."
    )
