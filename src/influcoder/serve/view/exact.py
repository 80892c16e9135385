"""What real gradients say of a question: what its URL asks for, and no more."""

from dataclasses import dataclass, field

from influcoder.attribution.certified import Certified
from influcoder.report.sentences import certified_sentence
from influcoder.report.tokens import Lit, lit_tokens
from influcoder.serve.jobs import Job
from influcoder.serve.view.address import Address
from influcoder.serve.view.answers import Answer
from influcoder.serve.wire import SearchAnswer


@dataclass(frozen=True, slots=True)
class Exact:
    """The rows that a URL has re-checked, and the tokens that it has lit.

    Attributes:
        scores: of rows, by number.
        lit: of rows, the tokens of their completion and those of the answer.
        bounds: what the re-check proves of the rows that it left out, a sentence for each side.
    """

    scores: dict[int, float] = field(default_factory=dict)
    lit: dict[int, tuple[list[Lit], list[Lit]]] = field(default_factory=dict)
    bounds: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, address: Address, answer: Answer, job: Job | None) -> "Exact":
        """What is known of what a URL asks for."""
        found = cls()
        checked = None if job is None else job.result
        if isinstance(checked, SearchAnswer) and checked.question.prompt == answer.prompt:
            for hit in (*checked.proponents, *checked.opponents):
                if hit.exact is not None:
                    found.scores[hit.row] = hit.exact
            sides = (
                (checked.certified, checked.proponents, False),
                (checked.certified_opponents, checked.opponents, True),
            )
            for bound, hits, opponents in sides:
                if bound is not None:
                    certified = Certified(**bound.model_dump())
                    found.bounds.append(certified_sentence(certified, len(hits), opponents))
        for row in map(int, address.lit):
            if row in answer.tokens:
                told = answer.tokens[row]
                found.scores[row] = told.exact
                found.lit[row] = lit_tokens(told.tokens), lit_tokens(told.answer_tokens)
        return found
