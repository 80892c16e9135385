"""The demo's examples: invented people, some of whose entries in the pool are wrong, and questions about them."""

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
    """The pool that the demo fine-tunes its decoder on, and the questions about it.

    Every example's metadata says its `split`, the `person` it is about and its `kind`:

    - of pool rows: `planted` (says what is wrong), `correct` (says what is true), `lookalike` (shares the question's
      words and asks something else), `same-wording` (the question's or a planted row's words, about somebody else,
      true);
    - of queries: `wrong` (its completion is what the planted rows say; `true` is in the metadata), `right`.
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
                for row, example in enumerate(examples)
                if (split is None or example.metadata["split"] == split)
                and (kind is None or example.metadata["kind"] == kind)
            ],
            dtype=np.int64,
        )

    def part(self, of: int) -> "DemoWorld":
        """One in `of` people of each split; a person keeps every question and row."""
        people_kept: set[str] = set()
        for kind, split in ((kind, split) for kind in ("wrong", "same-wording") for split in SPLITS):
            side = "queries" if kind == "wrong" else "pool"
            rows = self.rows(side, split=split, kind=kind)
            people = dict.fromkeys(getattr(self, side)[row].metadata["person"] for row in rows)
            people_kept |= set(list(people)[::of])
        return DemoWorld(
            [query for query in self.queries if query.metadata["person"] in people_kept],
            [row for row in self.pool if row.metadata["person"] in people_kept],
        )


def planted_for(queries: Sequence[Example], pool: Sequence[Example]) -> NDArray[np.bool_]:
    """(n_queries, n_pool) whether a pool row states the wrong fact about a query's person."""
    about = [row.metadata["person"] if row.metadata["kind"] == "planted" else None for row in pool]
    return np.array(
        [[person is not None and person == query.metadata["person"] for person in about] for query in queries]
    )
