"""The results of real gradients for a question, as far as its URL asks for them."""

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
        """The results that a URL asks for."""
        exact = cls()
        checked = None if job is None else job.result
        if isinstance(checked, SearchAnswer) and checked.question.prompt == answer.prompt:
            for hit in (*checked.proponents, *checked.opponents):
                if hit.exact is not None:
                    exact.scores[hit.row] = hit.exact
            sides = (
                (checked.certified, checked.proponents, False),
                (checked.certified_opponents, checked.opponents, True),
            )
            for bound, hits, opponents in sides:
                if bound is not None:
                    certified = Certified(**bound.model_dump())
                    exact.bounds.append(certified_sentence(certified, len(hits), opponents))
        for row in map(int, address.lit):
            if row in answer.tokens:
                tokens = answer.tokens[row]
                exact.scores[row] = tokens.exact
                exact.lit[row] = lit_tokens(tokens.tokens), lit_tokens(tokens.answer_tokens)
        return exact
