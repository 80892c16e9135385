"""What one seed of a benchmark is about: what is scored, for which queries, and what students may learn from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from influcoder.data.examples import Example


class Split(NamedTuple):
    """The queries and the pool examples of one split."""

    queries: Sequence[Example]
    pool: Sequence[Example]


NOTHING = Split((), ())


def train_and_validation(queries: Sequence[Example], pool: Sequence[Example]) -> tuple[Split, Split]:
    """What students learn from; a sixth of each side is kept for choosing between models."""
    q, p = len(queries) // 6, len(pool) // 6
    return Split(queries[q:], pool[p:]), Split(queries[:q], pool[:p])


@dataclass(frozen=True, slots=True)
class Problem:
    """An attribution problem: a pool, queries about it, and other examples that students may learn from.

    Attributes:
        pool, queries: what is scored, and what it is scored for; no student sees them.
        kinds: the kind of each query; results are shown for each kind.
        train, validation: what students are trained on and chosen by; without it they are left out.
        unlabelled: what a slow student may label for a fast one; no gradient is taken of it.
        one_question: the queries are one question, answered by their mean scores.
        others: further sides by name that the task uses.
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
        """Every side by name, for the leak audit."""
        sides = {"pool": self.pool, "queries": self.queries}
        for name in ("train", "validation", "unlabelled"):
            split: Split = getattr(self, name)
            if any(split):
                sides |= {f"{name} queries": split.queries, f"{name} pool": split.pool}
        return sides | dict(self.others)
