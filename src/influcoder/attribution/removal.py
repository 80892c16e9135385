"""Which rows to take out of a pool before a model is trained again: those that a search blames, and controls."""

from collections.abc import Sequence

import numpy as np

from influcoder.attribution.search import search
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.evaluation.scorers import Tfidf
from influcoder.extras import require
from influcoder.indexes.index import Index
from influcoder.teachers.teacher import Teacher

CONTROLS = ("random", "tfidf")
FOUND, NAMED = "found", "named"
"""conditions: without the rows that a search blames, or without rows that the user names"""


def first_rows(rankings: Sequence[Sequence[int]], count: int) -> list[int]:
    """The first rows of several rankings in turn: rank 1 of every query, then rank 2, until there are `count`.

    A row that several queries rank is taken once.

    >>> first_rows([[5, 1, 2], [5, 3, 4]], 3)
    [5, 1, 3]
    """
    in_turn = dict.fromkeys(row for rank in zip(*rankings, strict=True) for row in rank)
    return list(in_turn)[:count]


def removals(
    index: Index,
    queries: Sequence[Example],
    count: int,
    *,
    controls: Sequence[str] = CONTROLS,
    seeds: Sequence[int] = (0,),
    verify: int = 0,
    teacher: Teacher | None = None,
) -> dict[str, list[list[int]]]:
    """The rows to train without, `count` of them: by `FOUND` and each control, a list of row numbers for each seed.

    The rows of the search and of `tfidf` are the same for every seed. Each seed draws random rows from those that the
    search does not blame.

    Args:
        verify, teacher: as in `influcoder.attribution.search.search`.
    """
    hits = search(index, queries, k=count, verify=verify, teacher=teacher)
    blamed = first_rows([[hit.row for hit in of_query] for of_query in hits], count)
    return {FOUND: [blamed] * len(seeds), **control_rows(index, queries, blamed, controls, seeds)}


def control_rows(
    index: Index,
    queries: Sequence[Example],
    blamed: Sequence[int],
    controls: Sequence[str] = CONTROLS,
    seeds: Sequence[int] = (0,),
) -> dict[str, list[list[int]]]:
    """As many rows as a search blames, by each control: others at random, drawn by each seed, or the first by words."""
    chosen = {}
    for control in controls:
        if control == "random":
            not_blamed = np.setdiff1d(np.arange(len(index)), blamed)
            drawn = (np.random.default_rng(seed).permutation(not_blamed) for seed in seeds)
            chosen[control] = [rows[: len(blamed)].tolist() for rows in drawn]
        else:
            scores = Tfidf().score(queries, list(index.examples()))
            order = np.argsort(-scores, axis=1, kind="stable")[:, : len(blamed)]
            chosen[control] = [first_rows(order.tolist(), len(blamed))] * len(seeds)
    return chosen


def rows_of_ids(index: Index, ids: Sequence[str]) -> list[int]:
    """The rows that have some ids, in their order, each once.

    Raises:
        ConfigError: a row is not there.
    """
    places = {name: row for row, name in enumerate(index.ids)}
    unknown = [name for name in ids if name not in places]
    if unknown:
        raise ConfigError(
            f"--rows: {len(unknown)} of {len(ids)} ids are of no row of {index.folder}, {unknown[0]!r} first. Name "
            "rows by the ids that the index has."
        )
    return list(dict.fromkeys(places[name] for name in ids))


def refuse_removal(index: Index, count: int, controls: Sequence[str], verify: int = 0, *, named: bool = False) -> None:
    """Refuse what cannot be taken out of an index.

    Args:
        named: whether the user named the rows.

    Raises:
        ConfigError: no rows or nearly all of them, an unknown control, or fewer rows to verify than to remove.
        MissingDependency: a control needs a package that is not there.
    """
    unknown = [control for control in controls if control not in CONTROLS]
    if unknown or len(set(controls)) < len(controls):
        raise ConfigError(f"--controls {','.join(controls)}: expected {' or '.join(CONTROLS)} or both, each once.")
    if "tfidf" in controls:
        require("sklearn")
    flag = f"--rows names {count} rows" if named else f"--remove is {count}"
    if not 1 <= count < len(index):
        raise ConfigError(
            f"{flag}, and {index.folder} has {len(index)} rows. Remove at least one, and leave some to train on."
        )
    if verify and verify < count:
        raise ConfigError(f"--verify is {verify}, expected at least {count}: as many candidates as --remove takes out.")
    if "random" in controls and 2 * count > len(index):
        raise ConfigError(
            f"{flag}, and {index.folder} has {len(index)} rows: there are not as many others to draw at random. Remove "
            "at most half, or leave the control random out."
        )
