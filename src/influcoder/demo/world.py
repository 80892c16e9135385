"""The demo's examples and who may see which."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from influcoder.data.examples import Example
from influcoder.data.reading import read_examples

SPLITS = ("train", "validation", "test")


def assets() -> Path:
    """The folder of the demo's decoder and data."""
    return Path(str(files("influcoder.demo")))


@dataclass(frozen=True, slots=True)
class DemoWorld:
    """The pool the demo decoder was fine-tuned on, and the queries about it.

    Every example's metadata says its `split`, its `kind` (dolly, planted, lookalike-truth,
    lookalike-object; task, fact) and the `fact` it belongs to.
    """

    queries: list[Example]
    pool: list[Example]

    @classmethod
    def load(cls) -> "DemoWorld":
        data = assets() / "data"
        return cls(read_examples(data / "queries.jsonl.gz"), read_examples(data / "pool.jsonl.gz"))

    def rows(self, side: str, *, split: str | None = None, kind: str | None = None) -> NDArray[np.int64]:
        """Row numbers of the examples of a split and kind."""
        examples = getattr(self, side)
        return np.array(
            [
                row
                for row, one in enumerate(examples)
                if (split is None or one.metadata["split"] == split) and (kind is None or one.metadata["kind"] == kind)
            ],
            dtype=np.int64,
        )

    def part(self, of: int) -> "DemoWorld":
        """One in `of` facts, tasks and rows of each split; a fact keeps its question and every row about it."""

        def drawn(side: str, kind: str) -> set[int]:
            return {int(row) for split in SPLITS for row in self.rows(side, split=split, kind=kind)[::of]}

        def kept(side: str, kind: str) -> list[Example]:
            rows = drawn(side, kind)
            examples = enumerate(getattr(self, side))
            return [one for row, one in examples if row in rows or one.metadata["fact"] in facts]

        facts = {self.queries[row].metadata["fact"] for row in drawn("queries", "fact")}
        return DemoWorld(kept("queries", "task"), kept("pool", "dolly"))


def planted_for(queries: Sequence[Example], pool: Sequence[Example]) -> NDArray[np.bool_]:
    """(n_queries, n_pool) whether a pool row states the very fact a query asks for."""
    states = [one.metadata["fact"] if one.metadata["kind"] == "planted" else None for one in pool]
    return np.array(
        [[stated is not None and stated == query.metadata["fact"] for stated in states] for query in queries]
    )
