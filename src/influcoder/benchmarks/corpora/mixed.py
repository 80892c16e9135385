"""A mixed pool for a pretrained decoder: eleven genres, Dolly, and false facts among look-alikes.

Questions are of the same kinds, and tasks of BIG-Bench Hard, of which the pool has none. Only texts that the decoder
reads whole are drawn: otherwise an answer's length would depend on where it is cut.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.benchmarks.corpora.corpora import (
    bbh,
    benign_chat,
    counterfact,
    different_facts,
    dolly,
    question_of,
    shuffled,
    statements_of,
)
from influcoder.benchmarks.corpora.problem import Problem, Split, train_and_validation
from influcoder.data.examples import Example

Fits = Callable[[Sequence[Example]], Sequence[bool]]
"""which of some examples a decoder reads whole"""
GENRE, DOLLY, FACT, TASK = "genre", "dolly", "fact", "task"
ROWS = {GENRE: 10, DOLLY: 40, FACT: 30}
"""pool rows of each genre and of Dolly; and facts, of three rows each"""
QUERIES = {GENRE: 2, DOLLY: 4, FACT: 20, TASK: 24}
"""questions of each genre, and of each other kind"""
LEARNT = 3
"""how many times as many of each there are to learn from"""
UNLABELLED = 9
"""and how many times as many a slow student labels for a fast one"""


def mixed_problem(data: Path, fits: Fits, seed: int = 0) -> Problem:
    """A pool of 240 rows, 70 questions, and three times as many to learn from, none of them shared.

    Args:
        data: the folder of the corpora: bbh, dolly, benign_chat and counterfact.

    Raises:
        DataError: a corpus is missing or too small.
    """
    rng = np.random.default_rng(seed)
    texts = _texts(data, fits, rng)
    facts = iter(different_facts(counterfact(data), ROWS[FACT] * (1 + LEARNT), rng))
    test, learnt = (_drawn(texts, facts, times, rng) for times in (1, LEARNT))
    train, validation = train_and_validation(*learnt)
    kinds = [str(query.metadata["kind"]) for query in test.queries]
    unlabelled = _drawn(texts, iter(()), UNLABELLED, rng)
    return Problem(test.pool, test.queries, kinds, train=train, validation=validation, unlabelled=unlabelled)


def _texts(data: Path, fits: Fits, rng: np.random.Generator) -> list[tuple[str, Iterator[Example]]]:
    """(kind, texts that fit in random order) of each genre, of Dolly and of the tasks."""
    genres = defaultdict(list)
    for row in benign_chat(data):
        genres[row.metadata["genre"]].append(row)
    sources = [(DOLLY, dolly(data)), (TASK, bbh(data)), *((GENRE, rows) for rows in genres.values())]
    texts = []
    for kind, examples in sources:
        fitting = [example for example, fit in zip(examples, fits(examples), strict=True) if fit]
        texts.append((kind, iter([_of_kind(example, kind) for example in shuffled(fitting, None, kind, rng)])))
    return texts


def _drawn(
    texts: Sequence[tuple[str, Iterator[Example]]],
    facts: Iterator[dict[str, Any]],
    times: int,
    rng: np.random.Generator,
) -> Split:
    """`times` as many questions and pool rows as a problem has, as far as there are any, shuffled."""
    stated = list(islice(facts, ROWS[FACT] * times))
    queries = [_of_kind(question_of(fact), FACT) for fact in stated[: QUERIES[FACT] * times]]
    pool = [_of_kind(row, FACT) for fact in stated for row in statements_of(fact)]
    for kind, source in texts:
        queries += islice(source, QUERIES[kind] * times)
        pool += islice(source, ROWS.get(kind, 0) * times)
    return Split(*([side[place] for place in rng.permutation(len(side))] for side in (queries, pool)))


def _of_kind(example: Example, kind: str) -> Example:
    return replace(example, metadata={**example.metadata, "kind": kind})
