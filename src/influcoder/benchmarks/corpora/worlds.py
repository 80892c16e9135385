"""What benchmarks are run on."""

from collections.abc import Sequence

import numpy as np

from influcoder.benchmarks.methods.bench import Sides, World
from influcoder.data.examples import Example
from influcoder.demo.world import DemoWorld

FACT_QUERIES, TASK_QUERIES, PLAIN_ROWS = 20, 60, 320
QUICK = 8


def demo_world(quick: bool = False) -> World:
    """The demo's test split: rows that state false facts, their look-alikes and Dolly rows; facts and tasks asked.

    Students learn from its training split.
    """
    demo = DemoWorld.load()

    def side(which: str, split: str) -> list[Example]:
        return [getattr(demo, which)[row] for row in demo.rows(which, split=split)]

    queries, pool = side("queries", "test"), side("pool", "test")
    facts = [one for one in queries if one.metadata["kind"] == "fact"][:FACT_QUERIES]
    tasks = [one for one in queries if one.metadata["kind"] == "task"][:TASK_QUERIES]
    about = [one for one in pool if one.metadata["kind"] != "dolly"]
    plain = [one for one in pool if one.metadata["kind"] == "dolly"][:PLAIN_ROWS]
    train: Sides = side("queries", "train"), side("pool", "train")
    validation: Sides = side("queries", "validation"), side("pool", "validation")
    if quick:
        facts, tasks, about, plain = facts[:6], tasks[:6], _of(facts[:6], about), plain[:16]
        train, validation = (_first(*train, 12 * QUICK), _first(*validation, 4 * QUICK))
    asked = [*facts, *tasks]
    return World([*about, *plain], asked, [one.metadata["kind"] for one in asked], train, validation)


def own_world(pool: Sequence[Example], queries: Sequence[Example]) -> World:
    """A user's own examples: no training split, so no students."""
    return World(pool, queries, ["query"] * len(queries))


def _of(facts: Sequence[Example], rows: Sequence[Example]) -> list[Example]:
    wanted = {one.metadata["fact"] for one in facts}
    return [one for one in rows if one.metadata["fact"] in wanted]


def _first(queries: Sequence[Example], pool: Sequence[Example], count: int) -> Sides:
    rng = np.random.default_rng(0)
    kept = [[side[row] for row in np.sort(rng.permutation(len(side))[:count])] for side in (queries, pool)]
    return kept[0], kept[1]
