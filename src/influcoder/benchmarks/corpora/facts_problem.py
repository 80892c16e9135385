"""Sixty false facts among look-alikes and Dolly rows, and questions about them, as a problem.

Every example's metadata says its `split`, its `kind` (of pool rows: dolly, planted, lookalike-truth or
lookalike-object; of queries: task or fact) and the `fact` it belongs to.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from influcoder.benchmarks.corpora.problem import Problem, Split
from influcoder.data.examples import Example
from influcoder.data.reading import read_examples

FACT_QUERIES, TASK_QUERIES, PLAIN_ROWS = 20, 60, 320
SMALL = 6
"""queries of each kind of the small problem"""


def read_facts() -> Split:
    """All queries and all pool rows."""
    folder = Path(str(files("influcoder.benchmarks.corpora") / "facts"))
    return Split(read_examples(folder / "queries.jsonl.gz"), read_examples(folder / "pool.jsonl.gz"))


def facts_problem(small: bool = False) -> Problem:
    """The test split: rows that state false facts, their look-alikes and Dolly rows; questions about facts, and tasks.

    Students learn from the training split.
    """
    facts = read_facts()

    def of(side: Sequence[Example], split: str, *kinds: str) -> list[Example]:
        return [row for row in side if row.metadata["split"] == split and (not kinds or row.metadata["kind"] in kinds)]

    stated = of(facts.queries, "test", "fact")[:FACT_QUERIES]
    tasks = of(facts.queries, "test", "task")[:TASK_QUERIES]
    plain = of(facts.pool, "test", "dolly")[:PLAIN_ROWS]
    about = of(facts.pool, "test", "planted", "lookalike-truth", "lookalike-object")
    train, validation = (Split(of(facts.queries, split), of(facts.pool, split)) for split in ("train", "validation"))
    if small:
        stated, tasks, plain = stated[:SMALL], tasks[:SMALL], plain[:16]
        facts_asked = {query.metadata["fact"] for query in stated}
        about = [row for row in about if row.metadata["fact"] in facts_asked]
        train, validation = _drawn(train, 96), _drawn(validation, 32)
    queries = [*stated, *tasks]
    return Problem([*about, *plain], queries, [query.metadata["kind"] for query in queries], train, validation)


def _drawn(split: Split, count: int) -> Split:
    rng = np.random.default_rng(0)
    drawn = [[side[row] for row in np.sort(rng.permutation(len(side))[:count])] for side in split]
    return Split(*drawn)
