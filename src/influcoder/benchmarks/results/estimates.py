"""A number as a benchmark reports it: mean over seeds, each seed's, a 95 % interval; and a method's cost."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from influcoder.benchmarks.corpora.problem import Problem
from influcoder.benchmarks.methods.rivals import question_cost
from influcoder.benchmarks.settings import EXACT
from influcoder.evaluation.evaluate import Scored
from influcoder.evaluation.retraining import interval
from influcoder.maths.arrays import Matrix


def over_queries(rows: Sequence[Matrix]) -> dict[str, Any]:
    """The mean of all seeds' (n_queries,) rows, with a bootstrap interval over the queries of all seeds."""
    return estimate([float(row.mean()) for row in rows], interval(np.concatenate(rows)))


def over_query_means(rows: Sequence[Matrix], kinds: Sequence[str]) -> dict[str, Any]:
    """Where seeds share their queries: for all and for each kind, an interval over the queries' means over seeds."""
    mean, names = np.mean(rows, axis=0), np.array(kinds)
    groups = {"all": np.ones(len(names), bool)} | {kind: names == kind for kind in sorted(set(kinds))}
    return {
        name: estimate([float(row[mask].mean()) for row in rows], interval(mean[mask])) for name, mask in groups.items()
    }


def estimate(seeds: Sequence[float], interval_95: Iterable[float]) -> dict[str, Any]:
    """A number as it stands in `metrics.json`."""
    return {"mean": float(np.mean(seeds)), "interval_95": [float(x) for x in interval_95], "seeds": list(seeds)}


def means(values: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """The means over seeds of numbers by name and key."""
    return {
        name: {key: float(np.mean([seed[name][key] for seed in values])) for key in first}
        for name, first in values[0].items()
    }


def costs(seeds: Sequence[Mapping[str, Scored]], problem: Problem, teacher: str = EXACT) -> dict[str, dict[str, float]]:
    """The cost of every method: medians over seeds; of memory the maximum.

    `cost_share` is the time for one question alone as a share of exact scoring's: for the cascade the gradients of its
    teacher and its cheap tier, for others the ratio of the times.
    """
    examples = len(problem.pool) + len(problem.queries)
    median = {
        key: {name: float(np.median([getattr(seed[name], key) for seed in seeds])) for name in seeds[0]}
        for key in ("seconds", "learning_seconds", "bytes_per_example")
    }
    seconds = median["seconds"]
    shares = {name: seconds[name] / seconds[EXACT] for name in seconds}
    if "cascade" in shares:
        gradient_share = question_cost(len(problem.queries), len(problem.pool), one_question=problem.one_question)
        shares["cascade"] = (gradient_share * seconds[teacher] + seconds["influcoder"]) / seconds[EXACT]
    return {
        name: {
            "examples_per_second": examples / max(seconds[name], 1e-9),
            "learning_seconds": median["learning_seconds"][name],
            "bytes_per_example": median["bytes_per_example"][name],
            "memory_mb": max(seed[name].memory_mb for seed in seeds),
            "cost_share": shares[name],
        }
        for name in seconds
    }
