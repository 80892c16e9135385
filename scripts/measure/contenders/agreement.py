"""Whether two contenders computed the same gradients."""

import math
from typing import Any

from torch import Tensor

TOLERANCE = {"float32": 1e-5, "bf16": 0.2}
"""largest difference of a cosine that rounding in a precision explains"""


def cosines(gram: Tensor) -> Tensor:
    """The (n, n) cosines of rows whose (n, n) inner products are given; NaN for rows of zeros."""
    norms = gram.diagonal().sqrt()
    return gram / norms[:, None] / norms[None, :]


def compare(gram: Tensor, reference: Tensor, precision: str) -> dict[str, Any]:
    """How far one Gram matrix is from the reference's, and whether rounding explains it.

    Norms are reported and not judged: methods may scale a gradient, and none of that reaches a cosine.
    """
    if gram.shape != reference.shape:
        return {"agreement_max_abs": None, "norm_max_relative": None, "agrees": False}
    difference = float((cosines(gram) - cosines(reference)).abs().max())
    norms = gram.diagonal().sqrt() / reference.diagonal().sqrt()
    return {
        "agreement_max_abs": difference if math.isfinite(difference) else None,
        "norm_max_relative": float((norms - 1).abs().max()),
        "agrees": difference <= TOLERANCE[precision],  # a NaN agrees with nothing
    }
