"""Methods by name: what each needs, and how its scorer is made.

`STANDARD` holds those that every evaluation compares; `influcoder.benchmarks.methods.registry` adds further ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from influcoder.evaluation.scorers import (
    Bm25,
    EncoderScorer,
    ExactQueryScorer,
    Random,
    Scorer,
    Surface,
    TeacherScorer,
    Tfidf,
)
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.sample import Sample
from influcoder.teachers.teacher import Teacher

Need = Literal["adapter", "backbone", "training", "unlabelled"]


class Ingredients(Protocol):
    """What methods are made from; each part is made when a method first asks for it.

    The teacher that students learn from, the same with another seed (how well the two agree is the ceiling of every
    method), (train, validation) with its features, our student of a tier, an encoder that reads texts as the static
    tier does, the backbone as it comes, and the backbone trained by the paper's recipe.
    """

    seed: int

    def teacher(self) -> Teacher: ...
    def second_teacher(self) -> Teacher: ...
    def samples(self) -> tuple[Sample, Sample]: ...
    def student(self, tier: str) -> InfluenceEncoder: ...
    def reader(self) -> InfluenceEncoder: ...
    def untrained(self) -> InfluenceEncoder: ...
    def paper_student(self) -> InfluenceEncoder: ...


@dataclass(frozen=True, slots=True)
class Method:
    """A method that is compared.

    Attributes:
        make: gives its scorer; what this takes is the method's learning time.
        needs: what it cannot be made without.
        costed_by: methods whose times its cost is computed from.
    """

    make: Callable[[Any], Scorer]
    needs: tuple[Need, ...] = ()
    costed_by: tuple[str, ...] = ()


def student_methods(tier: str, *more_needs: Need) -> dict[str, Method]:
    """Our student of a tier, with queries as text and with queries as their gradients."""
    name = "influcoder" if tier == "static" else f"influcoder-{tier}"
    exact = f"{name}-exact-query"
    needs: tuple[Need, ...] = ("training", *more_needs)
    return {
        name: Method(lambda parts: EncoderScorer(name, parts.student(tier)), needs),
        exact: Method(lambda parts: ExactQueryScorer(parts.student(tier), parts.teacher(), exact), needs),
    }


STANDARD: dict[str, Method] = {
    "random": Method(lambda parts: Random(parts.seed)),
    "tfidf": Method(lambda _: Tfidf()),
    "bm25": Method(lambda _: Bm25()),
    "exact": Method(lambda parts: TeacherScorer(parts.second_teacher())),
    "untrained": Method(lambda parts: EncoderScorer("untrained", parts.untrained()), ("backbone",)),
    "paper-recipe": Method(
        lambda parts: EncoderScorer("paper-recipe", parts.paper_student()), ("backbone", "training")
    ),
    "surface": Method(lambda parts: Surface(parts.reader()).fit(*parts.samples()), ("training",)),
    **student_methods("static"),
}
