"""Take rows in their order until a rule's budget is spent, and say of each row why it was kept or not."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.near_duplicates import Distinct
from influcoder.attribution.orders import Order, Rows
from influcoder.attribution.rule import Limit, Rule


class Facts(Protocol):
    """What a rule may ask of a pool's rows beside their scores."""

    def tokens(self) -> NDArray[np.int64]:
        """(n,) tokens of each."""
        ...

    def kinds(self, column: str) -> Sequence[str]:
        """(n,) of a column of their metadata, as text; "" where a row has no value."""
        ...

    def signatures(self) -> NDArray[np.uint32]:
        """`near_duplicates.signatures` of their texts."""
        ...


@dataclass(slots=True)
class Choice:
    """What a rule keeps of some rows.

    Attributes:
        is_kept: (n,)
        refused: why rows that came before the budget was spent were left out.
        duplicates: rows that say nearly the same as a kept row, with that row.
        kinds: (n,) of each column that the rule limits.
        sizes: (n,) how much of the budget each row takes.
    """

    is_kept: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    refused: dict[int, str] = field(default_factory=dict)
    duplicates: dict[int, int] = field(default_factory=dict)
    kinds: dict[str, Sequence[str]] = field(default_factory=dict)

    def reasons(self, words: str) -> list[str]:
        """(n,) why each row was kept or not, in the rule's own words."""
        reasons = [f"kept: {words}" if kept else f"rejected: not {words}" for kept in self.is_kept]
        for row, reason in self.refused.items():
            reasons[row] = f"rejected: {reason}"
        return reasons


def choose(order: Order, rule: Rule, facts: Callable[[], Facts]) -> Choice:
    """Take rows in their order, or from its end where the lowest are kept, until the budget is spent.

    Args:
        facts: called where the rule needs more than scores.
    """
    rows = order.rows[::-1] if rule.keeps_lowest else order.rows
    if rule.threshold is not None:
        passes = order.scores <= rule.threshold if rule.unwanted else order.scores >= rule.threshold
        rows = rows[passes[rows]]
    budget = _budget(rule, len(order.rows), len(rows))
    choice = Choice(np.zeros(len(order.rows), bool), np.ones(len(order.rows), np.int64))
    if not rule.asks_facts:
        choice.is_kept[rows[:budget]] = True
        return choice
    pool_facts = facts()
    if rule.tokens is not None:
        choice.sizes = pool_facts.tokens()
    choice.kinds = {column: pool_facts.kinds(column) for column in rule.columns}
    distinct = None if rule.distinct is None else Distinct(pool_facts.signatures(), rule.distinct)
    _Walk(rule, budget, choice, distinct).run(rows)
    return choice


def _budget(rule: Rule, count: int, passing: int) -> int:
    """How many rows, or tokens, may be kept."""
    if rule.top is not None:
        return max(1, round(rule.top * count))
    if rule.drop is not None:
        return count - max(1, round(rule.drop * count))
    if rule.rows is not None:
        return min(rule.rows, count)
    return passing if rule.tokens is None else rule.tokens


class _Walk:
    """A walk through rows, which fills in a choice."""

    def __init__(self, rule: Rule, budget: int, choice: Choice, distinct: Distinct | None) -> None:
        self._caps, self._quotas = rule.caps, rule.quotas
        self._budget, self._choice, self._distinct = budget, choice, distinct
        self._used = 0
        self._used_by: defaultdict[tuple[str, str], int] = defaultdict(int)

    def run(self, rows: Rows) -> None:
        """The best of each quota's kind first, then whatever is left."""
        for quota in self._quotas:
            kinds = self._choice.kinds[quota.column]
            self._take((row for row in rows if kinds[row] == quota.value), quota)
        self._take(rows)

    def _take(self, rows: Iterable[np.int64], quota: Limit | None = None) -> None:
        """Take rows until one is larger than what is left of the budget, or of a quota."""
        choice = self._choice
        for row in map(int, rows):
            if choice.is_kept[row] or row in choice.refused:
                continue
            size = int(choice.sizes[row])
            if self._used + size > self._budget or (quota is not None and self._is_over(quota, row, size)):
                return
            if reason := self._refusal(row, size):
                choice.refused[row] = reason
            else:
                self._keep(row, size)

    def _refusal(self, row: int, size: int) -> str:
        """Why a row is left out; "" if it is not."""
        if self._distinct and (like := self._distinct.like(row)) is not None:
            self._choice.duplicates[row] = like
            return "says nearly the same as a row that is kept"
        for cap in self._caps:
            if cap.value in (None, self._choice.kinds[cap.column][row]) and self._is_over(cap, row, size):
                return f"{cap.column} is at its cap ({cap})"
        return ""

    def _is_over(self, limit: Limit, row: int, size: int) -> bool:
        """Whether this row would bring the rows of its kind above a limit."""
        kind = self._choice.kinds[limit.column][row]
        return self._used_by[limit.column, kind] + size > limit.of(self._budget)

    def _keep(self, row: int, size: int) -> None:
        self._choice.is_kept[row] = True
        self._used += size
        for column, kinds in self._choice.kinds.items():
            self._used_by[column, kinds[row]] += size
        if self._distinct:
            self._distinct.keep(row)
