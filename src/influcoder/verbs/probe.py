"""How fast some work is on this machine: it is done on a few rows."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from influcoder.data.examples import Example

FEATURE_PROBE = 64
"""rows that gradients, or students that run the decoder, are timed on, at most"""
ENOUGH_S = 2.0
"""a probe of this many seconds is long enough"""


def measured_speed(
    work: Callable[[Sequence[Example]], Any], sample: Sequence[Example], most: int | None = None
) -> dict[str, Any]:
    """How fast `work` does rows: a few, then as many as should take long enough, until that is so.

    Args:
        most: how many rows it is given at most; all when omitted.
    """
    most = min(most or len(sample), len(sample))
    rows = 4
    while True:
        batch = spread(sample, min(rows, most))
        begin = time.perf_counter()
        work(batch)
        seconds = time.perf_counter() - begin
        if seconds >= ENOUGH_S or rows >= most:
            return {"rows": len(batch), "seconds": seconds, "rows_per_second": len(batch) / seconds}
        rows = max(2 * rows, 2 * math.ceil(rows * ENOUGH_S / seconds / 2))


def spread(sample: Sequence[Example], rows: int) -> list[Example]:
    """So many rows, short and long ones as in the sample: what a few random rows take is off by a third.

    They are neighbours in length two by two, if there are enough, as rows are that a long job reads together.
    """
    ordered = sorted(sample, key=lambda row: len(row.prompt) + len(row.completion))
    together = 2 if 2 * rows <= len(ordered) and rows % 2 == 0 else 1
    groups = rows // together
    starts = [int((group + 0.5) * len(ordered) / groups - together / 2) for group in range(groups)]
    return [row for start in starts for row in ordered[start : start + together]]
