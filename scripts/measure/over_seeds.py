"""A number measured with a few seeds: their mean, with Student's 95 % interval."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student_t


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """The seeds' numbers, their mean and its interval."""
    seeds = np.array(values, dtype=float)
    reach = student_t.ppf(0.975, len(seeds) - 1) * seeds.std(ddof=1) / np.sqrt(len(seeds))
    mean = float(seeds.mean())
    return {"mean": mean, "interval_95": [mean - float(reach), mean + float(reach)], "seeds": seeds.tolist()}
