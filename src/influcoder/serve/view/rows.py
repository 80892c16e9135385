"""Which rows are shown: the ends of the ranking, or a page of all that pass the filters."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.row_filter import Filter, Rows
from influcoder.errors import ConfigError
from influcoder.maths.arrays import Floats
from influcoder.maths.order import first
from influcoder.serve.view.address import Address
from influcoder.serve.view.answers import Answer
from influcoder.serve.view.pool import PoolPicture

PAGE = 25


@dataclass(frozen=True, slots=True)
class Pill:
    """A filter of the chain.

    Attributes:
        text: as it stands in the URL.
        shown: as it is read: a region by its name.
        left: rows that are left after it; None where it cannot be used.
        trouble: why not.
    """

    text: str
    shown: str
    left: int | None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """The rows that pass the filters.

    Attributes:
        mask: (n,) of every row; None where no filter holds.
        count: how many rows pass.
    """

    pills: list[Pill]
    mask: NDArray[np.bool_] | None
    count: int


def filtered(address: Address, answer: Answer | None, pool: PoolPicture, marks: Mapping[int, str]) -> Left:
    """The rows that pass the filters of a URL; a filter that cannot be used passes all, and says why."""
    if not address.where:
        return Left([], None, len(pool.index))
    rows = Rows(
        pool.columns,
        None if answer is None else answer.scores,
        None if answer is None else answer.ranks,
        None if pool.regions is None else pool.regions.of_row,
        pool.places,
        marks,
    )
    question = None if answer is None else (answer.prompt, answer.completion)
    left, pills = np.ones(len(pool.index), bool), []
    for text in address.where:
        try:
            condition = Filter.parse(text)
            holds = partial(rows.holds, condition)
            left &= holds() if condition.name == "mark" else pool.masks.get((text, question), holds)
            pills.append(Pill(text, _read(condition, pool), int(left.sum())))
        except ConfigError as error:
            pills.append(Pill(text, text, None, str(error)))
    return Left(pills, left, int(left.sum()))


def _read(condition: Filter, pool: PoolPicture) -> str:
    if condition.name == "region" and pool.regions is not None and condition.value.isdecimal():
        number = int(condition.value) - 1
        if 0 <= number < len(pool.regions.names):
            return f"region {condition.comparison} {pool.regions.names[number]}"
    if condition.name == "map":
        return "inside the box on the map" if condition.comparison == "=" else "outside the box on the map"
    return f"{condition.name} {condition.comparison} {condition.value}"


def ends(answer: Answer, left: Left, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The `count` rows of highest score and of lowest, the strongest of each first."""
    if left.mask is None:
        return first(answer.scores, count), first(-answer.scores, count)
    rows = np.flatnonzero(left.mask)
    scores = answer.scores[rows]
    return rows[first(scores, count)], rows[first(-scores, count)]


def page_of(address: Address, answer: Answer | None, left: Left, pool: PoolPicture) -> tuple[NDArray[np.int64], int]:
    """The rows of a page of the table, and how many pages there are."""
    order = _order(address.sort, answer, pool)
    if left.mask is not None:
        order = order[left.mask[order]]
    pages = max(1, -(-len(order) // PAGE))
    start = (min(address.page, pages) - 1) * PAGE
    return order[start : start + PAGE], pages


def _order(sort: str, answer: Answer | None, pool: PoolPicture) -> NDArray[np.int64]:
    if sort == "-length":
        return np.argsort(-pool.columns.lengths, kind="stable")
    if answer is None or sort == "row":
        return np.arange(len(pool.index))
    return answer.order if sort == "-score" else answer.order[::-1]


def scores_of(answer: Answer | None, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Scores and ranks of some rows; zeros without a question."""
    if answer is None:
        return np.zeros(len(rows), np.float32), np.zeros(len(rows), np.int64)
    return answer.scores[rows], answer.ranks[rows]
