"""The problem of a seed: a pool, queries, and what students may learn from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

from influcoder.data.examples import Example
from influcoder.errors import DataError
from influcoder.evaluation.evaluate import count_overlap


class Split(NamedTuple):
    """The queries and the pool examples of a split."""

    queries: Sequence[Example]
    pool: Sequence[Example]


NOTHING = Split((), ())


def train_and_validation(queries: Sequence[Example], pool: Sequence[Example]) -> tuple[Split, Split]:
    """(train, validation): a sixth of each side is kept for choosing between models."""
    q, p = len(queries) // 6, len(pool) // 6
    return Split(queries[q:], pool[p:]), Split(queries[:q], pool[:p])


@dataclass(frozen=True, slots=True)
class Problem:
    """An attribution problem: a pool, queries about it, and other examples that students may learn from.

    Attributes:
        pool, queries: what is scored, and what it is scored for; no student sees them.
        kinds: the kind of each query; results are shown for each kind.
        train, validation: what students are trained on and chosen by; students are left out where it is empty.
        unlabelled: texts that a slow student may label for a fast one; no gradients are taken of them.
        one_question: the queries are one question, answered by their mean scores.
        others: more sides by name that the task uses.
        group: what two sides must not share, besides ids and texts: the request, the subject.
        sharing: pairs of sides that may share a group: a query asks for what the pool states.
    """

    pool: Sequence[Example]
    queries: Sequence[Example]
    kinds: Sequence[str] = ()
    train: Split = NOTHING
    validation: Split = NOTHING
    unlabelled: Split = NOTHING
    one_question: bool = False
    others: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    group: Callable[[Example], str] | None = None
    sharing: Sequence[tuple[str, str]] = ()

    def sides(self) -> dict[str, Sequence[Example]]:
        """Every side by name."""
        sides = {"pool": self.pool, "queries": self.queries}
        for name in ("train", "validation", "unlabelled"):
            split: Split = getattr(self, name)
            if any(split):
                sides |= {f"{name} queries": split.queries, f"{name} pool": split.pool}
        return sides | dict(self.others)

    def audit(self, roles: Sequence[str] = ("",)) -> dict[str, Any]:
        """Cross-check every two sides by id and by normalised text, in which case and spacing do not matter.

        Args:
            roles: check the sides whose names end with each of these apart from the others; all sides when omitted.

        Returns:
            examples a side, the pairs that were checked, and an overlap of 0, for `metrics.json`.

        Raises:
            DataError: two sides share an id, a text or a group; the message names them and an example.

        >>> Problem([Example("a", "2 + 2 =", "4")], [Example("b", "2 + 3 =", "5")]).audit()["overlap"]
        0
        """
        sides = self.sides()
        pairs = [pair for role in roles for pair in combinations([side for side in sides if side.endswith(role)], 2)]
        for first, second in pairs:
            shared = {(first, second), (second, first)} & set(self.sharing)
            try:
                count_overlap(sides[first], sides[second], group=None if shared else self.group)
            except DataError as error:
                raise DataError(f"leak between {first} and {second}: {error}") from error
        sizes = {name: len(side) for name, side in sides.items()}
        return {"examples": sizes, "checked": [" / ".join(pair) for pair in pairs], "overlap": 0}
