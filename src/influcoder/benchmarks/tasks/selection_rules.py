"""The rules that the selection benchmark compares: those of `influcoder.select`, each within a budget of rows.

| rule | chooses rows |
|---|---|
| top, max, round-robin, diverse | in these orders (`influcoder.attribution.orders`) |
| contrast | by the mean, less the mean over the other tasks' queries (`--against`) |
| distinct | by the mean, without near-duplicates (`--distinct 0.8`) |
| capped | by the mean, at most half of the budget from one genre (`--cap genre=50%`) |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.choosing import choose
from influcoder.attribution.near_duplicates import signatures
from influcoder.attribution.orders import By, Order, Rows
from influcoder.attribution.rule import Rule
from influcoder.data.examples import Example
from influcoder.maths.arrays import Matrix

ORDERS: Mapping[str, By] = {"max": "max", "round-robin": "round-robin", "diverse": "diverse"}
"""orders of the rules that do not go by the mean"""
LIMITS: Mapping[str, Mapping[str, Any]] = {"distinct": {"distinct": 0.8}, "capped": {"cap": ("genre=50%",)}}
RULES = ("top", "max", "round-robin", "diverse", "contrast", *LIMITS)


@dataclass(frozen=True, slots=True)
class PoolOfTask:
    """What the rules need of the benchmark's pool."""

    pool: Sequence[Example]

    def tokens(self) -> NDArray[np.int64]:
        """Words stand in for tokens: no rule here counts them."""
        return np.array([len(f"{row.prompt} {row.completion}".split()) for row in self.pool])

    def kinds(self, column: str) -> list[str]:
        """Dolly's rows have no genre, and count as one."""
        return [str(row.metadata.get(column, "")) for row in self.pool]

    def signatures(self) -> NDArray[np.uint32]:
        return signatures(f"{row.prompt}\n{row.completion}" for row in self.pool)


def choose_rows(rule: str, scores: Matrix, control_scores: Matrix, budget: int, pool: Sequence[Example]) -> Rows:
    """The rows that a rule chooses, in the order of the pool.

    Args:
        scores: (n_queries, n) of the task's queries.
        control_scores: the same of the other tasks' queries.
    """
    if rule == "contrast":
        scores = scores - control_scores.mean(axis=0)
    order = Order.of(scores, ORDERS.get(rule, "mean"))
    choice = choose(order, Rule(rows=budget, **LIMITS.get(rule, {})), lambda: PoolOfTask(pool))
    return np.flatnonzero(choice.is_kept)
