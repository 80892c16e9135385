"""How fast some work is on this machine: it is done on a few rows."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from influcoder.data.examples import Example

FEATURE_PROBE = 64
"""rows that gradients, or students that run the decoder, are timed on, at most"""
ENOUGH_S = 2.0
"""a probe of this many seconds is long enough"""


def measured_speed(work: Callable[[Sequence[Example]], Any], sample: Sequence[Example]) -> dict[str, Any]:
    """How fast `work` does rows: a few, then four times as many, until it takes long enough to measure."""
    rows = 4
    while True:
        batch = sample[:rows]
        begin = time.perf_counter()
        work(batch)
        seconds = time.perf_counter() - begin
        if seconds >= ENOUGH_S or rows >= len(sample):
            return {"rows": len(batch), "seconds": seconds, "rows_per_second": len(batch) / seconds}
        rows *= 4
