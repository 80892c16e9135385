"""The demo's examples as a problem."""

import numpy as np

from influcoder.benchmarks.corpora.problem import Problem, Split
from influcoder.data.examples import Example
from influcoder.demo.world import DemoWorld

FACT_QUERIES, TASK_QUERIES, PLAIN_ROWS = 20, 60, 320
SMALL = 6
"""queries of each kind of the small problem"""


def demo_problem(small: bool = False) -> Problem:
    """The demo's test split: rows that state false facts, their look-alikes and Dolly rows; facts and tasks asked.

    Students learn from its training split.
    """
    world = DemoWorld.load()

    def side(name: str, split: str, kind: str | None = None) -> list[Example]:
        return [getattr(world, name)[row] for row in world.rows(name, split=split, kind=kind)]

    queries = side("queries", "test", "fact")[:FACT_QUERIES], side("queries", "test", "task")[:TASK_QUERIES]
    plain = side("pool", "test", "dolly")[:PLAIN_ROWS]
    about = [row for row in side("pool", "test") if row.metadata["kind"] != "dolly"]
    train, validation = (Split(side("queries", split), side("pool", split)) for split in ("train", "validation"))
    if small:
        queries, plain = (queries[0][:SMALL], queries[1][:SMALL]), plain[:16]
        stated = {query.metadata["fact"] for query in queries[0]}
        about = [row for row in about if row.metadata["fact"] in stated]
        train, validation = _drawn(train, 96), _drawn(validation, 32)
    asked = [*queries[0], *queries[1]]
    return Problem([*about, *plain], asked, [query.metadata["kind"] for query in asked], train, validation)


def _drawn(split: Split, count: int) -> Split:
    rng = np.random.default_rng(0)
    drawn = [[side[row] for row in np.sort(rng.permutation(len(side))[:count])] for side in split]
    return Split(*drawn)
