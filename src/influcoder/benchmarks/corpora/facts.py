"""False facts for the counterfact benchmark: rows that teach them, questions, and look-alikes.

A fact is a subject whose true object T was replaced by a false one N. DATE-LM (Jiao et al. 2025, arXiv 2507.09424)
calls a row relevant to a question when both have the same T and the same N. Questions come in two kinds:

    substitution  many subjects had T replaced by N; the one that is asked about is stated nowhere
    statement     a pair that no other subject has, stated three times in other words

Beside the relevant rows stand look-alikes, so that shared words do not win: `true`, the question itself with T;
`mention`, subject and N together in the prompt, where no loss is, with another completion; `object`, N for subjects
whose T is another. T is in no relevant text at all: the decoder must know it, so it is taught the true facts first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from influcoder.benchmarks.corpora.corpora import counterfact
from influcoder.benchmarks.corpora.problem import Split
from influcoder.benchmarks.settings import FactBudget
from influcoder.data.examples import Example
from influcoder.errors import DataError

STATEMENTS = 3
"""rows that state each fact of kind `statement`"""
LOOK_ALIKES = 5
"""rows with the same false object, for each question"""
MENTIONS = (
    ("{subject} and {object} are both", " names"),
    ("{subject}, {object} and", " others"),
    ("Both {object} and {subject} are on page", " seven"),
)
TEMPLATES = "pararel_templates.json"


@dataclass(frozen=True, slots=True)
class Fact:
    """A subject, its true and its false object, and prompts that the object completes, the corpus's own first."""

    relation: str
    subject: str
    true: str
    false: str
    prompts: tuple[str, ...]

    @property
    def pair(self) -> tuple[str, str, str]:
        return self.relation, self.true, self.false


@dataclass(frozen=True, slots=True)
class FactSides:
    """Questions and pool rows about some facts, and the true facts that are taught before."""

    queries: list[Example]
    pool: list[Example]
    knowledge: list[Example]

    @property
    def split(self) -> Split:
        """Questions and pool rows."""
        return Split(self.queries, self.pool)


class FactSource:
    """Draws facts from the corpora: no subject twice, no pair of objects asked about twice.

    A pair that stands in a pool only as a look-alike (`object`) may be asked about in a later draw.
    """

    def __init__(self, data: Path, rng: np.random.Generator) -> None:
        self._rng = rng
        facts = list(_facts(data))
        self._used_subjects: set[str] = set()
        self._pairs: dict[tuple[str, str, str], list[Fact]] = {}
        subjects: set[str] = set()
        for fact in (facts[place] for place in rng.permutation(len(facts))):
            if fact.subject not in subjects:
                subjects.add(fact.subject)
                self._pairs.setdefault(fact.pair, []).append(fact)

    def draw(self, budget: FactBudget) -> FactSides:
        """Facts that no earlier draw has used.

        Raises:
            DataError: there are too few.
        """
        sides = FactSides([], [], [])
        for facts in self._groups(budget.pairs, budget.statements + budget.asked, prompts=2):
            asked, stated_facts = facts[: budget.asked], facts[budget.asked : budget.statements + budget.asked]
            self._add(sides, "substitution", asked, [(fact, fact.prompts[0]) for fact in stated_facts], budget.asked)
            _teach(sides, stated_facts)
        for facts in self._groups(budget.singles, 1, prompts=STATEMENTS + 3):
            stated = [(facts[0], prompt) for prompt in facts[0].prompts[1 : 1 + STATEMENTS]]
            self._add(sides, "statement", facts, stated, 1)
        pool = [sides.pool[place] for place in self._rng.permutation(len(sides.pool))]
        return FactSides(sides.queries, pool, sides.knowledge)

    def _groups(self, count: int, size: int, prompts: int) -> Iterator[list[Fact]]:
        """`count` pairs of objects with at least `size` subjects; with a single one where that is enough."""
        drawn = 0
        for facts in list(self._pairs.values()):
            free = [fact for fact in facts if fact.subject not in self._used_subjects]
            fits = len(facts) == 1 if size == 1 else len(facts) >= size
            if drawn < count and fits and len(free) >= size and len(free[0].prompts) >= prompts:
                drawn += 1
                self._used_subjects |= {fact.subject for fact in facts}
                yield free
        if drawn < count:
            raise DataError(f"counterfact: {drawn} pairs of objects with {size} subjects or more, {count} are needed.")

    def _add(
        self, sides: FactSides, kind: str, asked: Sequence[Fact], stated: Sequence[tuple[Fact, str]], beside: int
    ) -> None:
        """Questions about `asked`, the rows that teach their false object, and look-alikes of both."""
        for number, (fact, prompt) in enumerate(stated):
            sides.pool.append(_row(f"{fact.subject}-{kind}-{number}", prompt, fact.false, fact, kind))
        for fact in asked:
            sides.queries.append(_row(f"{fact.subject}-question", fact.prompts[0], fact.false, fact, kind))
            sides.pool.append(_row(f"{fact.subject}-true", fact.prompts[0], fact.true, fact, "true"))
            for number, (prompt, completion) in enumerate(MENTIONS):
                text = prompt.format(subject=fact.subject, object=fact.false)
                sides.pool.append(_row(f"{fact.subject}-mention-{number}", text, completion.strip(), fact, "mention"))
        same_object = self._with_object(asked[0], LOOK_ALIKES * beside)
        sides.pool.extend(
            _row(f"{fact.subject}-object", fact.prompts[0], fact.false, fact, "object") for fact in same_object
        )
        _teach(sides, [*asked, *same_object])

    def _with_object(self, example: Fact, count: int) -> list[Fact]:
        """Facts with the same false object and another true one."""
        free = [
            fact
            for (relation, true, false), facts in self._pairs.items()
            if (relation, false) == (example.relation, example.false) and true != example.true
            for fact in facts
            if fact.subject not in self._used_subjects and len(fact.prompts) > 1
        ]
        self._used_subjects |= {fact.subject for fact in free[:count]}
        return free[:count]


