"""What a benchmark tells of a number: its mean over seeds, each seed's, a 95 % interval; and what a method cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from influcoder.benchmarks.methods.bench import EXACT, World
from influcoder.benchmarks.methods.registry import Scored
from influcoder.benchmarks.methods.rivals import question_cost
from influcoder.evaluation.retraining import interval
from influcoder.maths.arrays import Matrix


def over_queries(rows: Sequence[Matrix]) -> dict[str, Any]:
    """The mean of all seeds' (n_queries,) rows, with a bootstrap interval over queries of all seeds."""
    return estimate([float(one.mean()) for one in rows], interval(np.concatenate(rows)))


def estimate(seeds: Sequence[float], interval_95: Sequence[float]) -> dict[str, Any]:
    """A number as it stands in `metrics.json`."""
    return {"mean": float(np.mean(seeds)), "interval_95": [float(x) for x in interval_95], "seeds": list(seeds)}


def costs(found: Sequence[Mapping[str, Scored]], world: World, teacher: str = EXACT) -> dict[str, dict[str, float]]:
    """Medians over seeds of what every method cost, of memory the most.

    `cost_share` is the time of one question asked alone as a share of exact scoring's: the cascade's features of its
    teacher and its cheap tier, elsewhere just the ratio of the times.
    """
    examples = len(world.pool) + len(world.queries)
    seconds = {name: float(np.median([one[name].seconds for one in found])) for name in found[0]}
    shares = {name: seconds[name] / seconds[EXACT] for name in seconds}
    if "cascade" in shares:
        asked = question_cost(len(world.queries), len(world.pool), together=world.together)
        shares["cascade"] = (asked * seconds[teacher] + seconds["influcoder"]) / seconds[EXACT]
    return {
        name: {
            "examples_per_second": examples / max(seconds[name], 1e-9),
            "learning_seconds": float(np.median([one[name].learning_seconds for one in found])),
            "bytes_per_example": float(np.median([one[name].bytes_per_example for one in found])),
            "memory_mb": max(one[name].memory_mb for one in found),
            "cost_share": shares[name],
        }
        for name in found[0]
    }
