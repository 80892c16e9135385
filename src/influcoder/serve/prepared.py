"""Questions that are ready to be searched with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from influcoder.attribution.search import Trust, expected_agreement, query_vectors
from influcoder.data.examples import Example
from influcoder.maths.arrays import Floats
from influcoder.recent import Recent
from influcoder.serve import answers
from influcoder.serve.problems import Problem, not_found
from influcoder.serve.wire import Asked, Question, Read
from influcoder.verbs.questions import one_question
from influcoder.verbs.show import show

if TYPE_CHECKING:
    from influcoder.serve.explorer import Explorer

KEPT_QUESTIONS = 256
"""questions"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A question that is ready to be searched with.

    Attributes:
        vector: (dim,) to search with.
        trust: the expected agreement of its ranking with the teacher's, where the encoder knows it.
    """

    asked: Asked
    example: Example
    vector: Floats
    trust: Trust | None


class AskedQuestions:
    """The last questions of an explorer; used by the worker."""

    def __init__(self, explorer: "Explorer") -> None:
        self._explorer = explorer
        self._recent: Recent[Prepared] = Recent(KEPT_QUESTIONS)

    def prepared(self, questions: Sequence[Question]) -> list[Prepared]:
        """The questions with their vectors; new ones are read together."""
        by_key = {(question.prompt, question.completion, question.query): question for question in questions}
        prepared = {key: self._recent[key] for key in by_key if key in self._recent}
        new = [key for key in by_key if key not in prepared]
        if new:
            questions_read = self._prepare([by_key[key] for key in new])
            prepared |= {key: self._recent.put(key, each) for key, each in zip(new, questions_read, strict=True)}
        return [prepared[question.prompt, question.completion, question.query] for question in questions]

    def _prepare(self, questions: Sequence[Question]) -> list[Prepared]:
        examples, own = zip(*map(self._example, questions), strict=True)
        reads: list[Read | None] = [None] * len(examples)
        features = None
        if self._explorer.decoder is not None:
            reads = list(map(answers.read, show(self._explorer.decoder, examples)))
        if self._explorer.teacher is not None:
            features = self._explorer.teacher.features(examples, "query").refuse_rejected(examples).vectors
        vectors = query_vectors(self._explorer.index, examples, features)
        trust = expected_agreement(self._explorer.index.encoder, vectors, features)
        return [
            Prepared(answers.asked(example, answered, read), example, vector, expected)
            for example, answered, read, vector, expected in zip(examples, own, reads, vectors, trust, strict=True)
        ]

    def _example(self, question: Question) -> tuple[Example, bool]:
        """The question, and whether the decoder gave its completion."""
        if question.query is not None:
            if question.query not in self._explorer.questions:
                raise not_found(f"no saved question has the id {question.query!r}; GET /api/v1/queries lists them.")
            return self._explorer.questions[question.query], False
        prompt, completion = question.prompt or "", question.completion
        if completion is not None and not completion.strip():
            raise Problem(422, "no_completion", "the completion is empty, so there is nothing to attribute.")
        if completion is not None:
            return Example.question(prompt, completion), False
        if self._explorer.answering is None:
            raise Problem(
                422,
                "no_completion",
                "the completion is missing, and without a decoder nothing here can answer. Give what the model says, "
                "or start the service with --decoder.",
            )
        return one_question(self._explorer.answering, prompt, None).example, True