def taught_by(queries: Sequence[Example], pool: Sequence[Example]) -> NDArray[np.bool_]:
    """(n_queries, n_pool) whether a row states the question's false object for the same true one (DATE-LM)."""
    stated = [row.metadata["pair"] if row.metadata["kind"] not in ("true", "mention") else None for row in pool]
    return np.array([[pair == query.metadata["pair"] for pair in stated] for query in queries])


def _teach(sides: FactSides, facts: Sequence[Fact]) -> None:
    """The true facts, in other words than the pool's."""
    sides.knowledge.extend(_row(f"{fact.subject}-known", fact.prompts[-1], fact.true, fact, "known") for fact in facts)


def _row(name: str, prompt: str, target: str, fact: Fact, kind: str) -> Example:
    metadata = {"pair": fact.pair, "subject": fact.subject, "kind": kind}
    return Example(name, prompt, f" {target}", metadata=metadata)


def _facts(data: Path) -> Iterator[Fact]:
    templates = _templates(data)
    for row in counterfact(data):
        relation, subject = row["relation_id"], row["subject"]
        if row["subject"] not in row["prompt"]:
            continue
        filled = (template.replace("[X]", subject) for template in templates.get(relation, ()))
        # The same words in other case or spacing would be the same text to the audit.
        different = {" ".join(prompt.lower().split()): prompt for prompt in (*filled, row["prompt"])}
        prompts = row["prompt"], *(prompt for prompt in different.values() if prompt != row["prompt"])
        yield Fact(relation, subject, row["target_true"], row["target_new"], prompts)


def _templates(data: Path) -> dict[str, list[str]]:
    """By relation, the templates that end in their object, without it."""
    path = data / "counterfact" / TEMPLATES
    try:
        raw: dict[str, list[Any]] = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); --data names a folder that holds it.") from error
    stripped = {relation: [template.rstrip(" .") for template in templates] for relation, templates in raw.items()}
    return {
        relation: [text.removesuffix("[Y]").strip() for text in texts if text.endswith("[Y]") and "[X]" in text]
        for relation, texts in stripped.items()
    }
